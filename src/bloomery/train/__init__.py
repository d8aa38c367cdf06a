"""Training: the one loop, its state, its checkpoints, and what is recorded and measured along the way."""

from bloomery.train.checkpoint import resume, save_checkpoint
from bloomery.train.loop import Course, StepReport, train
from bloomery.train.manner import Manner, Precision
from bloomery.train.state import TrainState

__all__ = ["Course", "Manner", "Precision", "StepReport", "TrainState", "resume", "save_checkpoint", "train"]
