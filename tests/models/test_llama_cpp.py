"""llama.cpp itself reads the files that are written for it: the same ids and log-probabilities, of every family.

It comes with `pip install --no-deps xllamacpp`, which is in no extra, as nothing else needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_gguf import WRITTEN
from tests.models.test_parity import random_model

from bloomery.models import Model
from bloomery.models.gguf import save_gguf
from bloomery.nn import SequenceLayout
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer
from bloomery.text.tokenizer.gguf import gguf_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
llama_cpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install --no-deps xllamacpp")

TOKENIZER = Tokenizer.train(["The iron is hot, isn't it? 12 times it's been hot.\n\n"] * 9, vocab_size=300)
TEXTS = ("The iron is hot", " it's 123456 times\thot — ähm, 火!\n\n  Isn't it?", "é")
WRITES_T = {"logit_bias": [[TOKENIZER.encode("T")[0], 100.0]]}
"""It tells no probabilities of an end or of half a character. What it tells is from before this."""
CLOSE = {"gpt2": 1e-2, "gemma": 1e-2, "gemma2": 1e-2, "gemma3": 1e-2}
"""Largest difference of log-probabilities for those whose GELU llama.cpp reads from a table in half precision."""


def server_of(path: Path) -> Any:
    """llama.cpp with a model, on one thread, its keys and values in fp32."""
    asked = llama_cpp.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_parallel, asked.warmup = str(path), 64, 1, False
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    asked.cache_type_k = asked.cache_type_v = llama_cpp.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = llama_cpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama_cpp.Server(asked)


def told(server: Any, prompt: str | list[int]) -> tuple[dict[int, float], int]:
    """What it says of the token after a prompt: log-probabilities of the likeliest, and how many tokens the prompt has for it."""
    asked = {"prompt": prompt, "n_predict": 1, "n_probs": 40, "temperature": 0.0, "cache_prompt": False, **WRITES_T}
    answer = server.handle_completions(asked)
    (said,) = answer["choices"][0]["logprobs"]["content"]
    return {one["id"]: one["logprob"] for one in said["top_logprobs"]}, answer["usage"]["prompt_tokens"]


def ours(model: Model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]), SequenceLayout.rows(1, len(ids)))[0, -1].float().log_softmax(-1)


@pytest.mark.parametrize("name", WRITTEN)
def test_it_says_what_the_model_says(name, tmp_path):
    config = WRITTEN[name].replace(vocab_size=TOKENIZER.vocab_size)
    model = random_model(config)
    fields = gguf_tokenizer(TOKENIZER, config.vocab_size, TOKENIZER.spell(ChatTemplate().jinja))
    save_gguf(model, config, tmp_path / "model.gguf", "f32", {"general.name": "small", **fields})
    server, bound = server_of(tmp_path / "model.gguf"), CLOSE.get(name.partition(",")[0], 1e-4)
    for text in TEXTS:
        ids = [TOKENIZER.begin, *TOKENIZER.encode(text)]
        expected = ours(model, ids)
        for prompt in (ids, text):  # it cuts a text as we do, and begins it
            found, length = told(server, prompt)
            assert length == len(ids)
            assert len(found) == 40
            assert max(abs(logprob - float(expected[token])) for token, logprob in found.items()) < bound


def test_it_puts_a_conversation_as_we_do(tmp_path):
    config = WRITTEN["llama"].replace(vocab_size=TOKENIZER.vocab_size, max_seq_len=64)
    model = random_model(config)
    fields = gguf_tokenizer(TOKENIZER, config.vocab_size, TOKENIZER.spell(ChatTemplate().jinja))
    save_gguf(model, config, tmp_path / "model.gguf", "f32", {"general.name": "small", **fields})
    talk = [{"role": "user", "content": "Is it hot?"}, {"role": "assistant", "content": "It is."}, {"role": "user", "content": "How hot?"}]
    ids = ChatTemplate().render(talk, TOKENIZER, add_generation_prompt=True).ids
    answer = server_of(tmp_path / "model.gguf").handle_chat_completions(
        {"messages": talk, "max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 5, **WRITES_T}
    )
    assert answer["usage"]["prompt_tokens"] == len(ids)
    (said,) = answer["choices"][0]["logprobs"]["content"]
    expected = ours(model, ids)
    assert all(one["logprob"] == pytest.approx(float(expected[one["id"]]), abs=1e-4) for one in said["top_logprobs"])
