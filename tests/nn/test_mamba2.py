"""The scan in chunks against the recurrence token by token; the Mamba-2 layer against its equations; how it starts, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.draws import normal, segments
from torch.utils.flop_counter import FlopCounterMode

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import Mamba2, Mamba2Config, NormalInit, SequenceLayout, Shared
from bloomery.nn.init import initialise
from bloomery.nn.scan import StateCache, chunked_scan, decay_matrix, step_scan

D_MODEL = 24


def layer(config: Mamba2Config, seed: int = 0) -> Mamba2:
    config.check_model(D_MODEL, 64)
    mixer = config.build(D_MODEL, 64, Shared())
    initialise(mixer, NormalInit(std=0.3), n_layers=1, seed=seed)
    return mixer


@st.composite
def scans(draw: st.DrawFn) -> tuple[list[torch.Tensor], torch.Tensor | None, torch.Tensor | None, int]:
    batch, time, groups, each = (draw(st.integers(1, high)) for high in (2, 23, 2, 3))
    d_state, head_dim, chunk = (draw(st.integers(1, high)) for high in (5, 4, 26))
    heads = draw(st.sampled_from([1, groups * each]))
    queries, keys = (normal(batch, time, groups, d_state, seed=seed) / math.sqrt(d_state) for seed in (1, 2))
    log_decay = -(normal(batch, time, heads, seed=4).abs() * draw(st.sampled_from([0.0, 0.1, 1.0, 100.0])))
    inputs = [queries, keys, normal(batch, time, groups * each, head_dim), log_decay]
    packed = draw(st.booleans())
    state = normal(batch, groups * each, d_state, head_dim, seed=5) if not packed and draw(st.booleans()) else None
    return inputs, draw(segments(batch, time)) if packed else None, state, chunk


def values_and_gradients(scan, inputs, segments, state, **chunk):
    leaves = [x.clone().requires_grad_() for x in (*inputs, *([] if state is None else [state]))]
    outputs, end = scan(*leaves[:4], segments, leaves[4] if state is not None else None, **chunk)
    ((outputs * normal(*outputs.shape, seed=6)).mean() + (end * normal(*end.shape, seed=7)).mean()).backward()
    return outputs, end, *(leaf.grad for leaf in leaves)


@settings(max_examples=60, deadline=None)
@given(scans())
def test_the_scan_in_chunks_is_the_recurrence_in_values_and_gradients(case):
    inputs, numbers, state, chunk = case
    by_step = values_and_gradients(step_scan, inputs, numbers, state)
    by_chunk = values_and_gradients(chunked_scan, inputs, numbers, state, chunk=chunk)
    for fast, naive in zip(by_chunk, by_step, strict=True):
        torch.testing.assert_close(fast, naive, atol=1e-5, rtol=0)


def test_a_long_decay_does_not_round_away_a_short_one():
    log_decay = torch.tensor([-3e4, -3e4, -0.001, -0.25])
    decay = decay_matrix(log_decay, None)
    assert decay[3, 2].item() == pytest.approx(math.exp(-0.25), rel=1e-6)
    assert decay[3, 1].item() == pytest.approx(math.exp(-0.251), rel=1e-6)
    assert decay.triu(1).abs().max() == 0


def by_the_book(mixer: Mamba2, x: torch.Tensor, config: Mamba2Config) -> torch.Tensor:
    """One document, (time, d_model), as the equations have it, number by number over time, heads and taps."""
    inner, keys, heads = config.expand * D_MODEL, config.n_groups * config.d_state, mixer.n_heads
    z, conv_in, delta = mixer.into(x).split((inner, inner + 2 * keys, heads), dim=-1)
    taps = mixer.conv.weight.view(-1, config.conv_width)
    state, outputs = torch.zeros(heads, config.d_state, config.head_dim), []
    for t in range(x.shape[0]):
        convolved = sum(taps[:, config.conv_width - 1 - back] * conv_in[t - back] for back in range(min(t + 1, config.conv_width)))
        values, b, c = F.silu(convolved + (0 if mixer.conv.bias is None else mixer.conv.bias)).split((inner, keys, keys))
        dt = F.softplus(delta[t] + mixer.dt_bias).clamp(*(config.dt_limit or (0, None)))
        y = []
        for h in range(heads):
            group = slice(h // (heads // config.n_groups) * config.d_state, (h // (heads // config.n_groups) + 1) * config.d_state)
            value = values[h * config.head_dim : (h + 1) * config.head_dim]
            state[h] = torch.exp(-dt[h] * mixer.a_log[h].exp()) * state[h] + dt[h] * torch.outer(b[group], value)
            y.append(c[group] @ state[h] + mixer.skip[h] * value)
        gated = (torch.cat(y) * F.silu(z[t])).view(config.n_groups, -1)
        normed = gated / (gated.square().mean(-1, keepdim=True) + config.norm_eps).sqrt()
        outputs.append(mixer.out(normed.flatten() * mixer.norm.weight))
    return torch.stack(outputs)


@torch.no_grad()
@pytest.mark.parametrize("config", [
    Mamba2Config(head_dim=8, d_state=5, n_groups=3, chunk=4), Mamba2Config(expand=1, head_dim=24, d_state=3, conv_width=1, conv_bias=False),
    Mamba2Config(head_dim=12, d_state=4, n_groups=2, conv_width=6, bias=True, dt_limit=(0.01, 0.05), norm_eps=0.1, chunk=7),
], ids=str)  # fmt: skip
def test_the_layer_is_its_equations(config):
    mixer, x = layer(config), normal(1, 13, D_MODEL)
    for parameter in mixer.parameters():
        if parameter.ndim == 1:
            parameter += 0.3 * normal(*parameter.shape)
    torch.testing.assert_close(mixer(x, SequenceLayout.rows(1, 13))[0], by_the_book(mixer, x[0], config), atol=1e-5, rtol=0)


def test_it_starts_as_published():
    mixer = layer(Mamba2Config(expand=64, head_dim=2, d_state=4, dt_range=(0.001, 0.1), dt_floor=0.002))  # 768 heads
    steps, rates = F.softplus(mixer.dt_bias.detach()), mixer.a_log.detach().exp()
    assert 0.002 * (1 - 1e-3) < steps.min() < steps.max() < 0.1 * (1 + 1e-3)
    assert steps.median().item() == pytest.approx(0.01, rel=0.2)  # the middle of a log-uniform range
    assert 1 <= rates.min() < rates.max() <= 16
    assert rates.mean().item() == pytest.approx(8.5, rel=0.1)
    assert (mixer.skip == 1).all()
    assert mixer.conv.weight.abs().max() <= 0.5


def test_what_a_parameter_starts_with_depends_on_its_own_stream_alone():
    mixers = [layer(Mamba2Config(head_dim=8, d_state=d_state)) for d_state in (4, 6)]
    assert torch.equal(mixers[0].dt_bias, mixers[1].dt_bias)
    assert torch.equal(mixers[0].a_log, mixers[1].a_log)
    assert not torch.equal(mixers[0].a_log, layer(Mamba2Config(head_dim=8, d_state=4), seed=1).a_log)
    u = (mixers[0].a_log.exp() - 1) / 15, (F.softplus(mixers[0].dt_bias).log() - math.log(0.001)) / math.log(100)
    assert not torch.allclose(*u, atol=1e-3)


@pytest.mark.parametrize(("config", "message"), [
    (Mamba2Config(head_dim=9), r"Mamba2Config\.head_dim=9 does not divide expand · d_model = 2 · 24 = 48; 8 or 12 would"),
    (Mamba2Config(head_dim=8, n_groups=4), r"Mamba2Config\.n_groups=4 does not divide the 6 heads that head_dim=8 makes; 3 or 6 would"),
])  # fmt: skip
def test_sizes_that_do_not_fit_the_model_are_refused_by_name(config, message):
    with pytest.raises(ConfigError, match=message):
        TransformerConfig(vocab_size=10, d_model=24, n_layers=1, mixers=(config,), feed_forwards=(None,))


def test_ranges_that_are_none_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"Mamba2Config\.dt_range=\(0\.1, 0\.01\)"):
        Mamba2Config(dt_range=(0.1, 0.01))
    for limit in ((0.5, 0.5), (-1.0, 1.0)):
        with pytest.raises(ConfigError, match=r"Mamba2Config\.dt_limit"):
            Mamba2Config(dt_limit=limit)


def test_an_encoder_cannot_be_built_of_it():
    with pytest.raises(ConfigError, match="Mamba2Config only sees what comes before a token"):
        TransformerConfig(vocab_size=10, d_model=24, n_layers=1, mixers=(Mamba2Config(head_dim=8),), feed_forwards=(None,), causal=False)


def positions(start: int, time: int) -> torch.Tensor:
    return torch.arange(start, start + time)[None]


def test_a_state_does_not_go_back_and_takes_no_packed_rows():
    mixer = layer(Mamba2Config(head_dim=8, d_state=4))
    cache = mixer.new_cache(1, 16, torch.float32, torch.device("cpu"))
    mixer(normal(1, 5, D_MODEL), SequenceLayout(positions(0, 5)), cache)
    with pytest.raises(AssertionError, match="goes on where it stopped"):
        mixer(normal(1, 1, D_MODEL), SequenceLayout(positions(4, 1)), cache)
    with pytest.raises(AssertionError, match="packed rows hold several"):
        mixer(normal(1, 4, D_MODEL), SequenceLayout.packed(torch.tensor([[1, 1, 2, 2]])), cache)


def test_a_row_may_end_pieces_before_the_others():
    mixer, x = layer(Mamba2Config(head_dim=8, d_state=4, chunk=3)), normal(2, 12, D_MODEL)
    cache = mixer.new_cache(2, 16, torch.float32, torch.device("cpu"))
    for start in (0, 4, 8):  # the second row has 2 tokens: in the later pieces it is padding from the start
        layout = SequenceLayout(positions(start, 4).expand(2, 4), torch.stack((torch.ones(4), positions(start, 4)[0] < 2)).long())
        mixer(x[:, start : start + 4], layout, cache)
    assert isinstance(cache, StateCache)
    assert cache.read.tolist() == [12, 2]
    last = mixer(x[:, 2:3], SequenceLayout(torch.tensor([[12], [2]])), cache)[1]
    torch.testing.assert_close(last[0], mixer(x[1:, :3], SequenceLayout.rows(1, 3))[0, 2], atol=1e-5, rtol=0)


def test_a_cache_is_as_large_after_any_length_and_holds_its_state_exactly():
    mixer = layer(Mamba2Config(head_dim=8, d_state=4)).bfloat16()
    small, large = (mixer.new_cache(2, capacity, torch.bfloat16, torch.device("cpu")) for capacity in (1, 10_000))
    assert small.state.shape == large.state.shape == (2, 6, 4, 8)
    y = mixer(normal(2, 5, D_MODEL).bfloat16(), SequenceLayout.rows(2, 5), small)
    assert y.dtype == torch.bfloat16
    assert small.state.dtype == torch.float32


def test_mixed_precision_stays_near():
    mixer, x = layer(Mamba2Config(head_dim=8, d_state=16, chunk=8)), normal(2, 40, D_MODEL)
    exact = mixer(x, SequenceLayout.rows(2, 40))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(x, SequenceLayout.rows(2, 40))
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


def test_operations_are_counted_as_they_are_done_but_for_the_half_of_a_chunk_that_is_masked():
    config = Mamba2Config(head_dim=8, d_state=16, n_groups=2, chunk=16)
    mixer, time = layer(config), 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(normal(1, time, D_MODEL), SequenceLayout.rows(1, time))
    inner, keys, chunks = 2 * D_MODEL, 2 * 16, time // config.chunk
    masked = 2.0 * (keys + inner) * config.chunk / 2 * time
    handed_on = 2.0 * (chunks + 1) ** 2 * inner * config.d_state
    assert counter.get_total_flops() == config.flops(D_MODEL, time, causal=True) * time + masked + handed_on
