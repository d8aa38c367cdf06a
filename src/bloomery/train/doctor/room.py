"""Whether steps will find the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator

from bloomery.core.units import human_bytes
from bloomery.train.doctor.patient import Finding, Patient
from bloomery.train.memory import SPARE, Needs, free_bytes


def memory(patient: Patient) -> Iterator[Finding]:
    """What is held at the worst moment of a step (weights, gradients, optimiser, activations of a micro-batch) against what is free."""
    device, there = str(patient.model.device), sum(parameter.nbytes for parameter in patient.model.parameters())
    needs = Needs(plan=patient.plan, micro_batch=patient.micro_batch, there=there, instead=patient.instead)
    free = free_bytes(device)
    verdict = "fail" if needs.to_come > free else "warn" if needs.to_come > SPARE * free else "pass"
    yield Finding(
        check="memory", verdict=verdict, figure=f"{needs}, of which {human_bytes(needs.to_come)} are still to come",
        rule=f"{human_bytes(free)} are free on {device}", remedy="" if verdict == "pass" else needs.remedy(free),
    )  # fmt: skip
