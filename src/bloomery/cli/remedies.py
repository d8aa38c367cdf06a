"""`bloomery compare-remedies`: ways of tuning that do not forget, side by side; the table, and where the plot is."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bloomery.core.errors import ConfigError
from bloomery.recipe import Dials, Recipe, load_recipe, run
from bloomery.recipe.remedies import remedies
from bloomery.stages.remedies import Remedies
from bloomery.stages.stage import RunContext
from bloomery.store import read_json


def dials_of(spec: str | None) -> Dials:
    """Those of the user's recipe, or of ours on tales."""
    return Dials(remedies) if spec is None else load_recipe(spec)


def compare(recipe: Recipe, context: RunContext) -> None:
    """Makes what is missing, and prints the lines of the recipe behind the points.

    Raises:
        ConfigError: the recipe compares nothing.
    """
    if not any(isinstance(stage, Remedies) for stage in recipe.wanted):
        raise ConfigError(f"recipe {recipe.name!r} wants no Remedies, which says what is compared; end it with one, as recipes/remedies.py")
    artifacts = run(recipe, context)
    if context.quiet:
        return
    console = Console(highlight=False)
    for artifact in artifacts:
        if artifact.manifest.stage != Remedies.kind():
            continue
        folder = artifact.path
        found = read_json(folder / "results.json")
        table = Table(title="what makes each point", title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name in ("remedy", "line of the recipe", "front"):
            table.add_column(name)
        for name, one in found["remedies"].items():
            table.add_row(name, one["line"], "★" if name in found["front"] else "")
        console.print(table)
        console.print(f"the page is {folder / 'remedies.html'}, the plot {folder / 'remedies.svg'}", soft_wrap=True)
