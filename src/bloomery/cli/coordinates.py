"""`bloomery coordinate-check`: the table and the plot of what a few steps do at several widths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.models.mup import mup
from bloomery.nn import AttentionConfig, FanInInit, GatedConfig, MuPInit
from bloomery.optim import AdamW, Muon, OptimizerConfig
from bloomery.stages.look import COLOURS, plot
from bloomery.store import write_text
from bloomery.train.coordinates import Coordinates, coordinate_check

N_HEADS = 4


def check(widths_text: str, n_layers: int, steps: int, optimizer: str, learning_rate: float, plot_path: Path) -> None:
    """Measures, prints the table and writes the plot."""
    widths = _widths(widths_text)
    rates: dict[str, OptimizerConfig] = {
        "adamw": AdamW(learning_rate=learning_rate), "muon": Muon(learning_rate=learning_rate, others=AdamW(learning_rate=learning_rate)),
    }  # fmt: skip
    init = MuPInit(base_width=widths[0], base_head_dim=widths[0] // N_HEADS)

    def standard(width: int) -> TransformerConfig:
        return TransformerConfig(
            vocab_size=256, d_model=width, n_layers=n_layers, max_seq_len=64, mixers=(AttentionConfig(n_heads=N_HEADS),),
            feed_forwards=(GatedConfig(d_ff=2 * width),), init=FanInInit(),
        )  # fmt: skip

    found = {
        "standard": coordinate_check(standard, widths, rates[optimizer], steps),
        "µP": coordinate_check(lambda width: mup(standard(width), init), widths, rates[optimizer], steps),
    }
    console = Console(highlight=False)
    for name, coordinates in found.items():
        console.print(_table(f"{name}: mean size of the change after {steps} steps", coordinates))
    write_text(plot_path, plot(f"change after {steps} steps", _drawn(found), "d_model"))
    console.print(f"width^0 is what µP promises, so that a rate found at d_model={widths[0]} carries over; the plot is {plot_path}")


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--widths {text} is not a list of numbers; write 32,64,128") from None
    if len(set(widths)) < 2 or any(width < 1 or width % (2 * N_HEADS) for width in widths):
        raise ConfigError(f"--widths {text}: give at least two, each a multiple of {2 * N_HEADS}; 32,64,128 would do")
    return widths


def _table(title: str, found: Coordinates) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("place")
    for width in found.widths:
        table.add_column(str(width), justify="right")
    table.add_column("grows as", justify="right")
    slopes = found.slopes(found.changes)
    for place, by_width in found.changes.items():
        table.add_row(place, *(f"{steps[-1]:.3g}" for steps in by_width), f"width^{slopes[place]:+.2f}")
    return table


def _drawn(found: dict[str, Coordinates]) -> Callable[[Any], None]:
    """Draws a line per parametrisation and place over the widths, both axes logarithmic."""

    def draw(axes: Any) -> None:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for (name, coordinates), colour in zip(found.items(), COLOURS, strict=False):
            for i, by_width in enumerate(coordinates.changes.values()):
                values = [steps[-1] for steps in by_width]
                axes.plot(coordinates.widths, values, color=colour, marker="o", markersize=3, linewidth=1.0, label=name if i == 0 else None)

    return draw
