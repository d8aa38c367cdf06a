"""A toy training that faults are put into: garbage documents, a gradient that is no number, a learning rate far too high."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.mesh import Holding, Layout, Mesh
from bloomery.models import LlamaConfig
from bloomery.objectives import CausalLM, Models, Reading, Total
from bloomery.optim import AdamW, Schedule, WarmupCosine
from bloomery.train import Course, Healing, Manner, TrainState, train
from bloomery.train.spreading import fresh as fresh_weights
from bloomery.train.spreading import spread_model

VOCAB, TIME, ROWS, STEPS = 32, 12, 8, 100
SMALL = LlamaConfig(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)
MARK = 1.25  # a weight
HEALING = Healing(window=32, least=12, snapshot_every=25)


class Talk(Source):
    """Two documents a row, `doc-2i` and `doc-2i+1`, each of numbers that go up by 1 to 3.

    Args:
        spoilt: the numbers of documents that say one number over and over.
        brittle: those whose gradient is not a number under `Brittle`.
        turn: the row from which numbers go down instead.
    """

    time, vocab_size = TIME, VOCAB

    def __init__(self, spoilt: Collection[int] = (), brittle: Collection[int] = (), turn: int | None = None) -> None:
        self.spoilt, self.brittle, self.turn = frozenset(spoilt), frozenset(brittle), turn

    def rows(self, first_row: int, rows: int) -> Rows:
        out, half = Rows.empty(rows, TIME, 0), TIME // 2
        for i in range(rows):
            for part in (0, 1):
                number = 2 * (first_row + i) + part
                rng = np.random.default_rng(number)
                text = np.cumsum(rng.integers(1, 4, half)) + rng.integers(VOCAB)
                if number in self.spoilt:
                    text = np.full(half, 7)
                elif self.turn is not None and first_row + i >= self.turn:
                    text = -text
                place = slice(part * half, part * half + half - 1)
                out.tokens[i, part * half : (part + 1) * half], out.segments[i, part * half : (part + 1) * half] = text % VOCAB, part + 1
                out.targets[i, place], out.loss_weight[i, place] = text[1:] % VOCAB, MARK if number in self.brittle else 1
        return out

    def documents(self, first_row: int, rows: int) -> list[Span]:
        half, numbers = TIME // 2, range(2 * first_row, 2 * (first_row + rows))
        return [Span(number // 2, number % 2 * half, f"doc-{number}", 0, half, "talk") for number in numbers]

    def supply(self, rows: int) -> list[Supply]:
        return []

    def turns(self, first_row: int, rows: int) -> bool:
        return self.turn is not None and first_row <= self.turn < first_row + rows


def batch_of(step: int, but: int = 0) -> set[int]:
    """The numbers of the documents in the batch of a step, but for the first few."""
    return set(range(2 * ROWS * (step - 1) + but, 2 * ROWS * step))


class Jolt(Schedule):
    """A schedule that is wrong for some steps."""

    warmup: float = 0.0
    """None."""
    base: Schedule = WarmupCosine()
    """What it should be."""
    at: int = 100
    """The first wrong step, from 0."""
    count: int = 10
    """How many there are."""
    times: float = 30.0
    """By how much they are too high."""

    def factor(self, step: int, steps: int) -> float:
        return self.base.factor(step, steps) * (self.times if self.at <= step < self.at + self.count else 1.0)


class Brittle(CausalLM):
    """As `CausalLM`, but with a gradient that is not a number where documents are marked so, at a loss that is one."""

    def total(self, reading: Reading) -> Total:
        total, metrics = super().total(reading)
        bad = reading.batch.loss_weight == MARK
        return total + (reading.features()[bad] * 0).sum().sqrt() if bad.any() else total, metrics


def course(steps: int = STEPS, **changes: Any) -> Course:
    settings = {"objective": CausalLM(), "schedule": WarmupCosine(), "steps": steps, "rows": ROWS, "clip_norm": None}
    return Course(**settings | changes)


def fresh(learning_rate: float = 3e-2) -> TrainState:
    model = SMALL.build(seed=0)
    return TrainState(model, AdamW(learning_rate=learning_rate, betas=(0.9, 0.999)).build(model))


def run(state: TrainState, source: Source | None = None, snapshots: Any = None, **changes: Any) -> list[Any]:
    """The reports of a run to its end."""
    return list(train(state, source or Talk(), course(**changes), Manner(micro_batch=ROWS), snapshots=snapshots))


def events(state: TrainState) -> list[tuple[int, str, str]]:
    """What happened, in short."""
    return [(event["step"], event["rung"], event["cause"]) for event in state.known.events]


def blamed(state: TrainState) -> set[int]:
    """The numbers of the documents that were named."""
    return {int(document["id"].removeprefix("doc-")) for event in state.known.events for document in event["documents"]}


@torch.no_grad()
def unseen(state: TrainState) -> float:
    """Nats per token of rows that no run reads."""
    (found,) = CausalLM()(Models(state.model), Talk().batch(100_000, 200))
    return float(found.total) / found.weight


def poison(holding: Holding, step: int, factor: float = float("nan")) -> None:
    """Multiplies the gradient of the first parameter, by what is no number unless it is said, once, in a step of one micro-batch (from 1)."""
    passed = []

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        passed.append(1)
        return gradient * factor if len(passed) == step else gradient

    next(iter(holding.parameters.values())).parameter.register_hook(hook)


@torch.no_grad()
def damage(state: TrainState) -> None:
    """Moves the weights to other ones, as an update would that nobody noticed; on any layout by the same."""
    generator = torch.Generator().manual_seed(0)
    for held in state.holding.parameters.values():
        held.local += held.own(0.5 * torch.randn(held.part.shape, generator=generator))


def everything_at_once(layout: Layout) -> dict[str, Any]:
    """What became of a run with faults of every kind, as a rank of a layout has it."""
    mesh = Mesh.join(layout)
    parts = spread_model(SMALL, mesh, fresh_weights(SMALL, seed=0))
    state = TrainState(parts.model, AdamW(learning_rate=1e-2).of(parts.members), holding=parts.holding)
    rows = 4
    brittle, garbage = {2 * rows * 20 + 1, 2 * rows * 20 + 6}, range(2 * rows * 37, 2 * rows * 38)
    healing = HEALING.replace(snapshot_every=12, skips=1, lowers=1)
    settings = course(steps=46, rows=rows, healing=healing, objective=Brittle(), schedule=Jolt(at=28, count=5))
    losses = []
    for report in train(state, Talk(garbage, brittle), settings, Manner(micro_batch=2)):
        losses.append((report.step, report.loss))
        if report.step == 40 and not state.known.rollbacks:
            damage(state)
    weights = {name: held.whole(held.local.detach()).clone() for name, held in parts.holding.parameters.items()}
    return {"events": events(state), "blamed": blamed(state), "jumps": state.known.jumps, "losses": losses, "weights": weights}


def under_all(layouts: list[Layout]) -> list[dict[str, Any]]:
    """The same for several layouts of one world."""
    return [everything_at_once(layout) for layout in layouts]
