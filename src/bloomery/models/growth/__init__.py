"""Changes of a trained model, as values: fewer key-value heads, more layers, more width."""

from bloomery.models.growth.change import ModelChange, Opened, difference
from bloomery.models.growth.depth import Deepen, Duplicate
from bloomery.models.growth.heads import GroupHeads
from bloomery.models.growth.width import Widen

__all__ = ["Deepen", "Duplicate", "GroupHeads", "ModelChange", "Opened", "Widen", "difference"]
