"""Optimisers, what they train, rates of layers, schedules, ramps of the batch, clipping, averaging: values handed to the loop."""

from bloomery.optim.adafactor import Adafactor
from bloomery.optim.adam import Adam
from bloomery.optim.adamw import AdamW
from bloomery.optim.average import Average
from bloomery.optim.batch import Batches, BatchRamp, BatchRule, Doublings, NoRamp, Rising
from bloomery.optim.clipping import clip_by_global_norm
from bloomery.optim.lamb import Lamb
from bloomery.optim.lars import Lars
from bloomery.optim.layer_rates import CosineRates, EvenRates, Geometric, LayerRates
from bloomery.optim.lion import Lion
from bloomery.optim.muon import Muon
from bloomery.optim.optimizer import Optimizer, OptimizerConfig
from bloomery.optim.schedule import WSD, Constant, InverseSqrt, Linear, Noam, Schedule, Sweep, Warmed, WarmRestarts, WarmupCosine
from bloomery.optim.sgd import Sgd
from bloomery.optim.trainable import Embeddings, Everything, Heads, LastLayers, Paths, Trainable

__all__ = [
    "WSD", "Adafactor", "Adam", "AdamW", "Average", "BatchRamp", "BatchRule", "Batches", "Constant", "CosineRates", "Doublings",
    "Embeddings", "EvenRates", "Everything", "Geometric", "Heads", "InverseSqrt", "Lamb", "Lars", "LastLayers", "LayerRates", "Linear",
    "Lion", "Muon", "NoRamp", "Noam", "Optimizer", "OptimizerConfig", "Paths", "Rising", "Schedule", "Sgd", "Sweep", "Trainable",
    "WarmRestarts", "Warmed", "WarmupCosine", "clip_by_global_norm",
]  # fmt: skip
