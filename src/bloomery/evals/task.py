"""`EvalTask`: samples to put to a model, and the judgement of its answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Score:
    """A share of right answers.

    Attributes:
        right: answers judged right.
        asked: answers judged.
    """

    right: int
    asked: int

    @property
    def share(self) -> float:
        """right / asked, in [0, 1]."""
        return self.right / self.asked

    @property
    def standard_error(self) -> float:
        """√(p(1−p)/n) of the share, for samples drawn independently."""
        return math.sqrt(self.share * (1 - self.share) / self.asked)

    def __str__(self) -> str:
        return f"{self.share:.1%} ± {self.standard_error:.1%} ({self.right} of {self.asked})"


class EvalTask(Protocol):
    """What is asked and how it is judged; who asks the model is not its business."""

    def samples(self) -> Sequence[Any]:
        """What is put to the model."""
        ...

    def score(self, answers: Sequence[str]) -> Score:
        """The judgement of one answer per sample, in their order."""
        ...
