"""What statistics of layers come to over a training: a grid of layers and steps for each kind of figure, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.stages.look import plot

COLUMNS = 60  # of a picture, at most: measurements between them are left out
KINDS = {
    "activation_rms": "size of activations (log₁₀ RMS)", "gradient_rms": "size of gradients (log₁₀ RMS)",
    "update_ratio": "size of updates relative to weights (log₁₀)", "attention_entropy": "attention: 0 to one key, 1 to all alike",
    "dead_units": "share of units that never fire",
}  # fmt: skip
"""The kinds of figures that are shown, and their titles."""


@dataclass(frozen=True)
class Grid:
    """A kind of figure over layers and steps.

    Attributes:
        layers: their names, the first ones first.
        steps: that were measured.
        values: for each layer, its figure at each step: the mean over roles or heads; None where there is none.
    """

    layers: list[str]
    steps: list[int]
    values: list[list[float | None]]


def grids_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Grid]:
    """Kind → grid, of those kinds that the lines of a training's metrics have."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for line in metrics:
        for name, value in line.items():
            words = name.split("/")
            if "layers" in words[:-2] and (kind := words[words.index("layers") + 2]) in KINDS:
                layer = "/".join(words[: words.index("layers") + 2])
                found.setdefault(kind, {}).setdefault(layer, {}).setdefault(line["step"], []).append(value)
    return {kind: _grid(found[kind]) for kind in KINDS if kind in found}


def _grid(figures: Mapping[str, Mapping[int, Sequence[float]]]) -> Grid:
    steps = sorted({step for of_layer in figures.values() for step in of_layer})
    rows = [[sum(values) / len(values) if (values := of_layer.get(step)) else None for step in steps] for of_layer in figures.values()]
    return Grid(list(figures), steps, rows)


def heat_map(kind: str, grid: Grid) -> str:
    """A grid as a picture, SVG: layers from below, steps from the left; what is missing is blank."""
    import numpy as np

    columns = sorted({round(i) for i in np.linspace(0, len(grid.steps) - 1, min(COLUMNS, len(grid.steps)))})
    values = np.array([[np.nan if row[i] is None else row[i] for i in columns] for row in grid.values], dtype=float)
    if "log" in KINDS[kind]:
        values = np.log10(np.where(values > 0, values, np.nan))
    steps, layers = [str(grid.steps[i]) for i in columns], [layer.replace("layers/", "") for layer in grid.layers]
    step_every, layer_every = -(-len(steps) // 6), -(-len(layers) // 16)  # names that there is room for

    def draw(axes: Any) -> None:
        image = axes.imshow(values, aspect="auto", origin="lower", interpolation="nearest", cmap="viridis")
        axes.set_xticks(range(0, len(steps), step_every), steps[::step_every])
        axes.set_yticks(range(0, len(layers), layer_every), layers[::layer_every], fontsize=6)
        axes.set_ylabel("layer")
        axes.figure.colorbar(image)

    return plot(KINDS[kind], draw)
