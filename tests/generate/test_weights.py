"""Matrices that are kept some other way say what they said, to within what that way rounds off."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generate.peers import MODEL, PROMPTS, TOKENIZER

from bloomery.core.errors import ConfigError
from bloomery.generate import (
    Bfloat16Weights,
    Decoding,
    Engine,
    Int4Weights,
    Int8Weights,
    Nf4Weights,
    PackedWeights,
    Random,
    Weights,
    Writer,
    job_by,
)
from bloomery.generate.weights import KeptHead, KeptLinear
from bloomery.models import Gpt2Config, TransformerConfig
from bloomery.nn import GatedConfig, LatentAttentionConfig, SequenceLayout
from bloomery.nn.linear import Linear

EVERY = (PackedWeights(), Bfloat16Weights(), Int8Weights(), Int4Weights(group=32), Nf4Weights())
every_kind = pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.kind())
HALF = 2.0**-8  # of the last bit that bfloat16 has, beside the number
TEXTS = torch.tensor([PROMPTS[i] for i in range(2, 60, 3)])


def allowed(kind: Weights, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How far each product may be from that of the matrix as it was, (n, rows)."""
    magnitude = x.abs() @ weight.abs().T
    if isinstance(kind, PackedWeights):
        return 1e-6 * magnitude + 1e-6
    rounded = 3 * HALF * magnitude + 1e-6  # of x, of W and of the result
    if isinstance(kind, Bfloat16Weights):
        return rounded
    if isinstance(kind, Int8Weights):
        steps, step = weight.abs().amax(1) / 127, x.abs().amax(1, keepdim=True) / 127
        return 1.001 * (0.5 * steps * x.abs().sum(1, keepdim=True) + 0.5 * step * (weight.abs() + 0.5 * steps[:, None]).sum(1)) + 1e-6
    if isinstance(kind, Int4Weights):
        groups = weight.unflatten(1, (-1, kind.group))
        least, greatest = groups.aminmax(dim=-1)
        step = (greatest - least) / 15
        each = 0.5 * step * (1 + 2 * HALF) + HALF * (16 * step + torch.maximum(least.abs(), greatest.abs()))
        return torch.einsum("ngk,rg->nr", x.abs().unflatten(1, (-1, kind.group)), each) + rounded
    assert isinstance(kind, Nf4Weights)
    blocks = weight.unflatten(1, (-1, kind.levels.length(weight.shape[1])))
    widest = 0.5 * (1 - 0.6961928009986877)  # between the two levels that are farthest apart
    return torch.einsum("nbk,rb->nr", x.abs().unflatten(1, blocks.shape[1:]), widest * blocks.abs().amax(-1)) + 1e-5 * magnitude + 1e-6


@every_kind
@given(
    n=st.integers(1, 40), rows=st.integers(1, 50), groups=st.integers(1, 4), scale=st.sampled_from([1e-3, 1.0, 50.0]), seed=st.integers(0, 999),
    biased=st.booleans(),
)
@settings(max_examples=15)
def test_products_are_within_what_is_rounded_off(kind, n, rows, groups, scale, seed, biased):
    random = torch.Generator().manual_seed(seed)
    weight, x = (scale * torch.randn(k, 32 * groups, generator=random) for k in (rows, n))
    weight[:, 3] *= 9  # a column that stands out
    x[0] = 0
    bias = torch.randn(rows, generator=random) if biased else None
    matrix = kind.kept(weight)
    assert matrix is not None
    off = (matrix.product(x, bias) - torch.nn.functional.linear(x, weight, bias)).abs()
    slack = 0 if bias is None else HALF * bias.abs() if isinstance(kind, Bfloat16Weights | Int4Weights) else 1e-5 * bias.abs() + 1e-6
    assert (off <= allowed(kind, weight, x) + slack).all()
    assert (matrix.dense() - weight).abs().le(allowed(kind, weight, torch.eye(32 * groups)).T).all()


@every_kind
def test_a_model_says_nearly_the_same_and_its_cache_does_too(kind):
    model = kind.applied(copy.deepcopy(MODEL))
    layout = SequenceLayout.rows(*TEXTS.shape)
    with torch.inference_mode():
        wanted, told = MODEL(TEXTS, layout).log_softmax(-1), model(TEXTS, layout).log_softmax(-1)
        cache = model.new_cache(len(TEXTS), TEXTS.shape[1])
        apart = [model(TEXTS[:, i : i + 3], SequenceLayout(layout.positions[:, i : i + 3]), cache) for i in range(0, TEXTS.shape[1], 3)]
    off = (told.exp() * (told - wanted)).sum(-1).mean()
    assert off < {PackedWeights: 1e-6, Bfloat16Weights: 1e-3, Int8Weights: 1e-3}.get(type(kind), 0.3)
    assert off > 0 or isinstance(kind, PackedWeights)
    near = 1e-5 if isinstance(kind, PackedWeights | Nf4Weights) else 0.1  # a last bit may turn the rounding of what is multiplied
    assert (torch.cat(apart, 1).log_softmax(-1) - told).abs().max() < near


@every_kind
def test_every_map_and_the_head_are_kept_so_and_nothing_else(kind):
    model = kind.applied(Gpt2Config(vocab_size=50, d_model=64, n_layers=2, n_heads=4).build(0))
    assert isinstance(model.head, KeptHead)
    assert sum(isinstance(module, KeptLinear) for module in model.modules()) == 8
    assert not any(type(module) is Linear for module in model.modules())
    assert {name for name, p in model.named_parameters() if p.dim() == 2} == {"embedding.weight", "places.table.weight"}
    assert model.blocks[0].mixer.qkv.matrix.shape == (192, 64)


def test_what_a_row_becomes_does_not_depend_on_those_beside_it():
    x, matrix = torch.randn(40, 64), Int8Weights().kept(torch.randn(30, 64))
    together = matrix.product(x, None)
    assert all(torch.equal(matrix.product(x[i : i + 1], None)[0], together[i]) for i in range(40))


def test_packed_weights_write_the_same_texts():
    model = PackedWeights().applied(copy.deepcopy(MODEL))
    for decoding in (Decoding(max_new_tokens=16), Decoding(by=Random(top_p=0.9), max_new_tokens=16)):
        wanted = Writer(MODEL, TOKENIZER, decoding).write(PROMPTS[:12], range(12))
        assert Writer(model, TOKENIZER, decoding).write(PROMPTS[:12], range(12)) == wanted
        engine = Engine(model, {TOKENIZER.end}, TOKENIZER.vocab_size, rows=8)
        jobs = [job_by(decoding, TOKENIZER, prompt, seed) for seed, prompt in enumerate(PROMPTS[:12])]
        for job in jobs:
            engine.add(job)
        while engine.live or engine.waiting:
            engine.step()
        assert [job.tokens for job in jobs] == [one.tokens for one in wanted]


def test_latents_keep_the_matrix_that_is_folded():
    mixer = LatentAttentionConfig(n_heads=2, head_dim=16, rope_dim=8, value_dim=16, d_latent=32)
    config = TransformerConfig(vocab_size=48, d_model=32, n_layers=1, max_seq_len=64, mixers=(mixer,), feed_forwards=(GatedConfig(d_ff=64),))
    model = PackedWeights().applied(config.build(0))
    assert type(model.blocks[0].mixer.up) is Linear
    assert isinstance(model.blocks[0].mixer.out, KeptLinear)


def test_rows_that_no_group_divides_stay_as_they_are():
    model = Int4Weights(group=256).applied(copy.deepcopy(MODEL))
    assert not any(isinstance(module, KeptLinear | KeptHead) for module in model.modules())


def test_other_models_and_groups_are_refused():
    with pytest.raises(ConfigError, match=r"on cpu in torch\.bfloat16; leave it out"):
        Int8Weights().applied(copy.deepcopy(MODEL).bfloat16())
    with pytest.raises(ConfigError, match=r"Int4Weights\.group=48"):
        Int4Weights(group=48)
