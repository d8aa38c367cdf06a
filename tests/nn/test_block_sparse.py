"""Block-sparse attention equals dense attention under the same mask; and what its pattern promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.packed import built, documents, inputs, layouts

from bloomery.core.errors import ConfigError
from bloomery.nn import AlibiConfig, BlockSparseAttentionConfig, RotaryConfig, SequenceLayout
from bloomery.nn.block_sparse import BlockPattern, BlockSparseAttention
from bloomery.nn.documents import each_document, places, runs
from bloomery.nn.layout import View

PATTERNS = {
    "block": st.integers(1, 4), "n_local": st.integers(0, 2), "n_global": st.integers(0, 2), "n_random": st.integers(0, 3),
    "seed": st.integers(0, 9),
}  # fmt: skip
CONFIGS = st.builds(
    BlockSparseAttentionConfig, n_heads=st.just(2), n_kv_heads=st.sampled_from([1, 2]), head_dim=st.just(6),
    positions=st.sampled_from([RotaryConfig(), AlibiConfig()]), **PATTERNS,
)  # fmt: skip


def dense_mask(mixer: BlockSparseAttention, layout: SequenceLayout) -> torch.Tensor:
    """Who sees whom, token by token by the definition; all see themselves, so that padding sees something."""
    pattern, block, time = mixer.pattern, mixer.block, layout.positions.shape[1]
    mask = torch.eye(time, dtype=torch.bool).repeat(layout.positions.shape[0], 1, 1)
    for row, start, end in documents(layout):
        n_blocks = -(-(end - start) // block)
        for query in range(end - start):
            i = query // block
            drawn = pattern.random(torch.tensor([[i]]), None if layout.causal else torch.tensor([[n_blocks]]))[0, 0].tolist()
            for key in range(query + 1 if layout.causal else end - start):
                j = key // block
                near = abs(i - j) <= pattern.n_local
                mask[row, start + query, start + key] = near or j < pattern.n_global or i < pattern.n_global or j in drawn
    return mask[:, None]


@settings(max_examples=40, deadline=None)
@given(CONFIGS, layouts(longest=40))
def test_it_equals_dense_attention_under_its_mask(config, layout):
    mixer, x = built(config), inputs(layout)
    view = layout.view
    heads = mixer.heads(x, layout)
    dense = mixer.out(super(BlockSparseAttention, mixer).mix(*heads, View(view.queries, view.keys, dense_mask(mixer, layout))).flatten(2))
    real = slice(None) if layout.segments is None else layout.segments > 0
    torch.testing.assert_close(mixer(x, layout)[real], dense[real], atol=2e-5, rtol=1e-5)


@settings(max_examples=250, deadline=None)
@given(CONFIGS, st.integers(1, 14), st.booleans())
def test_a_block_sees_none_twice_and_as_many_at_random_as_there_are_left(config, n, causal):
    pattern = BlockPattern(config, 16)
    slots = pattern.slots(torch.arange(n)[None], None if causal else torch.tensor([[n]]))[0].tolist()
    for i, row in enumerate(slots):
        seen = [j for j in row if 0 <= j < n]
        assert len(set(seen)) == len(seen)
        plain = {j for j in range(i + 1 if causal else n) if abs(i - j) <= config.n_local or j < config.n_global}
        left = (i + 1 if causal else n) - len(plain)
        assert plain <= {*seen}
        assert len({j for j in seen if j <= i or not causal} - plain) == min(config.n_random, left)


def test_the_pattern_follows_from_the_seed_and_the_block_alone():
    config = BlockSparseAttentionConfig(n_heads=1, n_random=2)
    short, long = BlockPattern(config, 20), BlockPattern(config, 300)
    assert torch.equal(short.draws, long.draws[:20])
    assert not torch.equal(short.draws, BlockPattern(config.replace(seed=1), 20).draws)


def test_random_blocks_spread_over_all_that_is_left():
    pattern = BlockPattern(BlockSparseAttentionConfig(n_heads=1, n_local=1, n_global=1, n_random=4), 400)
    drawn = pattern.random(torch.arange(400)[None], torch.tensor([[400]]))
    counts = torch.histc(drawn.float(), bins=4, min=0, max=400)
    assert (counts > 0.22 * drawn.numel()).all()


def test_long_documents_build_no_square(monkeypatch):
    config = BlockSparseAttentionConfig(n_heads=2, block=2, n_local=1, n_global=1, n_random=1)
    monkeypatch.setattr(BlockPattern, "seen", lambda *_: 1 / 0)
    for causal in (True, False):
        layout = SequenceLayout.rows(1, 60, causal=causal)
        assert built(config)(inputs(layout), layout).isfinite().all()


def test_a_prefix_is_refused():
    layout = SequenceLayout(torch.arange(4)[None], prefix=torch.tensor([[True, True, False, False]]))
    with pytest.raises(ConfigError, match="take AttentionConfig"):
        built(BlockSparseAttentionConfig(n_heads=2))(inputs(layout), layout)


@given(layouts())
def test_documents_are_taken_apart_and_put_back(layout):
    x = torch.arange(layout.positions.numel()).float().reshape(*layout.positions.shape, 1, 1) + 1
    seen = []

    def mix(queries, twice, lengths):
        assert queries.shape[1] == lengths.max() < 2 * lengths.min() + 1
        for document, length in zip(queries, lengths.tolist(), strict=True):
            seen.append(document[:length, 0, 0].tolist())
            assert not document[length:].any()
        return queries + twice

    real = torch.ones_like(x, dtype=torch.bool) if layout.segments is None else (layout.segments > 0)[..., None, None]
    assert torch.equal(each_document(mix, layout, x, 2 * x), 3 * x * real)
    time = layout.positions.shape[1]
    assert sorted(seen) == sorted([row * time + i + 1.0 for i in range(start, end)] for row, start, end in documents(layout))


def test_rows_of_padding_alone_are_nothing():
    layout = SequenceLayout.packed(torch.zeros(2, 5, dtype=torch.long))
    assert not each_document(lambda *_: 1 / 0, layout, torch.ones(2, 5, 1, 1)).any()
    assert runs(layout.segments)[0].numel() == 0


def test_places_are_padded_to_the_longest():
    index, inside = places(torch.tensor([3, 7]), torch.tensor([1, 3]))
    assert index.tolist() == [[3, 0, 0], [7, 8, 9]]
    assert inside.tolist() == [[True, False, False], [True, True, True]]
