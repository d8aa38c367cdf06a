"""Rows that begin alike: what they share is worked out once, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.models import Gpt2Config, LlamaConfig, MixtralConfig, TransformerConfig
from bloomery.nn import AttentionConfig, GatedConfig, LatentAttentionConfig, Mamba2Config, SequenceLayout
from bloomery.nn.batch_norm import BatchNormConfig
from bloomery.nn.once import Once
from bloomery.nn.seen import Seen

SIZES = {"vocab_size": 40, "d_model": 32, "n_layers": 2, "n_heads": 4}
TIME = 12


def stack(*mixers, **parts):
    """A stack of two layers."""
    return TransformerConfig(
        vocab_size=40, d_model=32, n_layers=2, max_seq_len=32, mixers=mixers, feed_forwards=(GatedConfig(d_ff=48),), **parts
    )


MODELS = {
    "llama": LlamaConfig(**SIZES, n_kv_heads=2, d_ff=48),
    "gpt2": Gpt2Config(**SIZES, max_seq_len=32),
    "window": stack(AttentionConfig(n_heads=4, window=5)),
    "experts": MixtralConfig(**SIZES, d_ff=48, n_experts=4, n_active=2),
    "latent": stack(LatentAttentionConfig(n_heads=4, d_latent=16, head_dim=8, rope_dim=4)),
    "states": stack(Mamba2Config(head_dim=16, d_state=8), AttentionConfig(n_heads=4)),
    "mixes rows": stack(AttentionConfig(n_heads=4), norm=BatchNormConfig()),
}
ONCE = {"llama", "gpt2", "window", "experts"}


def rows(samples=3, prompts=2, seed=0):
    """Texts to prompts of other lengths, a row each, with padding behind some."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 40, (samples * prompts, TIME), generator=generator)
    segments = torch.ones_like(tokens)
    for row in range(len(tokens)):
        shared, first = 4 + row // samples, row // samples * samples
        tokens[row, :shared] = tokens[first, :shared]
        end = TIME - row % 4
        tokens[row, end:], segments[row, end:] = 0, 0
    return tokens, SequenceLayout.packed(segments), 2 * 4 + 2 * 5  # two further samples of each prompt


def pairs():
    """Two documents that begin alike, in each of two rows, with padding behind them."""
    tokens = torch.randint(1, 40, (2, TIME), generator=torch.Generator().manual_seed(3))
    segments = torch.tensor([[1] * 5 + [2] * 5 + [0] * 2, [1] * 6 + [2] * 6])
    tokens[0, 5:8], tokens[1, 6:10] = tokens[0, :3], tokens[1, :4]
    return tokens, SequenceLayout.packed(segments), 3 + 4


LAID = {"rows": rows, "pairs": pairs}
each = pytest.mark.parametrize("laid", LAID)


@each
@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_are_those_of_rows_read_whole(name, laid):
    model = MODELS[name].build(seed=0).eval()
    tokens, layout, _ = LAID[laid]()
    real, told = (layout.segments > 0)[..., None], []
    for alike in (False, True):
        model.zero_grad()
        seen = Seen()
        features = model.features(tokens, replace(layout, alike=alike), seen=seen) * real
        (features * torch.linspace(-1, 1, features.shape[-1])).sum().backward()
        kept = [*seen.hidden, *seen.mixer_inputs, *seen.ff_inputs, seen.last]
        told.append(([features.detach(), *(one.detach() * real for one in kept)], [p.grad for p in model.parameters() if p.grad is not None]))
    (whole, wanted), (once, found) = told
    assert len(found) == len(wanted) > 0
    assert len(once) == len(whole)
    for a, b in zip(once, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


@each
@pytest.mark.parametrize("name", MODELS)
def test_what_documents_share_is_read_once_by_those_that_can(name, laid):
    model, read = MODELS[name].build(seed=0).eval(), []
    model.embedding.register_forward_pre_hook(lambda _, given: read.append(given[0].numel()))
    tokens, layout, shared = LAID[laid]()
    model.features(tokens, replace(layout, alike=True))
    places = int((layout.segments > 0).sum())
    assert read == [places - shared if name in ONCE else tokens.numel()]


@given(seed=st.integers(0, 10_000), vocab=st.integers(1, 3), count=st.integers(1, 5), time=st.integers(1, 6))
def test_places_are_one_where_all_up_to_them_is_and_no_others(seed, vocab, count, time):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab, (count, time), generator=generator).sort(0).values
    once = Once.of(tokens, SequenceLayout.rows(count, time))
    before = {}
    for row in range(count):
        for place in range(time):
            before.setdefault(int(once.number[row, place]), set()).add(tuple(tokens[row, : place + 1].tolist()))
    assert all(len(pasts) == 1 for pasts in before.values())
    neighbours = sum(
        torch.equal(tokens[row, : place + 1], tokens[row - 1, : place + 1]) for row in range(1, count) for place in range(time)
    )
    assert len(once.firsts) == len(before) == count * time - neighbours
    torch.testing.assert_close(once.spread(once.gather(tokens)), tokens)


def test_a_layout_goes_on_being_of_rows_that_begin_alike():
    layout = replace(SequenceLayout.rows(4, 3), alike=True)
    assert layout[:2].alike
    assert layout.to("cpu").alike
    assert not layout.share(0, 3).alike
