"""Where people look at a run's figures: TensorBoard unless another is named; what a run itself keeps is in its JSON lines.

Adding a tracker is a file with its class, and a line here, in `TrackerName`, and in the choices of `bloomery run --tracker`.
"""

from collections.abc import Mapping

from bloomery.train.trackers.aim import Aim
from bloomery.train.trackers.service import Service
from bloomery.train.trackers.tensorboard import TensorBoard
from bloomery.train.trackers.tracker import Session, Tracker, Trackers
from bloomery.train.trackers.trackio import Trackio
from bloomery.train.trackers.wandb import Wandb

TRACKERS: Mapping[str, type[Tracker]] = {"tensorboard": TensorBoard, "aim": Aim, "trackio": Trackio, "wandb": Wandb}

__all__ = ["TRACKERS", "Aim", "Service", "Session", "TensorBoard", "Tracker", "Trackers", "Trackio", "Wandb"]
