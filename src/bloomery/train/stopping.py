"""When a training ends before its last step, and which of its weights it leaves: rules, as values, over what was measured so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Le

from bloomery.core.config import Config


class Measured(NamedTuple):
    """What was measured after a step."""

    step: int
    figures: Mapping[str, float]


class Verdict(NamedTuple):
    """Why the training ends, "" if it goes on; and after which step its weights are the ones to leave."""

    reason: str
    best: int


class StopRule(Config):
    """A pure function of the measurements, so that a resumed run decides as one that was never interrupted."""

    @abstractmethod
    def judge(self, history: Sequence[Measured]) -> Verdict:
        """The verdict after the last of the measurements, of which there is one at least, that at step 0."""

    @abstractmethod
    def check_measured(self, figures: Collection[str]) -> None:
        """Refuses a rule over something that is not measured."""


class Patience(StopRule):
    """Ends when a figure has not become better for some measurements, and leaves the weights with which it was best.

    Source: Prechelt (1998), "Early stopping, but when?", UP criterion in its simplest form.
    """

    figure: str
    """Of the metrics: "held_out/<corpus>/bits_per_byte", "held_out/<corpus>/loss", "suite/<suite>/right"."""
    better: Literal["lower", "higher"] = "lower"
    """Which values are better."""
    measurements: Annotated[int, Ge(1)] = 3
    """How many in a row may be no better than the best before them."""
    least: Annotated[float, Ge(0)] = 0.0
    """What a value must be better by to count."""

    def judge(self, history: Sequence[Measured]) -> Verdict:
        sign, best, since = (1.0 if self.better == "higher" else -1.0), history[0], 0
        for one in history[1:]:
            better = sign * (one.figures[self.figure] - best.figures[self.figure]) > self.least
            best, since = (one, 0) if better else (best, since + 1)
        reason = f"{self.figure} has not become better than {best.figures[self.figure]:.4g}, after step {best.step}, for {since} measurements"
        return Verdict(reason if since >= self.measurements else "", best.step)

    def check_measured(self, figures: Collection[str]) -> None:
        if self.figure not in figures:
            raise self.refuse("figure", f"is not measured; {' or '.join(sorted(figures)) or 'give the watch something to measure'} would be")


class Holds(StopRule):
    """Ends when a suite of old tasks has fallen below a share of its best, and leaves the last weights with which it had not."""

    suite: str
    """The suite."""
    share: Annotated[float, Gt(0), Le(1)] = 0.95
    """Of its best, that must be kept."""

    def judge(self, history: Sequence[Measured]) -> Verdict:
        name, most, held = right_of(self.suite), 0.0, history[0].step
        for one in history:
            most = max(most, one.figures[name])
            if one.figures[name] < self.share * most:
                fallen = f"suite {self.suite} has fallen to {one.figures[name]:.1%} from {most:.1%}, less than {self.share:.0%} of it"
                return Verdict(fallen, held)
            held = one.step
        return Verdict("", held)

    def check_measured(self, figures: Collection[str]) -> None:
        if right_of(self.suite) not in figures:
            suites = [name.split("/")[1] for name in figures if name.startswith("suite/")]
            raise self.refuse("suite", f"is none of the watch's; {' or '.join(sorted(suites)) or 'give it Watch(suites=…)'} would be")


def right_of(suite: str) -> str:
    """The figure that a suite is measured by."""
    return f"suite/{suite}/right"


def forgotten_of(suite: str) -> str:
    """The figure of what it has lost from its best."""
    return f"suite/{suite}/forgotten"


def forgotten(history: Sequence[Measured], suite: str, right: float) -> float:
    """What a suite has lost from its best: max over what was measured before, and now, minus now; ≥ 0."""
    return max([right, *(one.figures[right_of(suite)] for one in history if right_of(suite) in one.figures)]) - right
