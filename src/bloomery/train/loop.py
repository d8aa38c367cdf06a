"""The one training loop: a generator that does optimiser steps and yields a report of each.

Its caller decides about logging, checkpoints, measuring and stopping; it may do anything between two reports, and the clock does not count it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bloomery.core.config import to_plain
from bloomery.core.rng import derive_seed
from bloomery.data.source import Source
from bloomery.mesh import Phase
from bloomery.objectives import Objective
from bloomery.optim import BatchRamp, BatchRule, NoRamp, Schedule, clip_by_global_norm
from bloomery.optim.batch import Batches
from bloomery.train.healer import Bare, Healer, Step
from bloomery.train.healing import Event, Healing
from bloomery.train.manner import Manner, Precision
from bloomery.train.passes import passes
from bloomery.train.scaling import LossScale
from bloomery.train.snapshots import InMemory, Snapshots
from bloomery.train.state import TrainState
from bloomery.train.suspects import Suspects
from bloomery.train.wishes import NONE, Wish


@dataclass(frozen=True, kw_only=True)
class Course:
    """What decides the numbers of a run.

    Attributes:
        objective: the loss.
        schedule: factor on the learning rates.
        steps: optimiser steps of the whole run.
        rows: rows per step, when the batch is full.
        ramp: how it comes to be full.
        batch_rule: how learning rates follow the batch; None leaves them as they are given.
        clip_norm: largest global norm of the gradient; None clips nothing.
        precision: of matrix products.
        seed: of whatever is random within a step.
        healing: what is done about steps that would do harm; None stops at the first that is not finite.
    """

    objective: Objective
    schedule: Schedule
    steps: int
    rows: int
    ramp: BatchRamp = field(default_factory=NoRamp)
    batch_rule: BatchRule | None = None
    clip_norm: float | None = 1.0
    precision: Precision = "fp32"
    seed: int = 0
    healing: Healing | None = None

    def factor(self, step: int, tokens: int) -> float:
        """The factor on the learning rates of a step of so many tokens."""
        return self.schedule.factor(step, self.steps) * (1.0 if self.batch_rule is None else self.batch_rule.factor(tokens))

    @property
    def facts(self) -> dict[str, Any]:
        """What, with the step, says the place in the data, what is random, the rates, and what is done about bad steps: plain data, for
        checkpoints."""
        decisive = {"schedule": self.schedule, "ramp": self.ramp, "batch_rule": self.batch_rule, "healing": self.healing}
        return {"rows": self.rows, "seed": self.seed, "steps": self.steps, **to_plain(decisive)}


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did.

    Attributes:
        step: optimiser steps done, this one included; from 1.
        loss: the objective, each term per unit of its weight, before the update.
        grad_norm: global norm of the gradient before clipping.
        learning_rate: the rate of the update, the highest of all groups.
        rates: by role of a parameter; see `Optimizer.rates`.
        update_norm: ‖Δθ‖ / ‖θ‖ of the update before this one, which is fetched together with the loss; None where nobody minds the steps, and
            where there was none.
        tokens: places of all rows so far, padding included.
        learnt: weight of this step as the first term counts it: how many tokens it learnt from, where weights are 0 and 1.
        seconds: duration of the step.
        tokens_per_s: its rows · time / seconds.
        metrics: those of each term of the objective, per unit of its weight; the first term's where several have one of a name; and what the
            source knows of the rows.
        wish: what any rank has asked for.
        events: bad steps since the last report, and what was done about them. After a roll-back the steps are counted from there again.
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    learnt: float
    seconds: float
    tokens_per_s: float
    rates: Mapping[str, float] = field(default_factory=dict)
    update_norm: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    wish: Wish = NONE
    events: tuple[Event, ...] = ()


At = Callable[[int, Phase], None]
"""Told where a run is: the step, from 1, and what of it."""


def nowhere(step: int, phase: Phase) -> None:
    """Takes no notice."""


def train(
    state: TrainState, source: Source, course: Course, manner: Manner, wish: Callable[[], Wish] = Wish, at: At = nowhere,
    snapshots: Snapshots | None = None,
) -> Iterator[StepReport]:  # fmt: skip
    """Trains from `state.step` to `course.steps`, changing `state`.

        g = Σ over micro-batches and terms of ∂(totalᵢ / Wᵢ);  Wᵢ = the weight of all rows of the step, as term i counts them

    The division by Wᵢ, known before the first backward pass, is the only one, so that the micro-batch changes nothing but rounding.
    Terms on weights (`Penalty`) join when the gradients of all rows and ranks are added up.

    Args:
        state: fresh or from a checkpoint; consistent at every yield.
        source: rows by their global number.
        course: what decides the numbers.
        manner: how they are computed.
        wish: what this rank asks for, asked once a step; nothing, if nothing is said.
        at: told what is being done.
        snapshots: where a run that heals keeps what it can be rolled back to; in memory, if nothing is said.

    Yields:
        A report after each step.

    Raises:
        ConfigError: the ranks cannot share the rows of a step.
        NumericsError: loss or gradient is not finite, and nothing is left to be done about it; nothing has been updated then, and the message
            names step and documents.
    """
    model, optimizer, holding = state.model, state.optimizer, state.holding
    mesh = holding.mesh
    batches = course.ramp.batches(course.rows, source.time)
    batches.check_readers(mesh.readers.size)
    run = passes(state.models, holding, course.objective, manner, course.precision)
    if course.precision == "fp16" and state.scale == LossScale(1.0):
        state.scale = LossScale()
    care = _care(state, source, course, manner, batches, snapshots or InMemory())
    while state.step < course.steps:
        started = time.perf_counter()
        model.train()  # whoever looked at the model between two reports may have left it otherwise
        care.begin()
        step = state.step
        rows_of_step, first_row = batches.rows_of(step), batches.rows_before(step) + state.known.skipped_rows
        at(step + 1, "reading rows")
        torch.manual_seed(derive_seed(course.seed, "step", step))
        first, rows = mesh.readers.share(rows_of_step)
        batch = source.batch(first_row + first, rows)
        weights = [weight or 1.0 for weight in mesh.readers.total(course.objective.weights(batch))]
        holding.forget_gradients()
        at(step + 1, "forward and backward passes")
        sums = run(batch, weights, scale=state.scale.factor)
        at(step + 1, "adding up gradients")
        holding.add_up()
        if state.scale.factor != 1.0:
            torch._foreach_mul_(optimizer.gradients, 1 / state.scale.factor)
        for pull in state.beside.pulls:
            sums.add_once(pull.add(mesh.device))
        norm = clip_by_global_norm(optimizer.gradients, course.clip_norm, state.spoken, mesh.world)
        along = [norm, *care.pending]
        figures, (grad_norm, *update), asked = sums.means(holding, along, wish()._asdict())  # the step's only wait for the device
        loss = figures.pop("loss")
        if course.precision == "fp16":
            fits, before = math.isfinite(grad_norm), state.scale.factor
            state.scale = state.scale.after(fits)
            if not fits and state.scale.factor < before:
                continue  # the same step again
        verdict = care.judge(Step(step, first_row, rows_of_step, loss, grad_norm, update, weights[0], course.clip_norm is not None))
        if verdict == "again":
            continue
        if verdict == "make":
            at(step + 1, "updating weights")
            rate = course.factor(step, rows_of_step * source.time)
            care.make(lambda factor, rate=rate: optimizer.step(rate * factor))
            if state.average is not None:
                state.average.update()
        state.step += 1
        at(state.step + 1, "between steps")
        seconds = time.perf_counter() - started
        yield StepReport(
            step=state.step, loss=loss, grad_norm=grad_norm, learning_rate=optimizer.learning_rate,
            rates=optimizer.rates, update_norm=update[0] if update else None,
            metrics={**figures, **source.figures(first_row, rows_of_step)},
            tokens=batches.rows_before(state.step) * source.time, learnt=weights[0], seconds=seconds,
            tokens_per_s=rows_of_step * source.time / seconds, wish=Wish(**{name: bool(ranks) for name, ranks in asked.items()}),
            events=care.told(),
        )


def _care(state: TrainState, source: Source, course: Course, manner: Manner, batches: Batches, snapshots: Snapshots) -> Bare:
    """Who minds the steps."""
    if course.healing is None:
        return Bare(source)
    eager = passes(state.models, state.holding, course.objective, replace(manner, micro_batch=1, compiled=False), course.precision)
    suspects = Suspects(state.model, eager, source, course.objective, state.holding, state.optimizer, course.healing)
    return Healer(course.healing, state, source, batches.rows_before, suspects, snapshots)
