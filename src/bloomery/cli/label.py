"""The verb `label`: answers that people are to compare, and what they have said of them. Heavy imports stand inside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from bloomery.cli.options import store_option
from bloomery.core.errors import ConfigError


@click.command(
    epilog="""\b
Example: bloomery generate Train/chat --prompts questions.txt --samples 3 --by 'Random(temperature=1.0)' --output answers.jsonl
         bloomery label first --add answers.jsonl && bloomery ui      # people judge at …/#/label
         bloomery label first --rows preferences.jsonl                # for a reward model or DPO""",
)
@click.argument("name")
@click.option("--add", "added", type=click.File(encoding="utf-8"), help="Answers to be compared, JSON lines: of bloomery generate "
              "--samples; or \"prompt\" or \"messages\" with \"answers\", and \"gold\", a rank for each, where it is known.")  # fmt: skip
@click.option("--rows", "rows_path", type=click.Path(path_type=Path, dir_okay=False), help="Write what has been judged to this file, as rows "
              "of preferences.")  # fmt: skip
@click.option("--least", type=click.IntRange(min=1), default=1, show_default=True, help="People who must have ranked what becomes a row.")
@store_option
def label(name: str, added: Any, rows_path: Path | None, least: int, store_path: Path) -> None:
    """Add answers to the set NAME, write its rows, and tell how far those who judge agree."""
    from bloomery.stages.labels import Judgements, agreement, items_of, rows_of
    from bloomery.store import write_text

    path = store_path / "labels" / f"{checked(name)}.sqlite"
    if added is None and not path.exists():
        raise ConfigError(f"there is no set {name!r} in {store_path}; begin it with --add answers.jsonl")
    judgements = Judgements(path)
    if added is not None:
        found = items_of(added)
        new = judgements.add_items(found)
        click.echo(f"{name}: {new} items are new, {len(found) - new} were there; judge them with: bloomery ui --store {store_path}")
    items, standing = judgements.items(), judgements.standing()
    if rows_path is not None:
        rows = rows_of(items, standing, least)
        write_text(rows_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        click.echo(f"{rows_path}: {len(rows)} rows of {len(items)} items; read them with Files(path={str(rows_path)!r})")
    told = agreement(items, standing)
    for labeler, n in told.judged.items():
        right = "" if labeler not in told.gold else f", {told.gold[labeler][0]} of {told.gold[labeler][1]} known pairs as is known"
        click.echo(f"  {labeler}: {n} ranked{right}")
    for (one, other), (kappa, same, n) in told.between.items():
        click.echo(f"  {one} and {other}: the same of {same:.0%} of {n} pairs, κ {kappa:.2f}")


def checked(name: str) -> str:
    """A name that a file can have; raises `ConfigError` for any other."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(f"{name[:80]!r} cannot be the name of a set; take letters, digits, dots and lines")
    return name
