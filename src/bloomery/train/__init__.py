"""Training: the one loop, its state, its checkpoints, and what is recorded and measured along the way."""

from bloomery.train.checkpoints import Checkpoints, Keep
from bloomery.train.healing import Healing
from bloomery.train.loop import Course, StepReport, train
from bloomery.train.manner import Manner, Precision
from bloomery.train.state import TrainState

__all__ = ["Checkpoints", "Course", "Healing", "Keep", "Manner", "Precision", "StepReport", "TrainState", "train"]
