"""`bloomery lr-find`: the table, the plot and the suggestion of a sweep of learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bloomery.core.errors import ConfigError
from bloomery.recipe import Recipe
from bloomery.recipe.graph import label_of
from bloomery.stages.look import COLOURS, plot
from bloomery.stages.lr_find import find_rate
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Train
from bloomery.store import write_text
from bloomery.train.lr_find import RateSweep

LINES = 20  # of the table, at most


def find(recipe: Recipe, context: RunContext, stage_name: str | None, low: float, high: float, points: int, plot_path: Path) -> None:
    """Sweeps, prints the table and the suggestion, and writes the plot."""
    stage = training_of(recipe, stage_name)
    found = find_rate(stage, context, low, high, points)
    if not context.mesh.leads:
        return
    write_text(plot_path, plot(f"loss of {stage.name} at rising rates", lambda axes: _draw(axes, found), "learning rate"))
    console = Console(highlight=False, quiet=context.quiet)
    console.print(_table(f"{label_of(stage)}: loss at rising rates", found))
    for line in advice(found, stage.updater.learning_rate):
        console.print(line, soft_wrap=True)
    console.print(f"the plot is {plot_path}")


def training_of(recipe: Recipe, name: str | None) -> Train:
    """The training of a recipe that is meant.

    Raises:
        ConfigError: there is none of that name, or several and no name.
    """
    trainings = {stage.name: stage for stage in recipe.stages() if isinstance(stage, Train)}
    names = " or ".join(trainings)
    if not trainings:
        raise ConfigError(f"recipe {recipe.name!r} trains nothing; give one with a Train")
    if name is None and len(trainings) > 1:
        raise ConfigError(f"recipe {recipe.name!r} has {len(trainings)} trainings; add --stage {names}")
    chosen = next(iter(trainings)) if name is None else name
    if chosen not in trainings:
        raise ConfigError(f"--stage {chosen}: recipe {recipe.name!r} has no such training; {names} would be one")
    return trainings[chosen]


def advice(found: RateSweep, own: float) -> list[str]:
    """What to make of a sweep, in sentences.

    Args:
        found: by the sweep.
        own: the rate that the recipe has.
    """
    if not found.rates:
        return ["the first step already gives no finite loss; sweep lower rates"]
    if found.lowest is None or found.steepest is None or found.tenth is None:
        return [f"the loss does not fall anywhere from {found.rates[0]:.2g} to {found.rates[-1]:.2g}; sweep lower rates"]
    rises = found.diverged or found.lowest < found.rates[-1]
    return [
        f"the loss rises beyond {found.lowest:.2g}" if rises else f"the loss still falls at {found.lowest:.2g}; sweep higher rates",
        f"suggestion: learning_rate={found.steepest:.2g}, where the loss falls fastest; or {found.tenth:.2g}, a tenth of where it is least",
        f"the recipe has {own:.2g}",
    ]


def _table(title: str, found: RateSweep) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("rate", "loss", "smoothed"):
        table.add_column(name, justify="right")
    table.add_column()
    smoothed = found.smoothed
    low, high = min(smoothed, default=0.0), max(smoothed, default=0.0)
    for i in range(0, len(smoothed), -(-len(smoothed) // LINES) or 1):
        bar = "█" * round(30 * (smoothed[i] - low) / (high - low or 1.0))
        table.add_row(f"{found.rates[i]:.2g}", f"{found.losses[i]:.3f}", f"{smoothed[i]:.3f}", bar)
    return table


def _draw(axes: Any, found: RateSweep) -> None:
    axes.set_xscale("log")
    axes.plot(found.rates, found.losses, color=COLOURS[0], linewidth=0.6, alpha=0.5, label="loss")
    axes.plot(found.rates, found.smoothed, color=COLOURS[0], linewidth=1.2, label="smoothed")
    for rate, name, colour in ((found.steepest, "steepest", COLOURS[2]), (found.tenth, "a tenth of the least", COLOURS[1])):
        if rate is not None:
            axes.axvline(rate, color=colour, linewidth=1.0, linestyle="--", label=name)
