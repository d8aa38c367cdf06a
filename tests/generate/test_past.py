"""Caches that keep what was read in fewer bits say nearly what they said; as many bits, the same."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generate.peers import MODEL, PROMPTS, TOKENIZER

from bloomery.generate import Beam, Decoding, FloatPast, Int8Past, Past, Writer
from bloomery.models import AdaptedConfig, LlamaConfig, T5Config, TransformerConfig
from bloomery.nn import AttentionConfig, GatedConfig, LatentAttentionConfig, Mamba2Config, SequenceLayout
from bloomery.nn.adapters import PrefixTuning

LLAMA = LlamaConfig(vocab_size=48, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=40)
IDS = torch.tensor([PROMPTS[2], PROMPTS[5]])


def of(*mixers) -> TransformerConfig:
    return TransformerConfig(vocab_size=48, d_model=32, n_layers=2, max_seq_len=40, mixers=mixers, feed_forwards=(GatedConfig(d_ff=48),))


MODELS = {
    "keys and values": LLAMA, "latents": of(LatentAttentionConfig(n_heads=4, d_latent=16, head_dim=8, rope_dim=4)),
    "states and windows": of(Mamba2Config(head_dim=16, d_state=8), AttentionConfig(n_heads=4, window=5)),
    "a prefix": AdaptedConfig(base=LLAMA, adapter=PrefixTuning(n_tokens=3)),
}  # fmt: skip
PASTS = {FloatPast(precision="float32"): 1e-5, FloatPast(precision="bfloat16"): 0.03, FloatPast(precision="float16"): 0.01, Int8Past(): 0.03}
BUILT = {name: config.build(seed=1).eval() for name, config in MODELS.items()}


@pytest.mark.parametrize("past", PASTS, ids=str)
@pytest.mark.parametrize("name", MODELS)
@given(cuts=st.sets(st.integers(1, 13), min_size=1))
@settings(max_examples=2)
def test_reading_in_pieces_is_reading_at_once(name, past, cuts):
    model = BUILT[name]
    whole = model(IDS, SequenceLayout.rows(*IDS.shape))
    cache, read = past.applied(copy.copy(model)).new_cache(2, 14), []
    for start, end in pairwise([0, *sorted(cuts), 14]):
        read.append(model(IDS[:, start:end], SequenceLayout(torch.arange(start, end).expand(2, -1)), cache))
    off = (torch.cat(read, dim=1) - whole).abs().max()
    assert off <= PASTS[past] * whole.abs().max()
    assert off > 0 or PASTS[past] == 1e-5


@pytest.mark.parametrize("past", PASTS, ids=str)
def test_likeliest_texts_are_mostly_those_that_they_were(past: Past):
    model = past.applied(copy.copy(MODEL))
    for decoding in (Decoding(max_new_tokens=12), Decoding(by=Beam(n_beams=2), max_new_tokens=6)):
        wanted, told = (Writer(one, TOKENIZER, decoding).write(PROMPTS[:30]) for one in (MODEL, model))
        alike = sum(a.tokens == b.tokens for a, b in zip(wanted, told, strict=True))
        assert alike == 30 if PASTS[past] == 1e-5 else alike >= 20


def test_what_is_kept_takes_less_memory():
    taken = {past: sum(slots.nbytes for slots in past.applied(copy.copy(MODEL)).new_cache(4, 64).slots) for past in PASTS}
    whole = sum(slots.nbytes for slots in MODEL.new_cache(4, 64).slots)
    assert list(taken.values()) == [whole, whole // 2, whole // 2, whole * (8 + 4) // 32]  # heads are 8 wide here


def test_a_passage_stays_as_it_is_and_what_is_written_about_it_does_not():
    config = T5Config(vocab_size=48, d_model=16, n_layers=1, n_heads=2, d_ff=32)
    cache = Int8Past().applied(config.build(seed=0)).new_cache(2, 10)
    assert sum(slots.nbytes for slots in cache.slots) == 2 * 2 * 10 * 2 * (config.head_dim + 4)
