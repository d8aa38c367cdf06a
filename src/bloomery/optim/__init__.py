"""Optimisers, schedules, clipping, averaging: values handed to the loop."""

from bloomery.optim.adamw import AdamW
from bloomery.optim.average import Average
from bloomery.optim.clipping import clip_by_global_norm
from bloomery.optim.muon import Muon
from bloomery.optim.optimizer import Optimizer, OptimizerConfig
from bloomery.optim.schedule import WSD, Constant, Schedule, WarmupCosine

__all__ = ["WSD", "AdamW", "Average", "Constant", "Muon", "Optimizer", "OptimizerConfig", "Schedule", "WarmupCosine", "clip_by_global_norm"]
