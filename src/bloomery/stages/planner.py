"""From a training as it is configured to its `Planner`: where what is planned meets what will run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout, Mesh
from bloomery.mesh.spread import check
from bloomery.models import ModelConfig, TransformerConfig
from bloomery.models.transformer import NamedConfig
from bloomery.objectives import Objective
from bloomery.planning.machines import Machine
from bloomery.planning.outlook import Planner, Setting
from bloomery.planning.speed import Work
from bloomery.planning.trace import forward_of
from bloomery.stages.anatomy import Planned, anatomy_of
from bloomery.train.machine import MICRO_BATCHES_PER_STAGE, choose_micro_batch
from bloomery.train.spreading import check_course, check_layout

UTILISATION = 0.5
"""Of a machine's peak, while nothing is waited for: what large products reach in training, as long as nobody has measured better."""


def planner_of(planned: Planned, machine: Machine, rows: int, utilisation: float = UTILISATION) -> Planner:
    """Of a training of a model.

    Args:
        planned: the training.
        machine: of each rank.
        rows: of a step.
        utilisation: share of the machine's peak while nothing is waited for.
    """
    return Planner(
        work=work_of(planned, rows), machine=machine, anatomy=cache(partial(anatomy_of, planned)),
        refusal=refusal_of(planned.config, rows, planned.time, planned.objective), utilisation=utilisation,
    )  # fmt: skip


def work_of(planned: Planned, rows: int) -> Work:
    """What a step of so many rows computes."""
    return Work(
        flops_per_token=planned.config.flops_per_token(planned.time), rows=rows, time=planned.time, precision=planned.precision,
        active_experts=active_experts(planned.config),
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

