"""From a training as it is configured to its `Planner`: where what is planned meets what will run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch

from bloomery.core.errors import ConfigError
from bloomery.data import NextToken, RowTask
from bloomery.mesh import Layout, Mesh
from bloomery.mesh.spread import check
from bloomery.models import ModelConfig, TransformerConfig
from bloomery.models.transformer import NamedConfig
from bloomery.objectives import CausalLM, Objective
from bloomery.optim import AdamW, OptimizerConfig
from bloomery.planning.anatomy import Anatomy
from bloomery.planning.machines import Machine
from bloomery.planning.outlook import Planner, Setting
from bloomery.planning.speed import Work
from bloomery.planning.trace import forward_of
from bloomery.stages.anatomy import anatomy_of
from bloomery.train import Precision
from bloomery.train.machine import MICRO_BATCHES_PER_STAGE, choose_micro_batch
from bloomery.train.spreading import check_course, check_layout

UTILISATION = 0.5
"""Of a machine's peak, while nothing is waited for: what large products reach in training, as long as nobody has measured better."""


def planner_of(
    config: ModelConfig, machine: Machine, *, rows: int, time: int, objective: Objective = CausalLM(),  # noqa: B008
    optimizer: OptimizerConfig = AdamW(), task: RowTask = NextToken(), precision: Precision = "bf16", averaged: bool = False,  # noqa: B008
    utilisation: float = UTILISATION,
) -> Planner:
    """Of a training of a model.

    Args:
        config: of the model.
        machine: of each rank.
        rows: of a step.
        time: places in a row.
        objective: the loss.
        optimizer: what takes the steps.
        task: what is to be learnt from rows.
        precision: of matrix products.
        averaged: whether a moving average of the weights is kept.
        utilisation: share of the machine's peak while nothing is waited for.
    """

    @cache
    def anatomy(micro_batch: int) -> Anatomy:
        return anatomy_of(
            config, rows=micro_batch, time=time, objective=objective, optimizer=optimizer, task=task, precision=precision, averaged=averaged,
        )  # fmt: skip

    work = Work(
        flops_per_token=config.flops_per_token(time), rows=rows, time=time, precision=precision, active_experts=active_experts(config),
    )  # fmt: skip
    return Planner(
        work=work, machine=machine, anatomy=anatomy, refusal=refusal_of(config, rows, time, objective), utilisation=utilisation,
    )  # fmt: skip


def usual(planner: Planner, layout: Layout, micro_batch: int | None = None, recomputed: Literal["none", "full"] = "none") -> Setting:
    """The setting that a run has in a layout unless told otherwise.

    Raises:
        ConfigError: the training cannot be laid out like that.
    """
    if reason := planner.refusal(layout):
        raise ConfigError(reason)
    rows = planner.work.rows // layout.readers
    if layout.pipeline > 1:
        chosen = max(1, rows // (MICRO_BATCHES_PER_STAGE * layout.pipeline))
    else:
        kept = forward_of(planner.of(1).first).left.total / (layout.context * layout.tensor)
        chosen = choose_micro_batch(rows, round(kept))
    again = len(planner.of(1).blocks) if recomputed == "full" else 0
    return Setting(layout=layout, micro_batch=min(micro_batch or chosen, rows), recomputed=again)


def refusal_of(config: ModelConfig, rows: int, time: int, objective: Objective) -> Callable[[Layout], str]:
    """Says why a training cannot be laid out in some way; empty where it can. Asks what will be asked when it runs."""
    with torch.device("meta"):
        model = config.skeleton()

    def refusal(layout: Layout) -> str:
        mesh = Mesh(layout)
        try:
            check_course(layout, rows, time, objective)
            check_layout(config, model, mesh)
            check(model, mesh)
        except ConfigError as error:
            return str(error)
        return ""

    return refusal


def active_experts(config: ModelConfig) -> int:
    """Experts that each token goes to, in the layers that have some."""
    parts = config.transformer if isinstance(config, NamedConfig) else config
    if not isinstance(parts, TransformerConfig):
        return 0
    return max((getattr(feed_forward, "n_active", 0) for feed_forward in parts.feed_forwards), default=0)

