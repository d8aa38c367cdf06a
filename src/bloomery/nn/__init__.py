"""The parts that models are built of: layout, norms, positions, mixers, feed-forwards, caches."""

from bloomery.nn.attention import Attention
from bloomery.nn.cache import Cache, KeyValueCache, LayeredCache
from bloomery.nn.feedforward import SwiGLU
from bloomery.nn.init import FanInInit, NormalInit, WeightInit
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.mixer import SequenceMixer
from bloomery.nn.norms import RMSNorm
from bloomery.nn.positions import Rope
from bloomery.nn.wired import WiredInit

__all__ = [
    "Attention", "Cache", "FanInInit", "KeyValueCache", "LayeredCache", "NormalInit", "RMSNorm", "Rope", "SequenceLayout",
    "SequenceMixer", "SwiGLU", "WeightInit", "WiredInit",
]
