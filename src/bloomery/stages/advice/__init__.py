"""What to do with some data and a model, from numbers: what is measured, the rules, and the lines of a recipe that follow them."""

from bloomery.stages.advice.lines import recipe_lines
from bloomery.stages.advice.measure import Measured, measure
from bloomery.stages.advice.rules import RULES, Advice, advise

__all__ = ["RULES", "Advice", "Measured", "advise", "measure", "recipe_lines"]
