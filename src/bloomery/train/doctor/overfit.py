"""Whether one batch can be learnt by heart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bloomery.optim import AdamW, OptimizerConfig, clip_by_global_norm
from bloomery.train.doctor.loss import expected
from bloomery.train.doctor.patient import Finding, Patient, Verdict

ROWS = 2
SHARE = 0.5
"""Of the loss that may be left."""
USUAL = AdamW(learning_rate=3e-3, weight_decay=0.0)


class Learnt(NamedTuple):
    """What came of trying: the name of what was looked at, its first and last value, what it was to come down to, and the steps done."""

    name: str
    first: float
    last: float
    goal: float
    steps: int

    @property
    def well(self) -> bool:
        """Whether it came down."""
        return self.last <= self.goal

    @property
    def moves(self) -> bool:
        """Whether it came half as far."""
        return self.last <= (self.goal / SHARE + self.goal) / 2


def one_batch(patient: Patient) -> Iterator[Finding]:
    """Whether the loss of two rows falls to half (or half of ln V) in a few steps at the full rate, without warm-up: in a copy, which is then
    thrown away.

    If it does not with the training's own optimiser, a usual one tells whether that is what is wrong.

    Source: Karpathy (2019), "A Recipe for Training Neural Networks"; Goodfellow et al. (2016), Deep Learning, section 11.5.
    """
    own = learn(patient, patient.optimizer)
    verdict: Verdict = "pass"
    remedy = ""
    if not own.well:
        usual = learn(patient, USUAL)
        verdict = "warn" if usual.moves and own.last < own.first else "fail"
        remedy = f"With {USUAL} it falls to {usual.last:.3f}, so that model and data are sound: change the optimiser or its learning rate"
        if not usual.moves:
            remedy = f"With {USUAL} it comes to {usual.last:.3f}: nothing is learnt, so look at gradients, targets and dead layers"
    yield Finding(
        check="one batch", verdict=verdict, figure=f"{own.name} of {ROWS} rows {own.first:.3f} → {own.last:.3f} in {own.steps} steps",
        rule=f"at most {own.goal:.3f} is left after {patient.effort.steps} steps", remedy=remedy,
    )  # fmt: skip


def learn(patient: Patient, optimizer: OptimizerConfig) -> Learnt:
    """Learns two rows until there is enough of it, or the steps are used up."""
    model, batch, starts = patient.copy(), next(patient.batch.split(ROWS)), expected(patient)
    stepper, first, step = optimizer.build(model), None, 0
    while True:
        with patient.autocast():
            loss, figures = patient.reading(model, batch)
        name = main_of(figures)
        first = figures[name] if first is None else first
        goal = SHARE * min(first, starts[name].value if name in starts else first)
        found = Learnt(name, first, figures[name], goal, step)
        if found.well or step == patient.effort.steps or not math.isfinite(found.last):
            return found
        stepper.zero_grad()
        loss.backward()
        clip_by_global_norm(stepper.gradients, patient.clip_norm)
        stepper.step(patient.rate)
        step += 1


def main_of(figures: Mapping[str, float]) -> str:
    """The figure that says most plainly how much is learnt, without smoothing and penalties."""
    return next((name for name in figures if name == "nll" or name.endswith("/nll")), "loss")
