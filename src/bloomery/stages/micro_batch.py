"""How many rows a training reads at a time: chosen in one place for runs, sweeps and the doctor. `planner.usual` foretells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from bloomery.mesh import Mesh
from bloomery.models import ModelConfig
from bloomery.planning.machines import Machine
from bloomery.stages.planner import most_rows, planner_of
from bloomery.stages.stage import RunContext
from bloomery.stages.training import Training
from bloomery.store import write_json
from bloomery.train.machine import ACTIVATION_BYTES, choose_micro_batch, over_ranks, pipeline_micro_batch

BEGUN = "micro_batches.json"
"""In a workspace: layout → rows per forward pass that the run began with there."""


def rows_at_a_time(
    stage: Training, context: RunContext, config: ModelConfig, machine: Callable[[], Machine], measure: Callable[[], int],
) -> int:  # fmt: skip
    """Rows per forward pass of a rank. All ranks must ask.

    Args:
        stage: the training.
        context: where and how it runs; what it says of the micro-batch is taken, as far as a step has so many rows.
        config: of the model.
        machine: gives that of this rank; asked only where there is something to choose.
        measure: counts the bytes that this rank keeps of one row; asked where no card's memory says how many there is room for.
    """
    mesh = context.mesh
    rows = stage.rows // mesh.readers.size
    if context.micro_batch is not None:
        return min(context.micro_batch, rows)
    if mesh.layout.pipeline > 1:
        return min(pipeline_micro_batch(rows, mesh.layout.pipeline), rows)
    card, planned = machine(), 0
    if card.activations is None:
        try:
            planned = most_rows(planner_of(stage.planned(config, context.offload), card, stage.rows), mesh.layout, context.recompute)
        except Exception:  # an objective may do what tensors without memory cannot; that ends no training
            planned = 0
    least = int(mesh.world.gather(torch.tensor([planned])).amin())  # cards need not be alike, micro-batches must
    return least or choose_micro_batch(rows, over_ranks(mesh, measure()), card.activations or ACTIVATION_BYTES)


def as_begun(folder: Path, mesh: Mesh, given: int | None, choose: Callable[[], int]) -> int:
    """What a run began with in this layout, so that it goes on to the same bits on another card, too; or else what is chosen now, noted down.

    Args:
        folder: the run's workspace.
        mesh: its ranks, all of which must ask.
        given: what is asked for, whatever it began with.
        choose: makes the choice where there is none yet, or where it is given.
    """
    path, layout = folder / BEGUN, str(mesh.layout)
    begun = json.loads(mesh.world.tell(path.read_text() if mesh.leads and path.exists() else "{}", 0))
    if given is None and layout in begun:
        return begun[layout]
    chosen = choose()
    if mesh.leads:
        write_json(path, begun | {layout: chosen})
    return chosen
