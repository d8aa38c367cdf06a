"""Synthetic data: who writes it (`Ours`, `Endpoint`), the stage that has it written, models that judge it, and what it was worth."""

from bloomery.stages.synthesis.generator import Endpoint, Generator, Ours
from bloomery.stages.synthesis.judges import Answered, Judge, Judged, Likelihood
from bloomery.stages.synthesis.synthesize import Synthesize

__all__ = ["Answered", "Endpoint", "Generator", "Judge", "Judged", "Likelihood", "Ours", "Synthesize"]
