"""Trains one small model under a layout, on the ranks of this process's world."""

from __future__ import annotations

from typing import Any

from bloomery.mesh import Layout, Mesh
from bloomery.models import ModelConfig
from bloomery.objectives import CausalLM, Objective
from bloomery.optim import AdamW, Everything, OptimizerConfig, Trainable, WarmupCosine
from bloomery.train import Course, Manner, TrainState, train
from bloomery.train.spreading import fresh, spread_model
from tests.train.toys import TINY, Uneven

ROWS = 8
EVERYTHING = Everything()
EPS = 1e-6  # biases of keys have no gradient but its rounding, which Adam would blow up to steps of full size


def run(
    layout: Layout, config: ModelConfig = TINY, steps: int = 20, micro_batch: int = 2, optimizer: OptimizerConfig | None = None,
    objective: Objective | None = None, trainable: Trainable = EVERYTHING,
) -> dict[str, Any]:
    """The losses and gradient norms of some steps, and the weights afterwards, as far as this rank holds them."""
    mesh = Mesh.join(layout)
    parts = spread_model(config, mesh, fresh(config, seed=0), trainable)
    state = TrainState(parts.model, (optimizer or AdamW(learning_rate=1e-2, eps=EPS)).of(parts.members), holding=parts.holding)
    course = Course(objective=objective or CausalLM(z_loss=1e-4), schedule=WarmupCosine(warmup=2), steps=steps, rows=ROWS)
    reports = list(train(state, Uneven(), course, Manner(micro_batch=micro_batch)))
    weights = {name: held.whole(held.local.detach()).clone() for name, held in parts.holding.parameters.items()}
    learnt = {
        "gradients": {name for name, held in parts.holding.parameters.items() for one in (held.parameter, held.local) if one.grad is not None},
        "state": {path.rsplit("|", 1)[0] for path in state.optimizer.state()},
    }  # fmt: skip
    return {"losses": [r.loss for r in reports], "norms": [r.grad_norm for r in reports], "weights": weights} | learnt


def run_all(cases: list[tuple[Layout, ModelConfig]]) -> list[dict[str, Any]]:
    """`run` for several layouts of one world."""
    return [run(layout, config) for layout, config in cases]


def run_frozen(layouts: list[Layout], config: ModelConfig, trainable: Trainable) -> list[dict[str, Any]]:
    """`run` for several layouts of one world, with some of the model frozen."""
    return [run(layout, config, steps=6, trainable=trainable) for layout in layouts]
