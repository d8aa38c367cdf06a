"""What goes on inside the layers of a model in a forward pass: how large activations are, which units are dead, where heads look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bloomery.nn.layout import SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.train.observe import layers, observed

Attention = Literal["none", "mean", "heads"]
LONGEST = 2048  # places of a row whose attention is measured: memory grows with their square


class Inside:
    """Adds up what is seen in any number of forward passes. Padding does not count.

    Args:
        model: any; layers of kinds that have no such figure are left out of it.
        attention: of each head, the mean of a layer's heads, or not at all.
    """

    def __init__(self, model: nn.Module, attention: Attention) -> None:
        self.attention, self.blocks = attention, layers(model)
        self.left_out: set[str] = set()
        """Kinds of mixers whose attention cannot be told."""
        self._real = torch.empty(0)  # (batch, time), True where a token is no padding
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._most: dict[str, Tensor] = {}
        self._fired: dict[str, Tensor] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Passes within it are looked at."""
        units = {place: into for place, block in self.blocks.items() if (into := _into_units(block)) is not None}
        mixers = {place: block.mixer for place, block in self.blocks.items()}
        with observed(mixers, self._mixer), observed(units, self._units), observed(self.blocks, self._block):
            yield

    def figures(self) -> dict[str, float]:
        """What it all comes to, by place and name."""
        sums = self._sums
        found = {f"{place}/activation_rms": (sums[place, "squares"] / sums[place, "numbers"]).sqrt() for place in self._most}
        found |= {f"{place}/activation_max": most for place, most in self._most.items()}
        found |= {f"{place}/dead_units": (~fired).float().mean() for place, fired in self._fired.items()}
        for place, what in sums:
            if what == "entropies":
                of_heads, name = sums[place, what] / sums[place, "queries"].clamp(min=1), f"{place}/attention_entropy"
                found |= {name: of_heads.mean()} if self.attention == "mean" else {f"{name}/{i}": head for i, head in enumerate(of_heads)}
        return dict(zip(found, torch.stack([value.double() for value in found.values()]).tolist(), strict=True)) if found else {}

    def _mixer(self, place: str, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, layout = inputs[0], inputs[1]
        # a layer's mixer is the first to be told: its units, which are not given the layout, come after it
        self._real = torch.ones_like(layout.positions, dtype=torch.bool) if layout.segments is None else layout.segments > 0
        if self.attention == "none":
            return
        mixer = self.blocks[place].mixer
        with torch.autocast(x.device.type, enabled=False):
            looks = mixer.looks(x[:, :LONGEST].float(), _beginning(layout))
        if looks is None:
            self.left_out.add(type(mixer).__name__)
            return
        seen = looks.seen.sum(-1)  # (batch or 1, 1, time)
        counted = (seen > 1) & self._real[:, None, :LONGEST]
        entropy = -torch.special.xlogy(looks.weights, looks.weights).sum(-1) / seen.clamp(min=2).log()  # (batch, heads, time)
        self._add(place, "entropies", entropy.masked_fill(~counted, 0.0).sum((0, 2)))
        self._add(place, "queries", counted.sum())

    def _units(self, place: str, inputs: tuple[Any, ...], output: Tensor) -> None:
        into = _into_units(self.blocks[place])
        assert into is not None
        above = (output.split(into.heights, -1)[into.uses.index(Use.FF_IN)] > 0) & self._real[..., None]
        fired = above.flatten(0, -2).any(0)
        self._fired[place] = self._fired[place] | fired if place in self._fired else fired

    def _block(self, place: str, inputs: tuple[Any, ...], output: Tensor) -> None:
        numbers = output.detach().float() * self._real[..., None]
        self._add(place, "squares", numbers.square().sum())
        self._add(place, "numbers", self._real.sum() * output.shape[-1])
        most = numbers.abs().amax()
        self._most[place] = torch.maximum(self._most[place], most) if place in self._most else most

    def _add(self, place: str, what: str, value: Tensor) -> None:
        self._sums[place, what] = self._sums[place, what] + value.double() if (place, what) in self._sums else value.double()


def _into_units(block: nn.Module) -> Linear | None:
    """The map into a layer's feed-forward units; None where there are none, or each token has others, as with experts."""
    found = [module for module in block.modules() if isinstance(module, Linear) and Use.FF_IN in module.uses]
    return found[0] if found else None


def _beginning(layout: SequenceLayout) -> SequenceLayout:
    """That of the first places of its rows."""
    segments, prefix, parts = (None if one is None else one[:, :LONGEST] for one in (layout.segments, layout.prefix, layout.parts))
    return SequenceLayout(layout.positions[:, :LONGEST], segments, layout.causal, prefix, parts)
