"""A graph of stages: plan it, run what is missing, compare it, show where a model came from."""

from bloomery.recipe.graph import Recipe
from bloomery.recipe.lineage import lineage
from bloomery.recipe.load import Dials, load_recipe
from bloomery.recipe.lock import read_lock, write_lock
from bloomery.recipe.plan import Change, PlannedStage, diff, plan
from bloomery.recipe.pretrain import pretrain
from bloomery.recipe.run import run

__all__ = ["Change", "Dials", "PlannedStage", "Recipe", "diff", "lineage", "load_recipe", "plan", "pretrain", "read_lock", "run", "write_lock"]
