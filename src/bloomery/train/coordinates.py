"""The coordinate check: whether what a few steps do to a model's activations depends on its width."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bloomery.core.rng import derive_seed
from bloomery.models import ModelConfig, Transformer
from bloomery.nn.layout import SequenceLayout
from bloomery.optim import OptimizerConfig
from bloomery.train.observe import observed

ROWS, TIME = 4, 32
"""Of the batch that is learnt, and measured on, over and over."""


@dataclass(frozen=True)
class Coordinates:
    """What was measured on models of several widths.

    Attributes:
        widths: d_model of each.
        scales: place in the model → mean size of an activation there: by width, then by step, from before the first one.
        changes: place → mean size of its change since before the first step, by width and step.
    """

    widths: tuple[int, ...]
    scales: Mapping[str, list[list[float]]]
    changes: Mapping[str, list[list[float]]]

    def slopes(self, of: Mapping[str, list[list[float]]]) -> dict[str, float]:
        """Place → the exponent p of the power law width^p nearest to the figures after the last step: 0 where width makes no difference."""
        return {place: _slope(self.widths, [steps[-1] for steps in by_width]) for place, by_width in of.items()}


def coordinate_check(
    model_of: Callable[[int], ModelConfig], widths: Sequence[int], optimizer: OptimizerConfig, steps: int = 4, seeds: int = 2
) -> Coordinates:
    """Trains a model of each width for a few steps on one batch, and measures what the activations do.

    Under µP the changes have the same size at any width; under the standard parametrisation they grow, so that the best learning rate
    falls with the width.

    Args:
        model_of: d_model → the model; a `Transformer` of as many layers at any width.
        widths: at least two.
        optimizer: at a rate at which the narrowest learns.
        steps: to train.
        seeds: models per width, whose figures are averaged.

    Source: Yang et al. (2022), arXiv 2203.03466, appendix D.1.
    """
    scales: dict[str, list[list[float]]] = {}
    changes: dict[str, list[list[float]]] = {}
    for width in widths:
        config = model_of(width)
        runs = [_run(config, optimizer, steps, seed) for seed in range(seeds)]
        for place in runs[0]:
            scales.setdefault(place, []).append(_mean([[float(x.abs().mean()) for x in run[place]] for run in runs]))
            changes.setdefault(place, []).append(_mean([[float((x - run[place][0]).abs().mean()) for x in run[place]] for run in runs]))
    return Coordinates(tuple(widths), scales, changes)


def _run(config: ModelConfig, optimizer: OptimizerConfig, steps: int, seed: int) -> dict[str, list[Tensor]]:
    """Place → activations before each step and after the last."""
    model = config.build(seed)
    assert isinstance(model, Transformer)
    generator = torch.Generator().manual_seed(derive_seed(seed, "coordinates"))
    tokens = torch.randint(config.vocab_size, (ROWS, TIME + 1), generator=generator)
    layout, stepper = SequenceLayout.rows(ROWS, TIME), optimizer.build(model)
    kept: dict[str, list[Tensor]] = {}
    places = _places(model)
    for step in range(steps + 1):
        with observed(places, lambda place, _, output: kept.setdefault(place, []).append(output.detach())):
            logits = model(tokens[:, :-1], layout)
        if step < steps:
            stepper.zero_grad()
            nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
            stepper.step()
    return kept


def _places(model: Transformer) -> dict[str, nn.Module]:
    """The parts of a model whose activations are compared."""
    places: dict[str, nn.Module] = {"embedding": model.embedding}
    for i, block in enumerate(model.blocks):
        places |= {f"block {i} {name}": part for name, part in block.named_children() if name in ("mixer", "ff")}
    return places | {"norm": model.norm, "logits": model.head}


def _mean(runs: Sequence[Sequence[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*runs, strict=True)]


def _slope(widths: Sequence[int], values: Sequence[float]) -> float:
    """Of the line through log value over log width, by least squares."""
    xs, ys = [math.log(w) for w in widths], [math.log(max(v, 1e-30)) for v in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
