"""From a training as it is configured to its `Planner`: where what is planned meets what will run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout, Mesh
from bloomery.mesh.spread import check
from bloomery.models import ModelConfig, TransformerConfig
from bloomery.models.transformer import NamedConfig
from bloomery.objectives import Objective
from bloomery.planning.machines import MACHINES, Machine
from bloomery.planning.memory import Memory, memory
from bloomery.planning.outlook import USABLE, Outlook, Planner, Setting
from bloomery.planning.speed import Work, speed
from bloomery.planning.trace import forward_of
from bloomery.stages.anatomy import Planned, anatomy_of
from bloomery.train import Precision
from bloomery.train.machine import ACTIVATION_BYTES, choose_micro_batch, matmul_rate, pipeline_micro_batch
from bloomery.train.recompute import Recompute, blocks_again
from bloomery.train.spreading import check_course, check_layout

NOTHING_AGAIN = Recompute()
UTILISATION = 0.5
"""Of a machine's peak, while nothing is waited for: what large products reach in training, as long as nobody has measured better."""
ACTIVATION_SHARE = 0.5
"""Of what a card has left for activations: a backward pass holds gradients of what the forward pass kept, and of logits several."""


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


def outlook_of(planned: Planned, machine: Machine, rows: int, layout: Layout, micro_batch: int, again: Recompute) -> Outlook:
    """What a training comes to in one setting.

    Args:
        planned: the training.
        machine: of each rank.
        rows: of a step.
        layout: of the ranks.
        micro_batch: rows per forward pass.
        again: what is computed again.
    """
    anatomy = anatomy_of(planned, micro_batch, again.keeps)
    recomputed = blocks_again(anatomy, layout, again)
    return Outlook(
        setting=Setting(layout=layout, micro_batch=micro_batch, recomputed=recomputed, keeps=again.keeps),
        places=tuple(memory(anatomy, layout, rows, recomputed)), usable=USABLE * machine.memory,
        speed=speed(work_of(planned, rows), anatomy, layout, machine, UTILISATION, recomputed),
    )  # fmt: skip


def here(device: str = "cpu", precision: Precision = "fp32") -> Machine:
    """This machine: its products measured, its memory asked for. Its links are those of a known machine of its name, or else slow."""
    rate = matmul_rate(device, torch.float32 if precision == "fp32" else torch.bfloat16)
    if device.startswith("cuda"):
        found = torch.cuda.get_device_properties(device)
        known = next((one for name, one in MACHINES.items() if name.partition("-")[0] in found.name.lower()), MACHINES["l40s"])
        return known.replace(bf16_flops=rate, fp32_flops=rate, memory=found.total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        bf16_flops=rate, fp32_flops=rate, memory=memory, near=1e9, far=1e8, node=max(1, os.cpu_count() or 1), activations=ACTIVATION_BYTES,
    )  # fmt: skip


def activation_budget(machine: Machine, one_row: Callable[[], Memory]) -> int:
    """Bytes that the activations of one micro-batch may take. A function of the configuration and of what the machine has in all, never of
    what happens to be free.

    Args:
        machine: of each rank.
        one_row: plans the training in micro-batches of one row; asked only where it matters.
    """
    if machine.activations is not None:
        return machine.activations
    there = one_row()
    left = USABLE * machine.memory - there.weights - there.gradients - there.optimizer
    return max(0, int(ACTIVATION_SHARE * left))


def work_of(planned: Planned, rows: int) -> Work:
    """What a step of so many rows computes."""
    return Work(
        flops_per_token=planned.config.flops_per_token(planned.time), rows=rows, time=planned.time, precision=planned.precision,
        active_experts=active_experts(planned.config),
    )  # fmt: skip


def usual(planner: Planner, layout: Layout, micro_batch: int | None = None, again: Recompute = NOTHING_AGAIN) -> Setting:
    """The setting that a run has in a layout unless told otherwise.

    Raises:
        ConfigError: the training cannot be laid out like that.
    """
    if reason := planner.refusal(layout):
        raise ConfigError(reason)
    rows, one = planner.work.rows // layout.readers, planner.of(1)
    if layout.pipeline > 1:
        chosen = pipeline_micro_batch(rows, layout.pipeline)
    else:
        budget = activation_budget(planner.machine, lambda: planner.outlook(Setting(layout=layout, micro_batch=1)).memory)
        chosen = choose_micro_batch(rows, round(forward_of(one.first).left.total / (layout.context * layout.tensor)), budget)
    taken = min(micro_batch or chosen, rows)
    return Setting(layout=layout, micro_batch=taken, recomputed=blocks_again(planner.of(taken), layout, again), keeps=again.keeps)


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

