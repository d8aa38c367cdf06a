"""`bloomery advise`: what was measured, what follows, each with its number, and the recipe that does it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bloomery.core.errors import ConfigError
from bloomery.core.units import count_of
from bloomery.stages.advice import advise, measure, recipe_lines
from bloomery.store import write_text
from bloomery.text.readers import Files


def print_advice(
    data: Path, model: Path, *, old: Path | None, learnt: str | None, pretrained_at: float | None, recipe: Path | None, form: str,
) -> None:
    """Measures, and prints advice and recipe.

    Args:
        data: rows or texts, as `Files` reads them.
        model: a folder as the hub has it.
        old: text to replay.
        learnt: tokens that the model has seen, as people write numbers.
        pretrained_at: the highest rate of its pre-training.
        recipe: where to write the recipe; None prints it.
        form: "table" or "json".

    Raises:
        ConfigError: there is no such data, or no model.
    """
    for name, path in (("DATA", data), ("MODEL", model), ("--old", old)):
        if path is not None and not path.exists():
            raise ConfigError(f"{name} {path} does not exist; give a file or a folder that does")
    measured = measure(Files(path=str(data)), model, None if learnt is None else count_of(learnt), pretrained_at)
    lines, text = advise(measured), recipe_lines(measured, data.resolve(), model.resolve(), None if old is None else old.resolve())
    if recipe is not None:
        write_text(recipe, text)
    if form == "json":
        print(json.dumps({"measured": asdict(measured), "advice": [asdict(line) for line in lines], "recipe": text}, indent=2))
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "advice", "because", "source"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(Text(line.about, "bold"), Text(line.advice), Text(line.evidence), Text(line.source, "dim"))
    console.print(table)
    print(f"bloomery run {recipe}" if recipe is not None else f"\n{text}")
