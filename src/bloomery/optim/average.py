"""`Average`: an exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Average:
    """Keeps e ← β·e + (1 − β)·θ for every parameter, from e₀ = θ₀.

    Args:
        live: the parameters that are followed, by name.
        decay: β in [0, 1).

    Source: Polyak and Juditsky (1992); the exponential form as in Tarvainen and Valpola (2017), arXiv 1703.01780, with β ramped up as
    min(β, (1 + k) / (10 + k)) at update k, so that a short run is not dominated by its start.
    """

    def __init__(self, live: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = dict(live)
        self.values = {name: p.detach().clone() for name, p in self._live.items()}

    def update(self) -> None:
        """Follows the parameters after an optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in self._live.values()], 1 - decay)
        self.updates += 1

    def load(self, values: dict[str, Tensor], updates: int) -> None:
        """Goes on from a checkpoint."""
        for name, value in self.values.items():
            value.copy_(values[name])
        self.updates = updates

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights within the block, and its own after it."""
        own = {name: p.detach().clone() for name, p in self._live.items()}
        try:
            self._write(self.values)
            yield
        finally:
            self._write(own)

    def _write(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._live.items():
                parameter.copy_(values[name])
