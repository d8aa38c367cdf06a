"""`Healing`: what is done about steps that would harm a model. Numbers in, what to do out; no tensors here, and no ranks.

Each step is compared with the healthy ones before it. One that is far out does not touch the weights, and as long as such steps go on, more is
done about them, rung by rung:

    skip        the update of the step is not made
    lower       nor is it, and the steps after it learn at a lower rate, which comes back by and by
    roll back   to a snapshot from before the trouble, to go on with rows that have not been read yet
    stop        with a report

Where documents of the batch stand out beside those of a healthy step, under the same weights, it is they that are bad; the weights, which no
bad step has touched, are sound. Then there is no use in the two rungs between, and such steps are skipped, as many as `spoilt` allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Lt

from bloomery.core.config import Config
from bloomery.core.units import Steps

Rung = Literal["skip", "lower", "roll back", "stop"]
Cause = Literal["not finite", "update", "loss", "grad_norm"]
TO_SIGMA = 1.4826  # × the median distance from the median = the standard deviation, of a normal distribution
LOWEST_RATE = 1e-3
NAMED = 8  # documents that a line lists
MARGIN = 8  # steps before the first bad one in which whatever led to it may have begun


class Healing(Config):
    """When a step counts as bad, and how much is done about it.

    A step is bad if its loss or its gradient is not finite, or if one of three values x is far above those of the last healthy steps:

        x > m + max(sigmas · σ, (rise − 1) · |m|),  m = median, σ = 1.4826 · median |x − m|

    and, for a loss, if it is above by more than `surprise / W` besides, where W is what the step learns from: a few targets that the model had
    thought all but impossible say little of a batch, however low its losses have come to be.

    The values are the loss, the norm of the gradient as it reaches the optimiser, and the size of the update, ‖Δθ‖ / ‖θ‖. The last is known
    once the update is made, and is the first of the three to show that something goes wrong; an update that is too large is taken back at once.
    Bad steps never enter what later ones are compared with.

    Where gradients are clipped, none that is finite is bad: before clipping, single healthy batches come to ten times the median and more
    (docs/log.md, "False alarms"), and after it they are no more than what was asked for.

    Source: skipping a few hundred batches from a checkpoint before the spike: Chowdhery et al. (2022), arXiv 2204.02311 §5.1; updates that
    grow before losses do: Molybog et al. (2023), arXiv 2304.09871, Wortsman et al. (2023), arXiv 2304.13013 §3.4. The rungs between are ours.
    """

    window: Annotated[Steps, Ge(8)] = 64
    """Healthy steps that a step is compared with."""
    least: Annotated[Steps, Ge(4)] = 16
    """Healthy steps before which nothing but values that are not finite makes a step bad."""
    sigmas: Annotated[float, Gt(0)] = 8.0
    """Robust standard deviations from which a value is far out, if it is above its `rise` too."""
    loss_rise: Annotated[float, Gt(1)] = 1.2
    """Times the median from which a loss can be far out."""
    surprise: Annotated[float, Ge(0)] = 50.0
    """Nats over a whole step from which a loss can be far out: five targets that the model gave e⁻¹⁰."""
    gradient_rise: Annotated[float, Gt(1)] = 4.0
    """Times the median from which a gradient's norm can be far out, where it is not clipped."""
    update_rise: Annotated[float, Gt(1)] = 3.0
    """Times the median from which an update can be far out; more than the 2 to which a linear warm-up comes."""
    skips: Annotated[int, Ge(0)] = 3
    """Bad steps of one trouble that are skipped, and no more is done, where no document is to blame."""
    spoilt: Annotated[int, Ge(0)] = 50
    """Bad steps of one trouble that are skipped where documents are to blame, before it is time to look at the corpus."""
    lowers: Annotated[int, Ge(0)] = 3
    """Further ones, at each of which the rate is lowered, too."""
    lowered: Annotated[float, Gt(0), Lt(1)] = 0.3
    """Factor by which the rate is lowered; where an update was too large, as far as brings it back to the usual, if that is less."""
    recovery: Annotated[Steps, Gt(0)] = 20
    """Healthy steps in which a lowered rate comes back, by equal factors."""
    rollbacks: Annotated[int, Ge(0)] = 2
    """How often one trouble may lead back to a snapshot."""
    calm: Annotated[Steps, Gt(0)] = 32
    """Healthy steps after which a trouble is over, and the next one begins at the foot of the ladder."""
    snapshot_every: Annotated[Steps, Gt(0)] = 250
    """Steps between the snapshots that a run can be rolled back to, of which two are kept."""

    def check(self) -> None:
        if self.least > self.window:
            raise self.refuse("least", f"is more than window={self.window}, so that no step would ever be judged; lower it")

    def limit(self, healthy: Sequence[float], rise: float, least: float = 0.0) -> float:
        """The value above which a step is bad, by `least` above the usual at the least; ∞ while there are too few healthy ones."""
        if len(healthy) < self.least:
            return math.inf
        middle = median(healthy)
        sigma = TO_SIGMA * median(abs(value - middle) for value in healthy)
        return middle + max(self.sigmas * sigma, (rise - 1) * abs(middle), least)


class Signals(NamedTuple):
    """What is known of a step before its update, and of the update before it."""

    loss: float
    grad_norm: float
    update: float | None = None
    """‖Δθ‖ / ‖θ‖ of the step before; None where there was none."""
    refused: bool = False
    """Whether that update was taken back."""
    rows: tuple[int, int] = (0, 0)
    """First row and number of rows of the step."""
    learnt: float = math.inf
    """W: the weight of all that the step learns from."""
    clipped: bool = False
    """Whether the gradient is clipped before it reaches the optimiser."""


Blame = Callable[[Cause], Sequence[Mapping[str, Any]]]
"""Why a step is bad → the documents of its batch that stand out, as plain data."""


def nobody(cause: Cause) -> Sequence[Mapping[str, Any]]:
    """Blames no document."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Event:
    """A bad step, and what was done about it.

    Attributes:
        step: that was bad, from 1.
        rung: what was done.
        cause: which value was far out, or that one was not finite.
        loss, grad_norm, update: the values; that of the update is of the step before, unless it is the cause.
        limit: what the value of the cause was allowed to be.
        rows: the first row of the step's batch, and how many it has.
        documents: those of them that stand out, as plain data; empty where it is none of them.
        rate: factor on the learning rate afterwards.
        back_to: the step that was gone back to.
    """

    step: int
    rung: Rung
    cause: Cause
    loss: float
    grad_norm: float
    update: float | None = None
    limit: float | None = None
    rows: tuple[int, int] = (0, 0)
    documents: tuple[Mapping[str, Any], ...] = ()
    rate: float = 1.0
    back_to: int | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it: numbers that are not finite as words."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Event:
        """Back from JSON."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        values |= {name: float(values[name]) for name in ("loss", "grad_norm", "update", "limit") if values.get(name) is not None}
        return cls(**values)

    def __str__(self) -> str:
        what, value = {
            "loss": ("the loss", self.loss), "grad_norm": ("the norm of the gradient", self.grad_norm), "update": ("the update", self.update),
            "not finite": ("the loss or the norm of the gradient", None),
        }[self.cause]  # fmt: skip
        finite = value is not None and math.isfinite(value) and self.limit is not None
        why = f"{what} is {value:.4g}, above {self.limit:.4g}" if finite else f"{what} is not finite"
        done = {
            "skip": "its update is not made",
            "lower": f"its update is not made, and for a while the rate is {self.rate:.2g} of what it would be",
            "roll back": f"going back to step {self.back_to}, and on with rows not read yet", "stop": "nothing is left to be tried",
        }[self.rung]  # fmt: skip
        names = list(dict.fromkeys(str(document["id"]) for document in self.documents))
        listed = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        return f"step {self.step}: {why}; {done}" + (f"; what stands out in its batch: {listed}" if names else "")


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What the ladder knows: plain numbers, a part of the checkpoint, so that a resumed run decides as an uninterrupted one.

    Attributes:
        losses, grad_norms, updates: of the last healthy steps.
        healthy_rows: first row and number of rows of the last healthy step.
        bad, spoilt: bad steps of the trouble so far for which no document is to blame, and those for which some are; 0 where there is none.
        began, worst: its first and its last bad step.
        calm: healthy steps since.
        rollbacks: how often it has led back.
        rate, recovered: what the rate was lowered to last, and healthy steps since.
        jumps: (step, rows passed over from it on), in order of steps, as they hold for the weights.
        events: all that happened, what was rolled back, too.
    """

    losses: tuple[float, ...] = ()
    grad_norms: tuple[float, ...] = ()
    updates: tuple[float, ...] = ()
    healthy_rows: tuple[int, int] | None = None
    bad: int = 0
    spoilt: int = 0
    began: int = 0
    worst: int = 0
    calm: int = 0
    rollbacks: int = 0
    rate: float = 1.0
    recovered: int = 0
    jumps: tuple[tuple[int, int], ...] = ()
    events: tuple[Mapping[str, Any], ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        """For a checkpoint's JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Ledger:
        """Back from a checkpoint."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        values["jumps"] = tuple((step, rows) for step, rows in values.get("jumps", ()))
        return cls(**values)

    @property
    def over(self) -> bool:
        """Whether there is no trouble."""
        return not (self.bad or self.spoilt or self.rollbacks)

    @property
    def skipped_rows(self) -> int:
        """Rows that have been passed over by rolling back."""
        return self.jumps[-1][1] if self.jumps else 0

    def factor(self, healing: Healing) -> float:
        """On the learning rate: 1, but for a while after it was lowered."""
        return 1.0 if self.recovered >= healing.recovery else self.rate ** (1 - self.recovered / healing.recovery)

    def anew(self) -> Ledger:
        """Without what losses and gradients are compared with: the rows that come are of another kind."""
        return replace(self, losses=(), grad_norms=(), healthy_rows=None)

    def back(self, snapshot: Ledger, step: int, skipped_rows: int) -> Ledger:
        """What is known after going back to a snapshot's step: its healthy steps, all that has been tried since, and where to read on."""
        jumps = tuple(jump for jump in self.jumps if jump[0] < step)
        return replace(
            self, losses=snapshot.losses, grad_norms=snapshot.grad_norms, updates=snapshot.updates, healthy_rows=snapshot.healthy_rows, bad=0,
            spoilt=0, calm=0, jumps=(*jumps, (step, skipped_rows)),
        )  # fmt: skip


def climb(healing: Healing, ledger: Ledger, step: int, signals: Signals, blame: Blame = nobody) -> tuple[Ledger, list[Event]]:
    """What is to be done about a step, and what is known afterwards.

    Args:
        healing: the thresholds.
        ledger: what is known.
        step: from 1, whose update is to be made.
        signals: of it, and of the update before it.
        blame: asked about a step that is bad.

    Returns:
        The ledger, without the events, and a new event for each bad step: the one before, for its update; this one, for its loss or gradient.
        A step that has an event of its own makes no update; "roll back" and "stop" are for whoever keeps the snapshots to carry out.
    """
    events: list[Event] = []
    if signals.refused:
        ledger, event = _up(healing, ledger, step - 1, "update", signals, healing.limit(ledger.updates, healing.update_rise), ())
        events.append(event)
        if event.rung in ("roll back", "stop"):
            return ledger, events
    elif signals.update is not None and ledger.factor(healing) == 1.0:
        ledger = replace(ledger, updates=(*ledger.updates, signals.update)[-healing.window :])
    if (found := _cause(healing, ledger, signals)) is not None:
        ledger, event = _up(healing, ledger, step, *found, blame(found[0]))
        return ledger, [*events, event]
    return _on(healing, ledger, step, signals), events


def _cause(healing: Healing, ledger: Ledger, signals: Signals) -> tuple[Cause, Signals, float] | None:
    """Why a step is bad before its update, and the limit that was crossed."""
    if not (math.isfinite(signals.loss) and math.isfinite(signals.grad_norm)):
        return "not finite", signals, math.inf
    surprise = healing.surprise / signals.learnt if signals.learnt else math.inf
    if signals.loss > (limit := healing.limit(ledger.losses, healing.loss_rise, surprise)):
        return "loss", signals, limit
    if not signals.clipped and signals.grad_norm > (limit := healing.limit(ledger.grad_norms, healing.gradient_rise)):
        return "grad_norm", signals, limit
    return None


def _up(
    healing: Healing, ledger: Ledger, step: int, cause: Cause, signals: Signals, limit: float, documents: Sequence[Mapping[str, Any]]
) -> tuple[Ledger, Event]:
    """One bad step more: the rung that it has come to, and the ledger there."""
    began = step if ledger.over else ledger.began
    ledger = replace(
        ledger, bad=ledger.bad + (not documents), spoilt=ledger.spoilt + bool(documents), began=began, worst=max(step, ledger.worst), calm=0,
    )  # fmt: skip
    rung: Rung = "skip"
    if documents:
        rung = "stop" if ledger.spoilt > healing.spoilt else "skip"
    elif ledger.bad > healing.skips + healing.lowers:
        rung = "roll back" if ledger.rollbacks < healing.rollbacks else "stop"
        ledger = replace(ledger, rollbacks=ledger.rollbacks + (rung == "roll back"))
    elif ledger.bad > healing.skips:
        rung = "lower"
        ledger = replace(ledger, rate=max(LOWEST_RATE, ledger.factor(healing) * _lowered(healing, ledger, cause, signals)), recovered=0)
    rows = signals.rows if cause != "update" else ledger.healthy_rows or (0, 0)
    return ledger, Event(
        step=step, rung=rung, cause=cause, loss=signals.loss, grad_norm=signals.grad_norm, update=signals.update, rows=rows,
        limit=limit if math.isfinite(limit) else None, documents=tuple(documents), rate=ledger.factor(healing),
    )  # fmt: skip


def _lowered(healing: Healing, ledger: Ledger, cause: Cause, signals: Signals) -> float:
    """The factor by which the rate is lowered."""
    if cause != "update" or not ledger.updates or not signals.update or not math.isfinite(signals.update):
        return healing.lowered
    return min(healing.lowered, median(ledger.updates) / signals.update)


def _on(healing: Healing, ledger: Ledger, step: int, signals: Signals) -> Ledger:
    """One healthy step more."""
    ledger = replace(ledger, calm=ledger.calm + 1, recovered=ledger.recovered + 1)
    if ledger.calm >= healing.calm and step >= ledger.worst + healing.calm:
        ledger = replace(ledger, bad=0, spoilt=0, rollbacks=0)
    if not signals.loss and not signals.grad_norm:  # nothing was to be learnt, which says nothing of the next step
        return ledger
    return replace(
        ledger, losses=(*ledger.losses, signals.loss)[-healing.window :], grad_norms=(*ledger.grad_norms, signals.grad_norm)[-healing.window :],
        healthy_rows=signals.rows,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, Mapping) else value
