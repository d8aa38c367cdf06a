"""Rows of packed documents, drawn and written out, for the tests of mixers."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from bloomery.nn import MixerConfig, SequenceLayout, SequenceMixer, Shared
from bloomery.nn.approximate import Approximate
from bloomery.nn.init import NormalInit, initialise

D_MODEL, MAX_SEQ_LEN = 16, 64


def layouts(causal: bool | None = None, longest: int = 24, prefix: bool = False) -> st.SearchStrategy[SequenceLayout]:
    """Two rows of documents and padding, or without segments; the same lengths in both, in opposite order."""

    @st.composite
    def draw(pick):  # type: ignore[no-untyped-def]
        lengths = pick(st.lists(st.integers(1, longest), min_size=1, max_size=3))
        n_padding = pick(st.integers(0, 3))
        ways = pick(st.booleans()) if causal is None else causal
        if len(lengths) == 1 and not n_padding:
            layout = SequenceLayout.rows(2, lengths[0], causal=ways)
        else:
            rows = [[i for i, n in enumerate(order, 1) for _ in range(n)] + [0] * n_padding for order in (lengths, lengths[::-1])]
            layout = SequenceLayout.packed(torch.tensor(rows), ways)
        if prefix and ways and pick(st.booleans()):
            read_whole = layout.positions < pick(st.integers(1, 6))
            layout = SequenceLayout(layout.positions, layout.segments, True, read_whole)
        return layout

    return draw()


def documents(layout: SequenceLayout) -> list[tuple[int, int, int]]:
    """(row, first place, place behind the last) of each document, by looking at each place."""
    if layout.segments is None:
        return [(row, 0, layout.positions.shape[1]) for row in range(layout.positions.shape[0])]
    found = []
    for row, numbers in enumerate(layout.segments.tolist()):
        for number in sorted({*numbers} - {0}):
            found.append((row, numbers.index(number), len(numbers) - numbers[::-1].index(number)))
    return found


def built(config: MixerConfig, std: float = 0.5) -> SequenceMixer:
    """A mixer with drawn weights, large enough for scores that differ."""
    mixer = config.build(D_MODEL, MAX_SEQ_LEN, Shared())
    initialise(mixer, NormalInit(std=std), n_layers=1, seed=0)
    return mixer.eval()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Drawn numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(layout: SequenceLayout, seed: int = 0) -> torch.Tensor:
    """What a mixer of a layout reads."""
    return normal(*layout.positions.shape, D_MODEL, seed=seed)


def error_of(mixer: SequenceMixer, x: torch.Tensor, layout: SequenceLayout) -> float:
    """How far it is from what it comes near to, as a share of that."""
    assert isinstance(mixer, Approximate)
    with torch.no_grad():
        exact = mixer.exact(x, layout)
        return float((mixer(x, layout) - exact).norm() / exact.norm())
