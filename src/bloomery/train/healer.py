"""Who minds the steps of a run: `Healer`, which does what the ladder of `Healing` says, or `Bare`, which stops at what is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from torch import Tensor

from bloomery.core.errors import NumericsError
from bloomery.data.source import Source
from bloomery.train.guard import Guard
from bloomery.train.healing import MARGIN, Event, Healing, Signals, climb
from bloomery.train.snapshots import Snapshots
from bloomery.train.state import TrainState
from bloomery.train.suspects import Suspects

NAMED_DOCUMENTS = 8  # how many a message lists
Verdict = Literal["make", "skip", "again"]
"""Of a step: make its update, pass it over, or begin again from the state as it is now."""


class Step(NamedTuple):
    """A step before its update: its number from 0, its rows, and what all ranks have found."""

    number: int
    first_row: int
    rows: int
    loss: float
    grad_norm: float
    update: Sequence[float]
    """What the healer had pending."""
    learnt: float
    clipped: bool


class Bare:
    """Lets every update be made, but that of a step that is not finite."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._events: list[Event] = []

    @property
    def pending(self) -> Sequence[Tensor]:
        """What the step is to fetch together with its loss."""
        return ()

    def begin(self) -> None:
        """Before a step."""

    def judge(self, step: Step) -> Verdict:
        """What to do about a step.

        Raises:
            NumericsError: it is not finite.
        """
        if math.isfinite(step.loss) and math.isfinite(step.grad_norm):
            return "make"
        names = list(dict.fromkeys(span.id for span in self.source.documents(step.first_row, step.rows)))
        listed = ", ".join(names[:NAMED_DOCUMENTS]) + (f" and {len(names) - NAMED_DOCUMENTS} more" if len(names) > NAMED_DOCUMENTS else "")
        what = f"the loss is {step.loss}" if not math.isfinite(step.loss) else (
            f"the gradient's norm is {step.grad_norm} at a loss of {step.loss:.4g}")  # fmt: skip
        raise NumericsError(f"step {step.number + 1}: {what}; its documents are {listed}. "
                            "Lower the learning rate, lengthen the warm-up or clip harder")  # fmt: skip

    def make(self, update: Callable[[float], None]) -> None:
        """Makes an update, told the factor on the learning rate."""
        update(1.0)

    def told(self) -> tuple[Event, ...]:
        """What has happened since it was last asked."""
        events, self._events = tuple(self._events), []
        return events


class Healer(Bare):
    """Passes over bad steps, lowers the rate, rolls back; on several ranks, all alike, from numbers that are the same on all of them.

    Args:
        healing: the ladder.
        state: what steps change.
        source: of the rows.
        rows_before: of a step, as the course has it.
        suspects: finds the documents to blame.
        snapshots: to roll back to.
    """

    def __init__(
        self, healing: Healing, state: TrainState, source: Source, rows_before: Callable[[int], int], suspects: Suspects, snapshots: Snapshots,
    ) -> None:  # fmt: skip
        super().__init__(source)
        self.healing, self.state, self.rows_before, self.suspects, self.snapshots = healing, state, rows_before, suspects, snapshots
        self.guard = Guard(state.holding)

    @property
    def pending(self) -> Sequence[Tensor]:
        return () if self.state.update is None else self.state.update.unbind()

    def begin(self) -> None:
        if self.state.step % self.healing.snapshot_every == 0 and self.state.known.over:
            self.snapshots.keep(self.state)

    def judge(self, step: Step) -> Verdict:
        state, rows = self.state, (step.first_row, step.rows)
        known = state.known.anew() if self.source.turns(*rows) else state.known
        update, refused = step.update or (None, 0.0)
        state.update = None
        signals = Signals(step.loss, step.grad_norm, update, bool(refused), rows, step.learnt, step.clipped)
        state.known, events = climb(
            self.healing, known, step.number + 1, signals, lambda cause: self.suspects.among(rows, known.healthy_rows, cause),
        )  # fmt: skip
        for event in events:
            if event.rung == "roll back" and (event := self._back(event, step)).rung == "roll back":
                self._note(event)
                return "again"
            self._note(event)
            if event.rung == "stop":
                before = tried(state.known.events[:-1])
                raise NumericsError(f"{event}. Tried before: {before}. Lower the learning rate, lengthen the warm-up or leave documents out")
        return "skip" if events and events[-1].step > step.number else "make"

    def make(self, update: Callable[[float], None]) -> None:
        known, healing = self.state.known, self.healing
        self.state.update = self.guard.update(lambda: update(known.factor(healing)), healing.limit(known.updates, healing.update_rise))

    def _note(self, event: Event) -> None:
        self._events.append(event)
        self.state.known = replace(self.state.known, events=(*self.state.known.events, event.plain()))

    def _back(self, event: Event, step: Step) -> Event:
        """Goes back to before the trouble, if that can be, and on with the rows after this step's."""
        state, known = self.state, self.state.known
        if not self.snapshots.back(state, known.began - MARGIN):
            return replace(event, rung="stop")
        read, end = self.rows_before(state.step) + state.known.skipped_rows, step.first_row + step.rows
        snapshot = state.known.anew() if self.source.turns(read, end - read) else state.known
        state.known = known.back(snapshot, state.step, end - self.rows_before(state.step))
        return replace(event, back_to=state.step)


def tried(events: Sequence[Mapping[str, Any]]) -> str:
    """What was done so far, in a few words: "skip 3 times, lower 3 times"."""
    rungs = [event["rung"] for event in events]
    return ", ".join(f"{rung} {rungs.count(rung)} times" for rung in dict.fromkeys(rungs)) or "nothing"
