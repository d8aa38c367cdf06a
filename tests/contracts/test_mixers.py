"""What every `MixerConfig` promises. A new one is tested on arrival: it needs an entry in `mixer_examples.EXAMPLES`."""

from __future__ import annotations

from inspect import isabstract

import pytest
import torch
from tests.contracts.mixer_examples import EXAMPLES

import bloomery.models  # noqa: F401  brings in every mixer that a family uses
from bloomery.nn import MixerConfig, SequenceLayout, Shared
from bloomery.nn.init import NormalInit, initialise
from bloomery.nn.once import Once

D_MODEL, TIME = 24, 12


def subclasses(cls: type) -> list[type]:
    return [found for child in cls.__subclasses__() for found in (child, *subclasses(child))]


CONFIGS = [config for cls in subclasses(MixerConfig) if not isabstract(cls) for config in EXAMPLES[cls.__name__]]
every = pytest.mark.parametrize("config", CONFIGS, ids=str)
forward = pytest.mark.parametrize("config", [c for c in CONFIGS if c.reads_forward], ids=str)
both_ways = pytest.mark.parametrize("config", [c for c in CONFIGS if c.reads_both_ways], ids=str)


def build(config: MixerConfig) -> torch.nn.Module:
    config.check_model(D_MODEL, 32)
    mixer = config.build(D_MODEL, 32, Shared())
    initialise(mixer, NormalInit(std=0.3), n_layers=1, seed=0)
    return mixer.eval()


def inputs(batch: int, time: int = TIME) -> torch.Tensor:
    return torch.randn(batch, time, D_MODEL, generator=torch.Generator().manual_seed(1))


def directions(config: MixerConfig) -> list[bool]:
    return [causal for causal, can in ((True, config.reads_forward), (False, config.reads_both_ways)) if can]


@every
def test_output_has_the_shape_of_the_input(config):
    for causal in directions(config):
        x = inputs(3)
        assert build(config)(x, SequenceLayout.rows(3, TIME, causal=causal)).shape == x.shape


@forward
def test_a_token_sees_the_past_and_nothing_after_it(config):
    mixer, x, changed = build(config), inputs(1), inputs(1)
    changed[:, 7] += 1.0
    before, after = (mixer(v, SequenceLayout.rows(1, TIME)) for v in (x, changed))
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-6, rtol=0)
    assert (before[:, 7] - after[:, 7]).abs().max() > 1e-3


@both_ways
def test_both_ways_a_token_sees_what_comes_after_it(config):
    mixer, x, changed = build(config), inputs(1), inputs(1)
    changed[:, 7] += 1.0
    before, after = (mixer(v, SequenceLayout.rows(1, TIME, causal=False)) for v in (x, changed))
    assert (before[:, 6] - after[:, 6]).abs().max() > 1e-4


@every
@pytest.mark.parametrize("second", [4, 6])
def test_packed_documents_are_mixed_as_if_each_were_alone(config, second):
    for causal in directions(config):
        mixer, x = build(config), inputs(1)
        packed = mixer(x, SequenceLayout.packed(torch.tensor([[1] * 5 + [2] * second + [0] * (7 - second)]), causal))
        for start, end in ((0, 5), (5, 5 + second)):
            alone = mixer(x[:, start:end], SequenceLayout.rows(1, end - start, causal=causal))
            torch.testing.assert_close(packed[:, start:end], alone, atol=1e-5, rtol=0)
        assert packed.isfinite().all()


@forward
@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 7], [3, 1, 1, 4, 3], [11, 1]], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_reading_in_pieces_equals_reading_at_once(config, pieces, batch):
    mixer, x = build(config), inputs(batch)
    whole = mixer(x, SequenceLayout.rows(batch, TIME))
    cache = mixer.new_cache(batch, TIME, x.dtype, x.device)
    read, start = [], 0
    for n in pieces:
        positions = torch.arange(start, start + n).expand(batch, n)
        read.append(mixer(x[:, start : start + n], SequenceLayout(positions), cache))
        start += n
    torch.testing.assert_close(torch.cat(read, dim=1), whole, atol=1e-5, rtol=0)


@forward
def test_padding_on_the_right_leaves_no_trace_in_a_cache(config):
    mixer, x, lengths = build(config), inputs(2), (5, 8)
    cache = mixer.new_cache(2, TIME, x.dtype, x.device)
    positions = torch.arange(8).expand(2, 8)
    segments = (positions < torch.tensor(lengths)[:, None]).long()
    first = mixer(x[:, :8], SequenceLayout(positions, segments), cache)
    more = torch.stack([x[row, n : n + 2] for row, n in enumerate(lengths)])  # the next two tokens of each row
    next_positions = torch.tensor(lengths)[:, None] + torch.arange(2)
    second = mixer(more, SequenceLayout(next_positions), cache)
    for row, n in enumerate(lengths):
        alone = mixer(x[row : row + 1, : n + 2], SequenceLayout.rows(1, n + 2))[0]
        torch.testing.assert_close(torch.cat((first[row, :n], second[row])), alone, atol=1e-5, rtol=0)


@forward
def test_selected_rows_of_a_cache_go_on_as_before(config):
    mixer, x = build(config), inputs(3)
    whole = mixer(x, SequenceLayout.rows(3, TIME))
    cache = mixer.new_cache(3, TIME, x.dtype, x.device)
    mixer(x[:, : TIME - 1], SequenceLayout.rows(3, TIME - 1), cache)
    kept = torch.tensor([2, 0])
    last = mixer(x[kept, TIME - 1 :], SequenceLayout(torch.full((2, 1), TIME - 1)), cache.select(kept))
    torch.testing.assert_close(last, whole[kept, TIME - 1 :], atol=1e-5, rtol=0)


@every
def test_gradients_reach_every_parameter(config):
    mixer = build(config)
    mixer(inputs(2), SequenceLayout.rows(2, TIME, causal=directions(config)[0])).square().sum().backward()
    assert not [name for name, p in mixer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@every
def test_costs_of_a_row_grow_with_its_length(config):
    for causal in directions(config):
        assert 0 < 16 * config.flops(D_MODEL, 16, causal) < 64 * config.flops(D_MODEL, 64, causal)


@every
def test_where_heads_look_is_a_distribution_over_what_they_see(config):
    for causal in directions(config):
        layout = SequenceLayout.packed(torch.tensor([[1] * 5 + [2] * 6 + [0], [1] * 12]), causal=causal)
        looks = build(config).looks(inputs(2), layout)
        if looks is None:
            continue
        weights, seen = looks
        assert weights.shape[0::2] == (2, TIME)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert not weights.masked_fill(seen, 0.0).any()
        assert seen.diagonal(dim1=-2, dim2=-1).all()
        same = layout.segments[:, None, :, None] == layout.segments[:, None, None, :]
        assert not (seen & ~(same.tril() if causal else same)).any()


SOFTMAX = ("AttentionConfig", "DisentangledConfig", "LatentAttentionConfig")


@pytest.mark.parametrize("config", [c for name in SOFTMAX for c in EXAMPLES[name]], ids=str)
def test_the_values_weighed_by_where_heads_look_are_the_output(config):
    for causal in directions(config):
        mixer, x, layout = build(config), inputs(2), SequenceLayout.packed(torch.tensor([[1] * 5 + [2] * 7, [1] * 12]), causal=causal)
        weights = mixer.looks(x, layout).weights
        if hasattr(mixer, "made"):  # latent
            _, values = mixer.unfold(*mixer.made(x, layout)[2:])
        elif hasattr(mixer, "position_vectors"):  # disentangled
            values = mixer.heads(mixer.qkv(x)).chunk(3, dim=1)[2].transpose(1, 2)
        else:
            values = mixer.heads(x, layout)[2]
        values = values.repeat_interleave(weights.shape[1] // values.shape[2], dim=2)  # (batch, time, heads, d_value)
        mixed = torch.einsum("bhtp,bphv->bthv", weights, values)
        torch.testing.assert_close(mixer.out(mixed.flatten(2)), mixer(x, layout), atol=1e-5, rtol=1e-4)


@forward
def test_a_mixer_that_can_be_handed_the_distinct_places_of_rows_says_there_what_it_says_of_the_rows(config):
    mixer = build(config)
    if not mixer.reads_once:
        return  # it is only ever handed whole rows
    tokens = torch.randint(0, 9, (4, TIME), generator=torch.Generator().manual_seed(2))
    tokens[1, :5], tokens[2, :9] = tokens[0, :5], tokens[1, :9]
    layout = SequenceLayout.rows(4, TIME)
    once = Once.of(tokens, layout)
    x = torch.randn(9, D_MODEL, generator=torch.Generator().manual_seed(1))[tokens]
    assert len(once.firsts) == 4 * TIME - 5 - 9
    torch.testing.assert_close(once.spread(mixer(once.gather(x), once)), mixer(x, layout), rtol=1e-5, atol=1e-6)
