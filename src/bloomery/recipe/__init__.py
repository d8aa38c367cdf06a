"""A graph of stages: plan it, run what is missing, compare it.

`recipe.pretrain` builds one; it is not imported here, since it needs torch and the rest does not.
"""

from bloomery.recipe.graph import Recipe
from bloomery.recipe.load import Dials, load_recipe, load_task
from bloomery.recipe.lock import read_lock, write_lock
from bloomery.recipe.plan import Change, PlannedStage, diff, plan
from bloomery.recipe.run import run

__all__ = ["Change", "Dials", "PlannedStage", "Recipe", "diff", "load_recipe", "load_task", "plan", "read_lock", "run", "write_lock"]
