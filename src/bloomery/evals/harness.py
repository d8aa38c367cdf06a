"""Models of ours for lm-evaluation-harness: in process "bloomery", behind `bloomery serve` "bloomery-served", once this module is imported.

    bloomery lm-eval --model bloomery --model_args path=store/Train/chat-… --tasks arc_easy    the harness's own command line
    bloomery lm-eval --model bloomery-served --model_args path=store/Train/chat-…,model=chat,base_url=http://127.0.0.1:8000/v1/completions …

    from lm_eval import simple_evaluate
    simple_evaluate("bloomery", model_args="path=store/Train/chat-…", tasks=["arc_easy"])
    simple_evaluate(Harnessed(model, tokenizer), tasks=["arc_easy"])

Texts begin with `<|begin|>`, as documents do when they are learnt. The harness's own "local-completions" reaches `bloomery serve`, too, but
texts begin there as the tokenizer that it is given has it: what it sends as ids is read as it is.

Source: Gao et al. (2021), "A framework for few-shot language model evaluation", version 0.4's interface `TemplateLM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import TemplateLM  # pyrefly: ignore[missing-import]
from lm_eval.api.registry import register_model  # pyrefly: ignore[missing-import]
from lm_eval.models.openai_completions import LocalCompletionsAPI  # pyrefly: ignore[missing-import]

from bloomery.core.errors import ConfigError
from bloomery.evals.likelihood import TOKENS_AT_ONCE, Pair, likelihoods, parted, told_texts
from bloomery.generate import Decoding, Greedy, Random, Writer
from bloomery.models import causal, read_config, read_model
from bloomery.models.model import CausalModel
from bloomery.store import Artifact
from bloomery.text.tokenizer import Tokenizer

LONGEST = 256  # new tokens, where a task says nothing


@register_model("bloomery")
class Harnessed(TemplateLM):
    """A decoder that the harness can ask.

    Args:
        model: in the state in which models are asked.
        tokenizer: its own.
        tokens_at_once: of a batch; changes nothing but speed and memory.
        begins: token ids that every context begins with; `<|begin|>` unless given.
    """

    def __init__(
        self, model: CausalModel, tokenizer: Tokenizer, tokens_at_once: int = TOKENS_AT_ONCE, begins: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.asked, self.spells, self.tokens_at_once = model, tokenizer, tokens_at_once
        self.begins = [tokenizer.begin] if begins is None else list(begins)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None) -> Harnessed:
        """From what the harness is told in `model_args`: path, the folder of an artifact that holds a model; tokens_at_once. And from its
        option `--device`; its batch size, in rows, is passed over."""
        unknown = ["no path"] if "path" not in arg_dict else [name for name in arg_dict if name not in ("path", "tokens_at_once")]
        if unknown:
            raise ConfigError(f"model_args={dict(arg_dict)} has {unknown[0]}; give path=FOLDER, of an artifact that holds a model, and if you "
                              "like tokens_at_once=NUMBER")  # fmt: skip
        artifact, device = Artifact.open(Path(arg_dict["path"])), (additional_config or {}).get("device") or "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            device = "cpu"  # the harness says cuda:0 where nobody has said anything
        artifact.verify("model/", "tokenizer/")
        model, tokenizer = read_model(artifact.path / "model")[1].to(device).eval(), Tokenizer.load(artifact.path / "tokenizer/tokenizer.json")
        return cls(causal(model), tokenizer, int(arg_dict.get("tokens_at_once", TOKENS_AT_ONCE)))

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> Harnessed:
        """The same, of "path=…,tokens_at_once=…"."""
        return cls.create_from_arg_obj(dict(part.split("=", 1) for part in arg_string.split(",") if "=" in part), additional_config)

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts."""
        return self.spells.end

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.spells.begin

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache of requests."""
        return "bloomery"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """A text as ids, begun as contexts are unless it is said not to be."""
        return [*(self.begins if add_special_tokens is not False else []), *self.spells.encode(string)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts; see `told_texts`."""
        return told_texts(self.asked, self.spells, [request.args[0] for request in requests])

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any) -> list[tuple[float, bool]]:
        """log p of continuations, and whether each of their tokens is the likeliest. The beginning of what is too long is cut off."""
        pairs = [Pair(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        return [tuple(found) for found in likelihoods(self.asked, pairs, self.tokens_at_once)]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What is written to each prompt, up to one of the strings that a task says end it; greedily unless it says otherwise."""
        found = []
        for request in requests:
            prompt, asked = request.args
            until = asked.get("until") or []
            temperature = float(asked.get("temperature", 0.0)) if asked.get("do_sample", "temperature" in asked) else 0.0
            decoding = Decoding(
                by=Random(temperature=temperature) if temperature > 0 else Greedy(), stops=(until,) if isinstance(until, str) else tuple(until),
                max_new_tokens=int(asked.get("max_gen_toks", asked.get("max_tokens", LONGEST))),
            )  # fmt: skip
            room = max(1, self.asked.config.max_seq_len - decoding.max_new_tokens)
            found.append(Writer(self.asked, self.spells, decoding).write([self.tok_encode(prompt)[-room:]])[0].text)
        return found


@register_model("bloomery-served")
class OverHttp(LocalCompletionsAPI):
    """A model behind `bloomery serve`, asked with the ids that `bloomery` is asked with in process.

    Args:
        path: the folder of the artifact that is served, for its tokenizer and what it reads at most; no weight of it is read.
        base_url: of its completions, http://127.0.0.1:8000/v1/completions.
        more: what the harness's "local-completions" takes: model, num_concurrent, timeout …
    """

    def __init__(self, path: str, base_url: str, **more: Any) -> None:
        artifact = Artifact.open(Path(path))
        self.spells = Tokenizer.load(artifact.checked("tokenizer/tokenizer.json"))
        longest = read_config(artifact.checked("model/config.json").parent).max_seq_len
        super().__init__(base_url=base_url, tokenizer_backend=None, **{"max_length": longest} | more)
        self.tokenizer, self.tokenized_requests, self.add_bos_token = self.spells, True, True

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts."""
        return self.spells.end

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.spells.begin

    @property
    def eos_string(self) -> None:
        """None that texts could end with: the server ends them by their token."""
        return None

    def tok_encode(self, string: Any, left_truncate_len: int | None = None, add_special_tokens: bool = False, **kwargs: Any) -> Any:
        """A text as ids, or several; begun as contexts are where that is asked for."""
        if not isinstance(string, str):
            return [self.tok_encode(one, left_truncate_len, add_special_tokens) for one in string]
        ids = [*([self.spells.begin] if add_special_tokens else []), *self.spells.encode(string)]
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A context, begun, and what may follow it."""
        pair = parted(self.spells, context, continuation)
        return list(pair.before), list(pair.after)
