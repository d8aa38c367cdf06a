"""What tests of recurrent mixers draw: numbers, and rows of packed documents."""

from __future__ import annotations

import torch
from hypothesis import strategies as st


def normal(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def segments(draw: st.DrawFn, batch: int, time: int) -> torch.Tensor:
    rows = []
    for _ in range(batch):
        cuts = sorted(draw(st.lists(st.integers(1, time), max_size=3)))
        row = [sum(t >= cut for cut in cuts) + 1 for t in range(time)]
        padding = draw(st.integers(0, time))
        rows.append([number if t < time - padding else 0 for t, number in enumerate(row)])
    return torch.tensor(rows)
