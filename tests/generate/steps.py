"""Compiled steps beside the models that they are of; run in a process of its own, since a compiler cannot read what checks shapes in tests.

    python -m tests.generate.steps BACKEND [MODELS]
"""

from __future__ import annotations

import copy
import sys
from functools import partial

import torch
from tests.generate.peers import MODEL, PROMPTS, TOKENIZER

from bloomery.generate import CompiledStep, CompiledWeights, Decoding, Engine, Int8Past, Job, Ngram, Random, Writer, compiled, job_by
from bloomery.models import CausalModel, Gpt2Config, LlamaConfig, ModelConfig, TransformerConfig
from bloomery.nn import AttentionConfig, GatedConfig, LatentAttentionConfig, SequenceLayout

TIME, PROMPT = 36, 29
LLAMA = LlamaConfig(vocab_size=48, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=40)


def of(*mixers) -> TransformerConfig:
    return TransformerConfig(vocab_size=48, d_model=32, n_layers=2, max_seq_len=40, mixers=mixers, feed_forwards=(GatedConfig(d_ff=48),))


MODELS: tuple[ModelConfig, ...] = (
    LLAMA, Gpt2Config(vocab_size=48, d_model=32, n_layers=2, n_heads=4, max_seq_len=40), of(AttentionConfig(n_heads=4, window=5)),
    of(LatentAttentionConfig(n_heads=4, d_latent=16, head_dim=8, rope_dim=4)),
)  # fmt: skip


def steps_say_what_models_say(config: ModelConfig, kept: CompiledStep | CompiledWeights) -> None:
    """For one row, and for three at places of their own."""
    model = config.build(seed=3).eval()
    changed = kept.applied(copy.deepcopy(model))
    for rows in (1, 3):
        tokens = torch.randint(0, 48, (rows, TIME), generator=torch.Generator().manual_seed(rows))
        wanted, cache = model(tokens, SequenceLayout.rows(rows, TIME)), changed.new_cache(rows, TIME)
        changed(tokens[:, :PROMPT], SequenceLayout.rows(rows, PROMPT), cache)
        for step in range(TIME - PROMPT):
            places = torch.tensor([[PROMPT + step - back] for back in range(rows)])  # to read a token again changes nothing
            features = changed.features(tokens.gather(1, places), SequenceLayout(places), cache)
            last = wanted.gather(1, places[..., None].expand(-1, -1, wanted.shape[-1]))[:, 0]
            torch.testing.assert_close(changed.unembed(features[:, -1]), last, atol=1e-5, rtol=1e-5)


def engine_writes(model: CausalModel, pool: int | None) -> list[list[int]]:
    """Texts, the last of which are read on alone."""
    there = Engine(model, {TOKENIZER.end}, TOKENIZER.vocab_size, rows=2, pool=pool)
    jobs: list[Job] = [job_by(Decoding(max_new_tokens=8 + 4 * i), TOKENIZER, PROMPTS[i]) for i in range(3)]
    for job in jobs:
        there.add(job)
    while there.live or there.waiting:
        there.step()
    return [job.tokens for job in jobs]


def texts_are_what_they_were() -> None:
    """By a writer, with guesses and without, and by an engine, whatever keeps what was read."""
    model = CompiledWeights().applied(copy.deepcopy(MODEL))
    for decoding in (Decoding(max_new_tokens=12), Decoding(by=Random(top_p=0.9), max_new_tokens=12, draft=Ngram())):
        wanted, found = (Writer(one, TOKENIZER, decoding).write(PROMPTS[:3], [0, 1, 2], batch_rows=1) for one in (MODEL, model))
        assert wanted == found, (wanted, found)
    for pool in (None, 200):
        assert engine_writes(model, pool) == engine_writes(MODEL, pool)
    narrow, coded = Int8Past().applied(copy.copy(MODEL)), Int8Past().applied(copy.deepcopy(MODEL))
    assert engine_writes(CompiledWeights().applied(coded), None) == engine_writes(narrow, None)


if __name__ == "__main__":
    compiled.torch.compile = partial(torch.compile, backend=sys.argv[1], fullgraph=True)  # in one graph, or not at all
    compiled.REACH = 8
    with torch.inference_mode():
        for config in MODELS[: int(sys.argv[2])] if len(sys.argv) > 2 else MODELS:
            for kept in (CompiledStep(), CompiledWeights()):
                torch.compiler.reset()
                steps_say_what_models_say(config, kept)
        if len(sys.argv) == 2:
            torch.compiler.reset()
            texts_are_what_they_were()
