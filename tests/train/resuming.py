"""Runs of one small model that save under a layout, or go on under another; on the ranks of this process's world."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from bloomery.mesh import ALONE, Layout, Mesh
from bloomery.models import LlamaConfig, ModelConfig, write_held_model
from bloomery.objectives import CausalLM
from bloomery.optim import AdamW, Average, OptimizerConfig, WarmupCosine
from bloomery.train import Checkpoints, Course, Keep, Manner, TrainState, train
from bloomery.train.spreading import fresh, spread_model
from tests.train.toys import VOCAB, Uneven

ROWS, STEPS, SAVED = 8, 6, 3
MODEL = LlamaConfig(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=24, max_seq_len=16)
COURSE = Course(objective=CausalLM(z_loss=1e-4), schedule=WarmupCosine(warmup=2), steps=STEPS, rows=ROWS)


class Told(Uneven):
    """Notes what has been read: row by row, with its step and its tokens."""

    def __init__(self) -> None:
        self.read: set[tuple[int, int, str]] = set()

    def rows(self, first_row: int, rows: int):
        out = super().rows(first_row, rows)
        self.read |= {
            (row // ROWS, row, hashlib.sha256(out.tokens[row - first_row].tobytes()).hexdigest()) for row in range(first_row, first_row + rows)
        }
        return out


def state_of(layout: Layout, optimizer: OptimizerConfig | None = None, model: ModelConfig = MODEL) -> TrainState:
    """A fresh state with an average of the weights, under a layout."""
    mesh = ALONE if layout.world == 1 else Mesh.join(layout)
    parts = spread_model(model, mesh, fresh(model, seed=0))
    average = Average({name: held.local for name, held in parts.holding.parameters.items()}, 0.9)
    return TrainState(parts.model, (optimizer or AdamW(learning_rate=1e-2)).of(parts.members), average, holding=parts.holding)


def go(
    layout: str, saves: Path | None = None, resumes: Path | None = None, writes: Path | None = None, optimizer: OptimizerConfig | None = None
) -> dict[str, Any]:
    """Trains under a layout, from the start or from what is in a folder; what happened, and what is there in the end."""
    state, source, said, losses = state_of(Layout.parse(layout), optimizer), Told(), [], {}
    facts = COURSE.facts
    if resumes is not None:
        Checkpoints(resumes, state.holding.mesh, facts=facts, say=said.append).resume(state)
    began = state.step
    checkpoints = None if saves is None else Checkpoints(saves, state.holding.mesh, Keep(last=9), facts, said.append)
    for report in train(state, source, COURSE, Manner(micro_batch=2)):
        losses[report.step] = report.loss
        if checkpoints is not None and report.step % SAVED == 0:
            checkpoints.save(state)
    if checkpoints is not None:
        checkpoints.settle()
    if writes is not None:
        write_held_model(writes, MODEL, state.holding, state.average.values)
    held = state.holding.parameters
    return {
        "began": began, "losses": losses, "read": source.read, "said": said,
        "weights": {name: one.whole(one.local.detach()).clone() for name, one in held.items()},
        "average": {name: one.whole(state.average.values[name]).clone() for name, one in held.items()},
    }  # fmt: skip


def go_all(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`go` for several runs of one world."""
    return [go(**run) for run in runs]
