"""What a GGUF file says of a tokenizer. llama.cpp cuts a text by patterns that it knows by name; a tokenizer with another one is refused."""

from __future__ import annotations

from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.text.tokenizer.spelling import Plain, flat
from bloomery.text.tokenizer.splits import Gpt2, Gpt4
from bloomery.text.tokenizer.tokenizer import Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # llama.cpp's numbers for what a token is
INSTEAD = "write the hub's files instead"


def gguf_tokenizer(tokenizer: Tokenizer, vocab_size: int, template: str) -> dict[str, Any]:
    """The keys of a tokenizer and their values.

    Text that is normalised to NFC is cut as it stands there: llama.cpp does no normalising.

    Args:
        tokenizer: byte pairs (`ByteBPE`), or another of that kind.
        vocab_size: of the model; ids that the tokenizer does not have are called unused.
        template: how conversations are put, in Jinja, control tokens spelled as the tokenizer does.

    Raises:
        ConfigError: llama.cpp would give other ids for the same text.
    """
    plain = tokenizer.plain
    model = plain["model"]
    if model["type"] != "BPE" or not any(step["type"] == "ByteLevel" for step in _steps(plain)):
        raise ConfigError(f"the tokenizer is no BPE over bytes but {model['type']}, which cannot be written as GGUF here; {INSTEAD}")
    tokens, kinds = [f"[PAD{i}]" for i in range(vocab_size)], [UNUSED] * vocab_size
    for token, i in model["vocab"].items():
        tokens[i], kinds[i] = token, NORMAL
    for added in plain["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    said = {
        "model": "gpt2", "pre": _pattern(plain), "tokens": tokens, "token_type": kinds, "merges": pairs,
        "bos_token_id": tokenizer.begin, "eos_token_id": tokenizer.end, "padding_token_id": tokenizer.pad,
        "add_bos_token": True, "add_eos_token": False, "chat_template": template,
    }  # fmt: skip
    return {f"tokenizer.{'' if name == 'chat_template' else 'ggml.'}{name}": value for name, value in said.items() if value != []}


def _steps(plain: Plain) -> list[Plain]:
    return list(flat(plain["pre_tokenizer"], "pretokenizers"))


def _pattern(plain: Plain) -> str:
    """llama.cpp's name for how the tokenizer cuts a text."""
    normalisers = [step["type"] for step in flat(plain["normalizer"], "normalizers")]
    steps, whole = _steps(plain), plain["model"].get("ignore_merges", False)
    names = {Gpt4().pattern: "llama-bpe" if whole else "smaug-bpe", Gpt4(max_digits=1).pattern: "qwen2", Gpt2().pattern: "gpt-2"}
    bytes_ = steps[-1]
    cut = Gpt2().pattern if bytes_.get("use_regex", True) and len(steps) == 1 else None
    if len(steps) == 2 and steps[0]["type"] == "Split" and steps[0]["behavior"] == "Isolated":
        cut = steps[0]["pattern"].get("Regex")
    if cut not in names or bytes_["type"] != "ByteLevel" or bytes_["add_prefix_space"] or set(normalisers) - {"NFC"}:
        raise ConfigError("the tokenizer cuts or normalises a text in a way for which llama.cpp has no name; ByteBPE(split=Gpt4()), "
                          f"Gpt4(max_digits=1) and Gpt2() have one; or {INSTEAD}")  # fmt: skip
    return names[cut]
