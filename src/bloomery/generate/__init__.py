"""Decoding: samplers, and the loops that drive a model and its cache."""

from bloomery.generate.decode import complete, stream
from bloomery.generate.samplers import Greedy, Random, Sampler

__all__ = ["Greedy", "Random", "Sampler", "complete", "stream"]
