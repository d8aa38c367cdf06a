"""What alignment changes in a model besides its reward: how far it helps, what it makes up, whom it prefers, what slips; and views inside."""

from bloomery.stages.alignment.bias import PairedTexts, Swapped
from bloomery.stages.alignment.probe import Figure, Finding, Probe, Shown, View
from bloomery.stages.alignment.questions import Answers, Untold
from bloomery.stages.alignment.slips import Slips
from bloomery.stages.alignment.stage import Alignment
from bloomery.stages.alignment.views import AttentionMaps, LogitLens, Nearest

__all__ = [
    "Alignment", "Answers", "AttentionMaps", "Figure", "Finding", "LogitLens", "Nearest", "PairedTexts", "Probe", "Shown", "Slips", "Swapped",
    "Untold", "View",
]  # fmt: skip
