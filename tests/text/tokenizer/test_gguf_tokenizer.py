"""What a GGUF file says of a tokenizer."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.tokenizer import ByteBPE, Tokenizer, Unigram
from bloomery.text.tokenizer.gguf import CONTROL, NORMAL, UNUSED, gguf_tokenizer
from bloomery.text.tokenizer.splits import Gpt2, Gpt4, Whole

TEXTS = ["The iron is hot, and the smith is not. Is it 1400 degrees?"] * 5


def tokenizer(model=None) -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=300, model=model)


def test_every_id_has_its_token_and_what_it_is():
    ours = tokenizer()
    said = gguf_tokenizer(ours, ours.vocab_size + 2, "template")
    tokens, kinds = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == len(set(tokens)) == ours.vocab_size + 2
    assert [i for i, kind in enumerate(kinds) if kind == CONTROL] == sorted(ours.controls)
    assert kinds[-3:] == [NORMAL, UNUSED, UNUSED]
    assert all(tokens[i] == spelled for i, spelled in ours.controls.items())
    assert [said[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")] == [ours.begin, ours.end, ours.pad]
    assert (said["tokenizer.chat_template"], said["tokenizer.ggml.add_bos_token"]) == ("template", True)


def test_merges_make_the_tokens():
    said = gguf_tokenizer(tokenizer(), 300, "")
    tokens = set(said["tokenizer.ggml.tokens"])
    assert said["tokenizer.ggml.merges"]
    assert all(merge.replace(" ", "") in tokens and len(merge.split(" ")) == 2 for merge in said["tokenizer.ggml.merges"])


@pytest.mark.parametrize(("split", "name"), [(Gpt4(), "smaug-bpe"), (Gpt4(max_digits=1), "qwen2"), (Gpt2(), "gpt-2")], ids=str)
def test_how_a_text_is_cut_has_a_name_there(split, name):
    assert gguf_tokenizer(tokenizer(ByteBPE(split=split)), 300, "")["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize("model", [Unigram(), ByteBPE(split=Whole()), ByteBPE(split=Gpt4(max_digits=2))], ids=str)
def test_what_would_give_other_ids_there_is_refused(model):
    with pytest.raises(ConfigError, match="write the hub's files instead"):
        gguf_tokenizer(tokenizer(model), 300, "")
