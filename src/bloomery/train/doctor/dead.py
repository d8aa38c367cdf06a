"""Parts that do nothing: parameters without gradients, idle blocks, units that never fire, heads that look at one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from bloomery.optim import AdamW
from bloomery.train.doctor.patient import Finding, Patient, rms
from bloomery.train.observe import layers, observed

WARMED = 3
"""Steps after which what is zero by its initialisation (Fixup's last maps, say) has begun to move."""
STILL = 1e-6
"""Change of the residual stream, relative to it, below which a block does nothing: the resolution of float32."""
FEW, SOME, MANY = 0.1, 0.25, 0.5
"""Shares of units and of heads from which it is worth a warning (some heads may be meant to look at one place), and from which a failure."""
SATURATED = 0.02
"""Of the entropy of looking everywhere alike, what a head has left that looks at one place."""


def gradient_flow(patient: Patient) -> Iterator[Finding]:
    """Whether each parameter has a gradient at the first step, or after three for those that are zero by their initialisation."""
    model, parts = patient.copy(), list(patient.batch.split(patient.micro_batch))[:1]
    stepper = AdamW(learning_rate=1e-3).build(model)
    silent: set[str] = set()
    for step in range(WARMED + 1):
        stepper.zero_grad()
        patient.reading(model, parts[0])[0].backward()
        without = {name for name, p in _trained(model).items() if p.grad is None or not p.grad.any()}
        silent = silent & without if step else without
        stepper.step()
    names = [name for name in _trained(model) if name in silent]
    remedy = "Check that the loss reads what they make, and that nothing detaches it"
    if flat := [name for name, p in _trained(patient.model).items() if name in silent and p.ndim > 1 and not (p - p.flatten()[0]).any()]:
        remedy = f"{_few(flat)} has the same number everywhere: check its initialisation"
    of_head = {name for name in _trained(model) if name.startswith("head.")}
    spared = of_head and {*names} < of_head  # clusters of an adaptive softmax of which the rows have no token
    yield Finding(
        check="gradient flow", verdict="pass" if not names else "warn" if spared else "fail",
        figure=f"{len(names)} of {len(_trained(model))} parameters have no gradient" + (f": {_few(names)}" if names else ""),
        rule=f"each has one at the first step or within {WARMED} more", remedy=remedy if names else "",
    )  # fmt: skip


def idle_blocks(patient: Patient) -> Iterator[Finding]:
    """Whether each block changes the residual stream: ‖block(x) − x‖ / ‖x‖, at step 0 or after a few steps."""
    model, batch = patient.copy(), next(patient.batch.split(patient.micro_batch))
    stepper = AdamW(learning_rate=1e-3).build(model)
    changes: dict[str, float] = {}

    def note(place: str, inputs: tuple[Any, ...], output: Tensor) -> None:
        changes[place] = max(changes.get(place, 0.0), rms(output - inputs[0]) / max(rms(inputs[0]), 1e-30))

    for step in range(WARMED + 1):
        stepper.zero_grad()
        with observed(layers(model) if step in (0, WARMED) else {}, note):
            patient.reading(model, batch)[0].backward()
        stepper.step()
    idle = [name for name, change in changes.items() if not change > STILL]
    least = min(changes, key=lambda name: changes[name], default="")
    yield Finding(
        check="idle blocks", verdict="fail" if idle else "pass",
        figure=f"{len(idle)} of {len(changes)} blocks hand on what they read" + (
            f": {_few(idle)}" if idle else f"; {least} changes it least, by {changes[least]:.1e}" if least else ""),
        rule=f"each changes the residual stream by more than {STILL:g} of it",
        remedy="Check the initialisation of their maps back to the stream, and that their outputs are added" if idle else "",
    )  # fmt: skip


def silent_units(patient: Patient) -> Iterator[Finding]:
    """Whether the hidden units of feed-forward layers have an input above 0 anywhere in the rows.

    Source: units that never fire: Maas et al. (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models", section 2.
    """
    shares = patient.inside("dead_units")
    if not shares:
        return
    share, worst = sum(shares.values()) / len(shares), max(shares, key=lambda name: shares[name])
    yield Finding(
        check="silent units", verdict="fail" if share > MANY else "warn" if share > FEW else "pass",
        figure=f"{share:.1%} of the feed-forward units never fire on {patient.batch.tokens.numel()} places"
        + (f", most of them in {worst}" if share else ""),
        rule=f"at most {FEW:.0%}",
        remedy="Lower the learning rate of the training that it comes from, or take another activation" if share > FEW else "",
    )  # fmt: skip


def saturated_heads(patient: Patient) -> Iterator[Finding]:
    """Whether heads of attention look at more than one place: the entropy of their weights, as a share of that of looking everywhere alike.

    Source: collapse of attention's entropy as a sign of unstable training: Zhai et al. (2023), arXiv 2303.06296.
    """
    entropies = patient.inside("attention_entropy")
    if not entropies:
        return
    low = [name for name, entropy in entropies.items() if not entropy >= SATURATED]
    share = len(low) / len(entropies)
    yield Finding(
        check="saturated heads", verdict="fail" if share > MANY else "warn" if share > SOME else "pass",
        figure=f"{len(low)} of {len(entropies)} heads look at one place" + (f": {_few(low)}" if low else "")
        + f"; the lowest entropy is {min(entropies.values()):.0%} of looking everywhere alike",
        rule=f"more than {SATURATED:.0%} in all but {SOME:.0%} of them",
        remedy="Lower the initialisation of queries and keys, norm them (qk_norm), or lower the learning rate" if share > SOME else "",
    )  # fmt: skip


def _trained(model: nn.Module) -> Mapping[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
