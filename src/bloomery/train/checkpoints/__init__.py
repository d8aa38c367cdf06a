"""Checkpoints: how a run goes on, under the layout it was saved under or any other."""

from bloomery.train.checkpoints.checkpoints import Checkpoints
from bloomery.train.checkpoints.folder import Keep

__all__ = ["Checkpoints", "Keep"]
