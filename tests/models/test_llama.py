from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bloomery.core.errors import ConfigError
from bloomery.core.identity import content_key
from bloomery.models import LlamaConfig
from bloomery.nn import FanInInit, NormalInit, SequenceLayout

TINY = LlamaConfig(vocab_size=50, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=32, max_seq_len=64)
PAIRS = "and rotary positions turn pairs of features"


@st.composite
def configs(draw: st.DrawFn) -> LlamaConfig:
    n_kv_heads = draw(st.integers(1, 3))
    n_heads = n_kv_heads * draw(st.integers(1, 2))
    given_sizes = draw(st.booleans())
    sizes = {"head_dim": 2 * draw(st.integers(1, 4)), "d_ff": draw(st.integers(1, 40))} if given_sizes else {}
    return LlamaConfig(
        vocab_size=draw(st.integers(1, 60)), d_model=n_heads * 2 * draw(st.integers(1, 4)), n_layers=draw(st.integers(1, 3)), n_heads=n_heads,
        n_kv_heads=n_kv_heads, max_seq_len=16, tie_embeddings=draw(st.booleans()),
        init=draw(st.sampled_from([NormalInit(), NormalInit(std=0.1), FanInInit(gain=0.5)])), **sizes,
    )


@given(configs())
@settings(max_examples=25, deadline=None)
def test_n_params_is_what_the_model_has(config):
    assert config.n_params == sum(p.numel() for p in config.build(0).parameters())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 10}, "LlamaConfig.n_heads=10 does not divide d_model=384; 8 or 12 would"),
        ({"n_heads": 6, "n_kv_heads": 4}, "LlamaConfig.n_kv_heads=4 does not divide n_heads=6; 3 or 6 would"),
        ({"n_heads": 384}, f"LlamaConfig.n_heads=384 makes head_dim=1, which is odd, {PAIRS}; 192 heads would do"),
        ({"n_heads": 6, "head_dim": 7}, f"LlamaConfig.head_dim=7 is odd, {PAIRS}; 8 would do"),
        ({"n_heads": 6, "dmodel": 3}, "LlamaConfig has no field 'dmodel'; did you mean 'd_model'?"),
        ({"n_heads": 0}, "LlamaConfig.n_heads=0: input should be greater than 0"),
    ],
)
def test_impossible_sizes_are_refused_with_the_nearest_remedy(fields, message):
    with pytest.raises(ConfigError) as caught:
        LlamaConfig(**{"vocab_size": 8, "d_model": 384, "n_layers": 6, **fields})
    assert str(caught.value) == message


def test_sizes_left_out_follow_the_others_also_after_replace():
    config = LlamaConfig(vocab_size=8192, d_model=384, n_layers=6, n_heads=6)
    assert (config.head_dim, config.n_kv_heads, config.d_ff) == (64, 6, 1024)
    wider = config.replace(d_model=768, n_heads=8)
    assert (wider.head_dim, wider.n_kv_heads, wider.d_ff) == (96, 8, 2048)
    assert config.replace(n_kv_heads=3).replace(n_heads=12, head_dim=32).n_kv_heads == 3


def test_saying_what_follows_anyway_changes_no_identity():
    short = LlamaConfig(vocab_size=9, d_model=24, n_layers=1, n_heads=4)
    long = LlamaConfig(vocab_size=9, d_model=24, n_layers=1, n_heads=4, n_kv_heads=4, head_dim=6, d_ff=64, rope_theta=10_000.0)
    assert content_key(short) == content_key(long)
    assert content_key(short) != content_key(short.replace(n_kv_heads=2))
    assert LlamaConfig(vocab_size=9, d_model=100, n_layers=1, n_heads=3, head_dim=32).identity()["head_dim"] == 32


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    one = TINY.build(7)
    torch.manual_seed(2)
    same, other = TINY.build(7), TINY.build(8)
    pairs = list(zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for (_, a), b, _ in pairs)
    assert all(not torch.equal(a, c) for (name, a), _, c in pairs if "norm" not in name)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    TINY.build(7)
    assert torch.equal(before, torch.get_rng_state())


def test_residual_projections_start_smaller():
    config = LlamaConfig(vocab_size=500, d_model=128, n_layers=8, n_heads=4, tie_embeddings=False)
    stds = {name: p.std().item() for name, p in config.build(0).named_parameters() if p.ndim == 2}
    for name, std in stds.items():
        expected = 0.02 / 4 if name.endswith(("mixer.out.weight", "ff.down.weight")) else 0.02
        assert std == pytest.approx(expected, rel=0.05), name


def test_flops_are_those_that_torch_counts():
    config, time = TINY.replace(tie_embeddings=False), 16
    model, tokens = config.build(0), torch.zeros(3, time, dtype=torch.long)
    everyone = SequenceLayout(torch.arange(time).expand(3, time), causal=False)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(tokens, everyone)
    forward = counter.get_total_flops() / tokens.numel()
    masked_half = config.n_layers * 2 * config.n_heads * config.head_dim * time  # torch counts the whole square of scores
    assert config.flops_per_token(time) == pytest.approx(3 * (forward - masked_half))


def test_packed_logits_equal_each_document_alone():
    model, tokens = TINY.build(3), torch.randint(0, 50, (2, 20), generator=torch.Generator().manual_seed(0))
    segments = torch.tensor([[1] * 9 + [2] * 6 + [3] * 5, [1] * 15 + [0] * 5])
    packed = model(tokens, SequenceLayout.packed(segments))
    for row, start, end in ((0, 0, 9), (0, 9, 15), (0, 15, 20), (1, 0, 15)):
        alone = model(tokens[row : row + 1, start:end], SequenceLayout.rows(1, end - start))[0]
        torch.testing.assert_close(packed[row, start:end], alone, atol=1e-5, rtol=0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_cached_logits_equal_uncached_for_any_cut(pieces, batch):
    model, time = TINY.replace(init=FanInInit(embedding=1.0)).build(3), sum(pieces)
    tokens = torch.randint(0, 50, (batch, time), generator=torch.Generator().manual_seed(time))
    cache, read, start = model.new_cache(batch, time), [], 0
    for n in pieces:
        read.append(model(tokens[:, start : start + n], SequenceLayout(torch.arange(start, start + n).expand(batch, n)), cache))
        start += n
    torch.testing.assert_close(torch.cat(read, 1), model(tokens, SequenceLayout.rows(batch, time)), atol=2e-5, rtol=0)


def test_logits_are_the_unembedded_features():
    for tied in (True, False):
        model, layout = TINY.replace(tie_embeddings=tied).build(1), SequenceLayout.rows(1, 5)
        tokens = torch.arange(5)[None]
        assert torch.equal(model(tokens, layout), model.features(tokens, layout) @ model.head.matrix.T)
        assert (model.head.matrix is model.embedding.weight) == tied


ONE_GRAPH = """
import torch
from bloomery.models import LlamaConfig
from bloomery.nn import SequenceLayout
model = LlamaConfig(vocab_size=50, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=32, max_seq_len=64).build(3)
tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(0))

def gradients(forward, layout):
    model.zero_grad()
    torch.nn.functional.cross_entropy(forward(tokens, layout).flatten(0, 1), tokens.flatten()).backward()
    return [p.grad.clone() for p in model.parameters()]

for layout in (SequenceLayout.rows(2, 12), SequenceLayout.packed(torch.tensor([[1] * 5 + [2] * 7] * 2))):
    compiled = torch.compile(model.forward, fullgraph=True, backend="aot_eager")  # raises where the graph would break
    for a, b in zip(gradients(model.forward, layout), gradients(compiled, layout), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
"""


@pytest.mark.slow
def test_a_training_step_is_one_graph_with_the_same_gradients():
    """In a process of its own, since the shape checks of tests are no part of the model and cannot be traced."""
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
