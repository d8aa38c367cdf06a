"""Decoding: samplers, the loops that drive a model and its cache, and models that answer over HTTP."""

from bloomery.generate.decode import Reads, complete, complete_by, stream
from bloomery.generate.draws import Draws
from bloomery.generate.endpoint import Access, RefusedError, Reply, ask
from bloomery.generate.samplers import Greedy, Random, Sampler

__all__ = ["Access", "Draws", "Greedy", "Random", "Reads", "RefusedError", "Reply", "Sampler", "ask", "complete", "complete_by", "stream"]
