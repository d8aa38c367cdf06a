"""Running a recipe: what is missing is made, in order; what is there is reused."""

from __future__ import annotations

from bloomery.recipe.graph import Recipe
from bloomery.recipe.lock import write_lock
from bloomery.stages.stage import RunContext
from bloomery.store import Artifact


def run(recipe: Recipe, context: RunContext, command: str = "") -> list[Artifact]:
    """Makes the wanted artifacts; the same call after any interruption goes on where it stood.

    The lock is written before (so that an interrupted run can be compared too) and after, with checksums.

    Args:
        recipe: what is wanted.
        context: where and how.
        command: that the lock tells as the one that goes on with it.
    """
    if context.mesh.leads:
        write_lock(recipe, context.store, command)
    made = [stage.run(context) for stage in recipe.wanted]
    if context.mesh.leads:
        write_lock(recipe, context.store, command)
    return made
