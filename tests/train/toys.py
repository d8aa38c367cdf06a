"""A tiny model, tiny rows, and a run over them."""

from __future__ import annotations

import numpy as np
import torch

from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.models import LlamaConfig
from bloomery.objectives import CausalLM
from bloomery.optim import AdamW, Average, WarmupCosine
from bloomery.train import Course, Manner, TrainState, train

VOCAB, TIME, ROWS = 32, 12, 6
TINY = LlamaConfig(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)


class Uneven(Source):
    """Rows of very different lengths: row i has 1 to 11 targets that count."""

    time, vocab_size = TIME, VOCAB

    def rows(self, first_row: int, rows: int) -> Rows:
        out = Rows.empty(rows, TIME, 0)
        for i in range(rows):
            rng = np.random.default_rng(first_row + i)
            length = int(rng.choice([2, 3, 12]))
            text = np.cumsum(rng.integers(1, 4, length + 1)) % VOCAB
            out.tokens[i, :length], out.targets[i, :length] = text[:-1], text[1:]
            out.loss_weight[i, : length - 1], out.segments[i, :length] = 1, 1
        return out

    def documents(self, first_row: int, rows: int) -> list[Span]:
        return [Span(row, 0, f"tale-{row}", 0, TIME, "uneven") for row in range(first_row, first_row + rows)]

    def supply(self, rows: int) -> list[Supply]:
        return []


def course(steps: int = 8, **changes) -> Course:
    return Course(**{"objective": CausalLM(), "schedule": WarmupCosine(warmup=2), "steps": steps, "rows": ROWS} | changes)


def fresh(optimizer=None, ema: float | None = None) -> TrainState:
    model = TINY.build(seed=0)
    optimizer = optimizer or AdamW(learning_rate=1e-2)
    return TrainState(model, optimizer.build(model), None if ema is None else Average(dict(model.named_parameters()), ema))


def reports(state: TrainState, source: Source | None = None, micro_batch: int = ROWS, **changes):
    return list(train(state, source or Uneven(), course(**changes), Manner(micro_batch=micro_batch)))


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
