"""Gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bloomery.core.rng import derive_seed
from bloomery.data import Batch
from bloomery.models import Model
from bloomery.models.sharing import DifferenceEmbedding
from bloomery.optim.groups import Member, members
from bloomery.train.doctor.patient import Finding, Patient, rms

STEPS = {torch.float64: (1e-5, 1e-4), torch.float32: (3e-3, 3e-2)}
"""Precision of the loss → ε, and the relative error from which a gradient is wrong. Rounding costs 1e-16/ε or 1e-7/ε of the loss, which is
some hundred times the derivative along a direction; the curvature costs ε²."""
ZERO_SCALE = 0.01
"""Size of the perturbation of a parameter that is all zeros."""
CHECK = "gradients"


def gradients(patient: Patient) -> Iterator[Finding]:
    """Whether the backward pass gives the derivative of the forward pass, for the parameters of each role along random directions d:

        ⟨∇L, d⟩ = (L(θ + εd) − L(θ − εd)) / 2ε,   d ~ N(0, rms(θᵢ)²)

    The relative error is that of the difference to the largest of both sides and of what ⟨∇L, d⟩ is on average. In float64, which losses of
    ours keep; where one does not, with a larger ε. Where ε and 2ε disagree, the loss is not smooth, and what they differ by is allowed for.
    Parameters from which a model stops the gradient on purpose are left out.

    Source: the test: LeCun et al. (1998), "Efficient BackProp"; central differences and ε: Bengio (2012), arXiv 1206.5533, section 4.2.
    """
    model, row = patient.copy().double(), patient.source.batch(0, 1).to(patient.model.device)
    stopped = {id(module.of.weight) for module in model.modules() if isinstance(module, DifferenceEmbedding)}
    everything = [member for member in members(model) if id(member.parameter) not in stopped]
    loss, _ = patient.reading(model, row)
    loss.backward()
    for role in dict.fromkeys(member.role for member in everything):
        chosen = [member for member in everything if member.role is role]
        errors = [compared(patient, model, row, chosen, number) for number in range(patient.effort.directions)]
        worst, (epsilon, tolerance) = max(errors), STEPS[loss.dtype]
        wrong = []
        if not worst <= tolerance:
            wrong = [one.name for one in chosen if not compared(patient, model, row, [one], 0) <= tolerance]
        count = sum(member.parameter.numel() for member in chosen)
        yield Finding(
            check=CHECK, verdict="pass" if worst <= tolerance else "fail",
            figure=f"{role.value}: relative error {worst:.1e} along {len(errors)} directions of {count} numbers",
            rule=f"at most {tolerance:g} with ε = {epsilon:g} in {str(loss.dtype).removeprefix('torch.')}",
            remedy="" if worst <= tolerance else _remedy(wrong),
        )  # fmt: skip


def _remedy(wrong: Sequence[str]) -> str:
    if not wrong:
        return "No parameter is wrong by itself: look at what they share"
    return (f"Wrong in {len(wrong)} parameters, of which {wrong[-1]} is the nearest to the loss: check the backward pass of what stands "
            "behind it")  # fmt: skip


def compared(patient: Patient, model: Model, row: Batch, chosen: Sequence[Member], number: int) -> float:
    """The relative error along one direction, less what finite differences themselves are unsure of."""
    generator = torch.Generator().manual_seed(derive_seed(patient.seed, "direction", chosen[0].role.value, number))
    scales = [rms(member.parameter) or ZERO_SCALE for member in chosen]
    direction = [
        (torch.randn(member.parameter.shape, generator=generator, dtype=torch.float64) * scale).to(model.device)
        for member, scale in zip(chosen, scales, strict=True)
    ]
    slopes = [torch.zeros_like(member.parameter) if member.parameter.grad is None else member.parameter.grad for member in chosen]
    analytic = sum(float((slope * along).sum()) for slope, along in zip(slopes, direction, strict=True))
    typical = math.sqrt(sum(float(slope.square().sum()) * scale**2 for slope, scale in zip(slopes, scales, strict=True)))

    def numeric(epsilon: float) -> float:
        return (_moved(patient, model, row, chosen, direction, epsilon) - _moved(patient, model, row, chosen, direction, -epsilon)) / (
            2 * epsilon
        )

    with torch.no_grad():
        loss, _ = patient.reading(model, row)
        epsilon, tolerance = STEPS[loss.dtype]
        found = numeric(epsilon)
        size = max(abs(analytic), abs(found), typical, 1e-12)
        error = abs(analytic - found)
        if error > tolerance * size:
            error = max(0.0, error - 2 * abs(found - numeric(2 * epsilon)))
    return error / size


def _moved(
    patient: Patient, model: Model, row: Batch, chosen: Sequence[Member], direction: Sequence[Tensor], by: float
) -> float:
    """The loss that far along the direction."""
    before = [member.parameter.clone() for member in chosen]
    for member, along in zip(chosen, direction, strict=True):
        member.parameter.add_(along, alpha=by)
    loss, _ = patient.reading(model, row)
    for member, kept in zip(chosen, before, strict=True):
        member.parameter.copy_(kept)
    return float(loss.double())
