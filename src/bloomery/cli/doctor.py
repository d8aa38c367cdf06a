"""`bloomery doctor`: a line per check of each training of a recipe."""

from __future__ import annotations

import difflib
from typing import Literal

from rich.console import Console
from rich.text import Text

from bloomery.core.errors import ConfigError
from bloomery.recipe import Recipe
from bloomery.stages.doctor import Make, examine_training
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Train
from bloomery.train.doctor import FULL, QUICK, Finding

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def examine_recipe(recipe: Recipe, context: RunContext, stage: str | None, make: Make, effort: Literal["quick", "full"]) -> int:
    """Prints what is found in each training as it is found; returns how many failures there were.

    Args:
        recipe: with trainings in it.
        context: where and how they would run.
        stage: name of the only one to examine; None for all.
        make: what to make of what is missing.
        effort: how thoroughly to look.
    """
    console, found = Console(highlight=False, soft_wrap=True), list[Finding]()
    for training in trainings(recipe, stage):
        console.print(Text(training.reference, "bold"))
        for finding in examine_training(training, context, make, QUICK if effort == "quick" else FULL):
            found.append(finding)
            print_finding(console, finding)
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in STYLES}
    console.print(Text(f"{counts['pass']} checks passed, {counts['warn']} warn, {counts['fail']} failed", "bold"))
    return counts["fail"]


def trainings(recipe: Recipe, name: str | None) -> list[Train]:
    """Those of a recipe, in order; or the one of a name.

    Raises:
        ConfigError: there is none.
    """
    found = [stage for stage in recipe.stages() if isinstance(stage, Train)]
    if not found:
        raise ConfigError(f"recipe {recipe.name!r} has no training to examine; the doctor is for recipes with a Train stage")
    chosen = [stage for stage in found if name is None or name == stage.name]
    if not chosen:
        names = [stage.name for stage in found]
        near = difflib.get_close_matches(str(name), names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"it has {' and '.join(names)}"
        raise ConfigError(f"--stage {name} is no training of recipe {recipe.name!r}; {remedy}")
    return chosen


def print_finding(console: Console, finding: Finding) -> None:
    """Its line, with its details below it; what is from documents is printed as plain text."""
    line = Text(f"  {finding.verdict}", STYLES[finding.verdict])
    line.append(f"  {finding.check}", "bold").append(f": {finding.figure}; {finding.rule}", "default")
    if finding.remedy:
        line.append(f". {finding.remedy}", "default")
    console.print(line)
    for detail in finding.details:
        console.print(Text(f"          {detail}", "dim"))
