"""From a training as it is configured to its `Planner`: where what is planned meets what will run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch

from bloomery.core.errors import ConfigError
from bloomery.data import MaskedTokens, NextToken, RowTask
from bloomery.data.tasks import SpanCorruption
from bloomery.mesh import Layout, Mesh
from bloomery.mesh.spread import check
from bloomery.models import ModelConfig, TransformerConfig
from bloomery.models.transformer import NamedConfig
from bloomery.objectives import Objective
from bloomery.planning.machines import MACHINES, Machine
from bloomery.planning.memory import memory
from bloomery.planning.outlook import USABLE, Outlook, Planner, Setting
from bloomery.planning.speed import Work, speed
from bloomery.planning.trace import forward_of
from bloomery.stages.anatomy import Planned, anatomy_of
from bloomery.stages.operations import flops_per_token
from bloomery.train import Precision
from bloomery.train.machine import ACTIVATION_BYTES, choose_micro_batch, compile_pays, matmul_rate, pipeline_micro_batch
from bloomery.train.recompute import Recompute, blocks_again
from bloomery.train.spreading import check_course, check_layout

NOTHING_AGAIN = Recompute()
UTILISATION = 0.5
"""Of a machine's peak, while nothing is waited for: what large products reach in training, as long as nobody has measured better."""
FILLED = 0.87
"""Of a card's memory, what the planned peak of a step may take where the rows of a micro-batch are chosen: less than `USABLE`, for what no
plan knows."""
COMPILED = 0.25
"""Of the kernels of an eager step, what is called in a compiled one: products, attention, and what lies between two of these as one."""


def planner_of(planned: Planned, machine: Machine, rows: int, utilisation: float = UTILISATION, tokens: float = 0.0) -> Planner:
    """Of a training of a model.

    Args:
        planned: the training.
        machine: of each rank.
        rows: of a step.
        utilisation: share of the machine's peak while nothing is waited for.
        tokens: of the whole training, by which a run decides whether to compile its steps; 0 for one that does not.
    """
    planned = replace(planned, device=machine.device)
    work = work_of(planned, rows)
    if "activations" not in planned.offload and compile_pays(tokens * work.flops_per_token, machine.device):
        work = replace(work, called=COMPILED)
    return Planner(
        work=work, machine=machine, anatomy=cache(partial(anatomy_of, planned)),
        refusal=refusal_of(planned.config, rows, planned.time, planned.objective, planned.writes), utilisation=utilisation,
        keeps=planned.keeps(NOTHING_AGAIN),
    )  # fmt: skip


def outlook_of(
    planned: Planned, machine: Machine, rows: int, layout: Layout, micro_batch: int, again: Recompute, called: float = 1.0
) -> Outlook:  # fmt: skip
    """What a training comes to in one setting.

    Args:
        planned: the training.
        machine: of each rank.
        rows: of a step.
        layout: of the ranks.
        micro_batch: rows per forward pass.
        again: what is computed again.
        called: share of the kernels of eager steps that are called: `COMPILED` where steps are.
    """
    planned = replace(planned, device=machine.device)
    keeps, work = planned.keeps(again), replace(work_of(planned, rows), called=called)
    anatomy = anatomy_of(planned, micro_batch, keeps)
    recomputed = blocks_again(anatomy, layout, again)
    return Outlook(
        setting=Setting(layout=layout, micro_batch=micro_batch, recomputed=recomputed, keeps=keeps),
        places=tuple(memory(anatomy, layout, rows, recomputed)), usable=USABLE * machine.memory,
        speed=speed(work, anatomy, layout, machine, UTILISATION, recomputed),
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
        bf16_flops=rate, fp32_flops=rate, memory=memory, near=1e9, far=1e8, node=max(1, os.cpu_count() or 1), device="cpu",
        activations=ACTIVATION_BYTES,
    )  # fmt: skip


def most_rows(planner: Planner, layout: Layout, again: Recompute) -> int:
    """The most rows of a forward pass with which the planned peak of a step stays within `FILLED` of the memory, evened out over the
    micro-batches of a step; one where not even that does. A function of the configuration and of what the machine has in all, never of what
    happens to be free.

    Args:
        planner: of the training.
        layout: of the ranks.
        again: what is computed again.
    """
    rows = planner.work.rows // layout.readers

    def fits(taken: int) -> bool:
        try:
            return planner.outlook(setting(planner, layout, taken, again)).memory.total <= FILLED * planner.machine.memory
        except ConfigError:  # more than what may be kept, whatever is computed again
            return False

    least, most = 1, rows
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return -(-rows // -(-rows // least))


def setting(planner: Planner, layout: Layout, micro_batch: int, again: Recompute) -> Setting:
    """With so many rows per forward pass.

    Raises:
        ConfigError: even if all were computed again, it would be more than the budget.
    """
    keeps = planner.keeps if again.kind == "none" else again.keeps
    return Setting(layout=layout, micro_batch=micro_batch, recomputed=blocks_again(planner.of(micro_batch), layout, again), keeps=keeps)


def work_of(planned: Planned, rows: int) -> Work:
    """What a step of so many rows computes."""
    return Work(
        flops_per_token=flops_per_token(planned), rows=rows, time=planned.time, precision=planned.precision,
        active_experts=active_experts(planned.config),
    )  # fmt: skip


def usual(planner: Planner, layout: Layout, micro_batch: int | None = None, again: Recompute = NOTHING_AGAIN) -> Setting:
    """The setting that a run has in a layout unless told otherwise.

    Raises:
        ConfigError: the training cannot be laid out like that.
    """
    if reason := planner.refusal(layout):
        raise ConfigError(reason)
    rows = planner.work.rows // layout.readers
    if micro_batch is not None:
        chosen = micro_batch
    elif layout.pipeline > 1:
        chosen = pipeline_micro_batch(rows, layout.pipeline)
    elif (budget := planner.machine.activations) is not None:
        chosen = choose_micro_batch(rows, round(forward_of(planner.of(1).first).left.total / (layout.context * layout.tensor)), budget)
    else:
        chosen = most_rows(planner, layout, again)
    return setting(planner, layout, min(chosen, rows), again)


def refusal_of(config: ModelConfig, rows: int, time: int, objective: Objective, writes: bool) -> Callable[[Layout], str]:
    """Says why a training cannot be laid out in some way; empty where it can. Asks what will be asked when it runs."""
    with torch.device("meta"):
        model = config.skeleton()

    def refusal(layout: Layout) -> str:
        mesh = Mesh(layout)
        try:
            check_course(layout, rows, time, objective, writes)
            check_layout(config, model, mesh)
            check(model, mesh)
        except ConfigError as error:
            return str(error)
        return ""

    return refusal


def usual_task(config: ModelConfig) -> RowTask:
    """What models of a kind are trained on."""
    return SpanCorruption() if config.reads_passage else NextToken() if config.reads_forward else MaskedTokens()


def active_experts(config: ModelConfig) -> int:
    """Experts that each token goes to, in the layers that have some."""
    parts = config.transformer if isinstance(config, NamedConfig) else config
    if not isinstance(parts, TransformerConfig):
        return 0
    return max((getattr(feed_forward, "n_active", 0) for feed_forward in parts.feed_forwards), default=0)

