"""How plans, lineages and differences look in the terminal. All text from documents and configs is printed as plain text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from bloomery.core.units import human_bytes, human_seconds
from bloomery.recipe import Change, Dials, PlannedStage, Recipe
from bloomery.stages.forecast import rows_of
from bloomery.store import Artifact, Lineage, Store

console = Console(highlight=False, soft_wrap=True)
NEXT = {"Train": "bloomery chat {path}", "Convert": "bloomery chat {path}", "Report": "open {path}/report.html"}
STYLES = {"ready": "green", "resume": "yellow", "build": "cyan"}


def print_plan(dials: Dials, texts: Mapping[str, str], planned: Sequence[PlannedStage]) -> None:
    """The dials, then a line per stage: what happens to it and why."""
    if dials.described:
        console.print(Text(dials.described.splitlines()[0]))
    for name, default in dials.defaults().items():
        console.print(Text(f"  --{name.replace('_', '-')} {texts.get(name, default)}" + ("   (set)" if name in texts else "")), style="dim")
    print_stages(planned)


def print_recipe(recipe: Recipe) -> None:
    """Every stage with its fields that are not at their default."""
    for label, fields in recipe.flat().items():
        console.print(Text(label, "bold"))
        for name, value in fields.items():
            console.print(Text(f"    {name}: {value}"))


def print_stages(planned: Sequence[PlannedStage]) -> None:
    """A line per stage: what happens to it and why."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("status", "stage", "why"):
        table.add_column(heading, overflow="fold")
    for row in planned:
        note = row.stage.estimate() if row.status != "ready" else ""
        why = "; ".join(part for part in (row.why, note) if part)
        table.add_row(Text(row.status, STYLES[row.status]), Text(row.stage.reference), Text(why))
    console.print(table)
    for row in planned:
        if row.preview:
            console.print(Text(f"{row.stage.reference} would read", "bold"))
        for line in row.preview:
            console.print(Text(f"    {line}"))
    todo = sum(row.status != "ready" for row in planned)
    console.print(Text(f"{todo} of {len(planned)} stages would be made" if todo else "everything is there; a run would make nothing"))


def print_results(artifacts: Iterable[Artifact]) -> None:
    """Where the wanted artifacts are, their figures, and what to do next."""
    for artifact in artifacts:
        console.print(Text(f"{artifact.path}", "bold"))
        for name, value in artifact.manifest.summary.items():
            if not isinstance(value, dict | list):
                console.print(Text(f"    {name}: {_short(value)}"))
        print_compared(artifact)
        if next_step := NEXT.get(artifact.manifest.stage):
            console.print(Text(f"    try: {next_step.format(path=artifact.path)}", "green"))


def print_compared(artifact: Artifact) -> None:
    """What a training was planned to take, beside what it took; nothing of what was not planned."""
    for what, planned, measured, ratio in rows_of(artifact.manifest.summary.get("plan", {})):
        console.print(Text(f"    {what}: planned {planned}, measured {measured}, ratio {ratio}"))


def print_lineage(tree: Lineage) -> None:
    """The tree from an artifact back to its sources; what stands on it twice is drawn once."""
    console.print(_branch("", tree, set()))


def print_store(store: Store) -> None:
    """Every finished artifact, oldest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("artifact", "size", "made in"):
        table.add_column(heading)
    for artifact in store.artifacts():
        size = sum(record.bytes for record in artifact.manifest.files.values())
        table.add_row(Text(artifact.reference), human_bytes(size), human_seconds(artifact.manifest.made["seconds"]))
    console.print(table if table.row_count else Text(f"{store.root} holds no artifacts yet; try: bloomery run recipes/quickstart.py"))


def print_diff(differences: Mapping[str, Sequence[Change]]) -> None:
    """Changed fields by stage."""
    for label, changes in differences.items():
        console.print(Text(label, "bold"))
        for change in changes:
            console.print(Text(f"    {change}"))
    if not differences:
        console.print("no field differs")


def print_trace(artifact: Artifact, step: int, documents: Sequence[Any]) -> None:
    """The documents in a step's batch, a line each."""
    console.print(Text(f"{artifact.reference}, step {step}: {len({d.id for d in documents})} documents", "bold"))
    for found in documents:
        console.print(Text(f"  row {found.row}  tokens {found.start}–{found.stop} of {found.source} {found.id}"))


def _branch(field: str, tree: Lineage, drawn: set[str]) -> Tree:
    label = Text.assemble((f"{field}: " if field else "", "dim"), (tree.reference, "bold"))
    if tree.artifact is None:
        label.append("  (no longer in the store)", "red")
    else:
        figures = {k: v for k, v in tree.artifact.manifest.summary.items() if isinstance(v, int | float | str)}
        label.append("  " + ", ".join(f"{k} {_short(v)}" for k, v in list(figures.items())[:5]), "dim")
    branch = Tree(label)
    if tree.reference in drawn and tree.inputs:
        branch.add(Text("as above", "dim"))
        return branch
    drawn.add(tree.reference)
    for name, child in tree.inputs.items():
        branch.children.append(_branch(name, child, drawn))
    return branch


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(Path(value)) if isinstance(value, Path) else str(value)
