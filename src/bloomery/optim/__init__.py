"""Optimisers, schedules, ramps of the batch, clipping, averaging: values handed to the loop."""

from bloomery.optim.adamw import AdamW
from bloomery.optim.average import Average
from bloomery.optim.batch import Batches, BatchRamp, BatchRule, Doublings, NoRamp, Rising
from bloomery.optim.clipping import clip_by_global_norm
from bloomery.optim.muon import Muon
from bloomery.optim.optimizer import Optimizer, OptimizerConfig
from bloomery.optim.schedule import WSD, Constant, Schedule, WarmupCosine

__all__ = [
    "WSD", "AdamW", "Average", "BatchRamp", "BatchRule", "Batches", "Constant", "Doublings", "Muon", "NoRamp", "Optimizer", "OptimizerConfig",
    "Rising", "Schedule", "WarmupCosine", "clip_by_global_norm",
]
