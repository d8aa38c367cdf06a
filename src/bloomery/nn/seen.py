"""`Seen`: what a forward pass keeps of its inner states for whoever asked: losses on them, views into the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)
class Seen:
    """Filled by a forward pass that it is handed to, layer by layer.

    Attributes:
        hidden: (batch, time, d_model) each: the residual stream before each block, and after the last one.
        mixer_inputs: (batch, time, d_model) each: what each mixer read (where attention looks follows from it).
        ff_inputs: (batch, time, d_model) each: what each feed-forward layer read (a router's logits follow from it).
        last: (batch, time, d_model): behind the last norm; what heads read, but for a transform before that of the vocabulary.
    """

    hidden: list[Tensor] = field(default_factory=list)
    mixer_inputs: list[Tensor] = field(default_factory=list)
    ff_inputs: list[Tensor] = field(default_factory=list)
    last: Tensor | None = None

    def take(self, other: Seen, change: Callable[[Tensor], Tensor]) -> None:
        """What another has kept layer by layer, changed."""
        for own, found in ((self.hidden, other.hidden), (self.mixer_inputs, other.mixer_inputs), (self.ff_inputs, other.ff_inputs)):
            own.extend(map(change, found))
