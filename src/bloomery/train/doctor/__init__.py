"""The doctor: small checks of a training before it starts, each made to find one kind of mistake.

A check is a function from a `Patient` to what it finds; adding one is a function and an entry in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bloomery.core.errors import BloomeryError
from bloomery.train.doctor.dead import gradient_flow, idle_blocks, saturated_heads, silent_units
from bloomery.train.doctor.gradients import gradients
from bloomery.train.doctor.loss import initial_loss
from bloomery.train.doctor.order import epochs, pure_rows
from bloomery.train.doctor.overfit import one_batch
from bloomery.train.doctor.patient import FULL, QUICK, Effort, Finding, Patient, Verdict
from bloomery.train.doctor.room import memory
from bloomery.train.doctor.scales import activations, first_update
from bloomery.train.doctor.sight import sight
from bloomery.train.doctor.targets import as_stored, conversations, loss_weights, shift
from bloomery.train.doctor.vocabulary import ids, unknown_tokens

Check = Callable[[Patient], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    memory, ids, unknown_tokens, pure_rows, epochs, as_stored, shift, loss_weights, conversations, sight, initial_loss, gradients,
    gradient_flow, idle_blocks, silent_units, saturated_heads, activations, first_update, one_batch,
)
"""In the order in which they are told: what the others stand on first."""


def examine(patient: Patient) -> Iterator[Finding]:
    """Everything that the checks find. A check that cannot be done, since what it looks at refuses, has found that."""
    for check in CHECKS:
        try:
            yield from check(patient)
        except BloomeryError as error:
            name = check.__name__.replace("_", " ")
            yield Finding(check=name, verdict="fail", figure="it could not be looked at", rule=str(error))


__all__ = ["CHECKS", "FULL", "QUICK", "Check", "Effort", "Finding", "Patient", "Verdict", "examine"]
