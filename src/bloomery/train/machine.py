"""What the machine can do, measured, and what follows for a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from bloomery.data.batch import Batch
from bloomery.data.source import Source
from bloomery.mesh import Mesh, settle
from bloomery.mesh.held import numbers_here
from bloomery.objectives import Models, Objective
from bloomery.train.manner import Precision, autocast
from bloomery.train.state import TrainState

COMPILE_FLOPS = {"cpu": 1.5e14, "cuda": 1e17}
"""Planned operations from which torch.compile repays its 6 to 50 seconds twice, at a gain of 8 % and usual rates."""
ACTIVATION_BYTES = 2 << 30  # for the activations of one micro-batch, where memory is not a card's own
MICRO_BATCHES_PER_STAGE = 4  # of a pipeline, where there are rows enough


@lru_cache(maxsize=8)
def matmul_rate(device: str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 0.2) -> float:
    """Floating-point operations per second of matrix products of a training step's size: the best of several, after a warm-up.
    Measured once in a process: trainings of one recipe are planned by the same machine.

    Args:
        device: where.
        dtype: of what.
        seconds: how long to measure.
    """
    a, b = (torch.randn(shape, device=device, dtype=dtype) for shape in ((1024, 512), (512, 1024)))
    best, until = 0.0, time.perf_counter() + seconds
    repeat = 1 if device == "cpu" else 100
    a @ b
    while time.perf_counter() < until or not best:
        _wait(device)
        started = time.perf_counter()
        for _ in range(repeat):
            a @ b
        _wait(device)
        best = max(best, repeat * 2.0 * 1024 * 512 * 1024 / (time.perf_counter() - started))
    return best


def compile_pays(flops: float, device: str = "cpu") -> bool:
    """Whether a run of so many operations repays compilation. A function of the plan alone, so that a resumed run decides alike."""
    return flops >= COMPILE_FLOPS.get(device.split(":")[0], COMPILE_FLOPS["cuda"])


def activation_bytes(objective: Objective, models: Models, row: Batch, precision: Precision = "fp32") -> int:
    """What one row's forward pass keeps for its backward pass, counted on the row itself. Eager; compiled steps keep less."""
    kept: dict[int, int] = {}
    own = {numbers_here(p).untyped_storage().data_ptr() for p in models.policy.parameters()}

    def count(tensor: Tensor) -> Tensor:
        storage = numbers_here(tensor).untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), autocast(precision, row.tokens.device):
        objective.read(models, row)
    return sum(kept.values())


def row_meter(state: TrainState, source: Source, objective: Objective, precision: Precision, device: str) -> Callable[[], int]:
    """What measures, each time it is called, the bytes that this rank keeps of one row of a training; not along a pipeline, whose ranks have
    parts of a pass only. All ranks must call it."""
    mesh = state.holding.mesh

    def measure() -> int:
        row = source.batch(0, 1).share(mesh.time.index, mesh.time.size).to(device)
        kept = activation_bytes(objective, state.models, row, precision)
        settle(state.model, mesh)
        return kept

    return measure


def over_ranks(mesh: Mesh, count: int) -> int:
    """The mean of what the ranks count, the same on all."""
    return round(mesh.world.total([count])[0]) // mesh.layout.world


def choose_micro_batch(rows: int, bytes_per_row: int, budget: int) -> int:
    """The most rows whose activations stay within the budget, evened out over the micro-batches of a step.

    A function of the configuration, not of the memory that happens to be free: a resumed run must round alike.
    """
    most = max(1, min(rows, budget // max(1, bytes_per_row)))
    return -(-rows // -(-rows // most))


def pipeline_micro_batch(rows: int, stages: int) -> int:
    """Rows per forward pass along a pipeline: so few that there are micro-batches enough for waiting at its ends to count little.

    Args:
        rows: of a step, of one pipeline.
        stages: ranks of it.
    """
    return max(1, rows // (MICRO_BATCHES_PER_STAGE * stages))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


