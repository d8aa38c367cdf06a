"""The engine under `Prepare`: filters over a corpus of any size, part by part, in bounded memory, on any number of workers."""

from bloomery.text.engine.executor import Executor, Processes, Ray
from bloomery.text.engine.refine import Refined, Refinery

__all__ = ["Executor", "Processes", "Ray", "Refined", "Refinery"]
