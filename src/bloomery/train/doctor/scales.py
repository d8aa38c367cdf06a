"""How large things are: activations block by block, the gradient, and the first update beside the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from bloomery.optim import clip_by_global_norm
from bloomery.train.doctor.patient import Finding, Patient, Verdict, rms
from bloomery.train.strands import strands

SMALLEST, LARGEST = 1e-4, 1e3
"""Of activations: below, norms divide by their ε; above, bf16 has steps of 4 and more."""
GROWTH = 100.0
"""From the first block of a stack to its last."""
LEAST, MOST, ABSURD = 1e-6, 1.0, 10.0
"""Of update to weight: below the first, additions round away in float32 (whose steps are 6e-8 to 1.2e-7); above the second, one step replaces
the weights; above the third there is nothing left of them."""


def activations(patient: Patient) -> Iterator[Finding]:
    """The root mean square of the residual stream behind each block."""
    sizes = patient.inside("activation_rms")
    if not sizes:
        return
    low, high = min(sizes.values()), max(sizes.values())
    finite = all(map(math.isfinite, sizes.values()))
    good = finite and low >= SMALLEST and high <= LARGEST and high <= GROWTH * low
    yield Finding(
        check="activations", verdict="pass" if good else "warn" if finite else "fail",
        figure=f"rms from {low:.3g} to {high:.3g} behind {len(sizes)} blocks",
        rule=f"{SMALLEST:g} to {LARGEST:g}, and not {GROWTH:g}-fold apart",
        remedy="" if good else "Look at the initialisation, the norms and where they stand",
        details=tuple(f"{name}: rms {size:.3g}" for name, size in sizes.items()),
    )  # fmt: skip


def first_update(patient: Patient) -> Iterator[Finding]:
    """The gradient's norm, and what the first step at the full rate does: rms(update) / rms(weights), by layer and role.

    It is the full rate since warm-up ends there; and the first step of Adam, ±η everywhere, is its largest. About 1e-3 is usual later on.
    What is all zeros, or has no gradient yet because what is behind it is, is left out.

    Source: the ratio: Karpathy (2015), CS231n notes, "Ratio of weights:updates"; Adam's first step: Kingma and Ba (2015), arXiv 1412.6980.
    """
    model = patient.copy()
    stepper = patient.optimizer.build(model)
    for part in patient.batch.split(patient.micro_batch):
        with patient.autocast():
            loss, _ = patient.reading(model, part, of=patient.batch)
        loss.backward()
    norm = float(clip_by_global_norm(stepper.gradients, patient.clip_norm)) if stepper.gradients else 0.0
    sound = math.isfinite(norm) and norm > 0
    yield Finding(
        check="gradient norm", verdict="pass" if sound else "fail", figure=f"{norm:.3g} on {len(patient.batch)} rows",
        rule="a number above 0" + (f"; clipped to {patient.clip_norm:g}" if patient.clip_norm and norm > patient.clip_norm else ""),
        remedy="" if sound else "Look at the loss and at the layers that are dead",
    )  # fmt: skip
    if sound:
        before = {p: p.detach().clone() for p in model.parameters() if p.grad is not None and p.grad.any() and p.any()}
        stepper.step(patient.rate)
        if ratios := update_ratios(model, before):
            yield judged(ratios)


def update_ratios(model: nn.Module, before: Mapping[nn.Parameter, Tensor]) -> dict[str, float]:
    """Layer and role → rms(update) / rms(weights before it)."""
    groups: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for parameter, strand in strands(model).items():
        if parameter in before:
            old, new = strand.split(before[parameter]), strand.split(parameter.detach())
            for role, a, b in zip(strand.roles, old, new, strict=True):
                groups.setdefault("/".join(filter(None, (strand.place, role))), []).append((a, b))
    sizes = {place: rms(a for a, _ in pairs) for place, pairs in groups.items()}
    return {place: rms(b - a for a, b in pairs) / sizes[place] for place, pairs in groups.items() if sizes[place]}


def judged(ratios: Mapping[str, float]) -> Finding:
    """What is to be said of the ratios."""
    low, high = min(ratios, key=lambda name: ratios[name]), max(ratios, key=lambda name: ratios[name])
    verdict: Verdict = "pass"
    remedy = ""
    if ratios[high] > MOST or not math.isfinite(ratios[high]):
        verdict = "warn" if ratios[high] <= ABSURD else "fail"
        remedy = f"The learning rate is too high for these weights: about {0.1 / ratios[high]:.0e} of it would change them by a tenth"
    elif ratios[low] < LEAST:
        verdict, remedy = "warn", "The learning rate is too low to move them in float32: raise it"
    return Finding(
        check="update to weight", verdict=verdict,
        figure=f"{ratios[low]:.1e} ({low}) to {ratios[high]:.1e} ({high}) in a first step at full rate",
        rule=f"{LEAST:g} to {MOST:g}", remedy=remedy, details=tuple(f"{name}: {ratio:.1e}" for name, ratio in ratios.items()),
    )  # fmt: skip
