"""What a checkpoint costs: how long training waits for it, how long it takes behind training's back, and how long going on from it takes.

    python -m bench.checkpoints [--d-model 512]

Beside it, the same tensors by torch.save and by torch.distributed.checkpoint, neither of which makes checksums or waits for the disk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from bloomery.core.units import human_bytes, human_count
from bloomery.mesh import ALONE
from bloomery.models import LlamaConfig
from bloomery.optim import AdamW
from bloomery.train import Checkpoints, TrainState
from bloomery.train.checkpoints.contents import entries


def state_of(d_model: int) -> TrainState:
    """A state after one step, so that the optimiser has moments."""
    model = LlamaConfig(vocab_size=8192, d_model=d_model, n_layers=8, n_heads=8).build(seed=0)
    state = TrainState(model, AdamW().build(model))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    state.optimizer.step()
    state.step = 1
    return state


def timed(what: str, size: int, action: Callable[[], object]) -> float:
    """Does something, and says how long it took."""
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    print(f"{what:52} {seconds:7.3f} s  {size / seconds / 1e9:6.2f} GB/s")
    return seconds


def main() -> None:
    """Runs the benchmark."""
    warnings.filterwarnings("ignore", category=UserWarning)
    parser = argparse.ArgumentParser()
    parser.add_argument("--d-model", type=int, default=512)
    state = state_of(parser.parse_args().d_model)
    tensors = {entry.key: entry.tensor.detach() for entry in entries(state)}
    size = sum(tensor.nbytes for tensor in tensors.values())
    print(f"{human_count(sum(p.numel() for p in state.model.parameters()))} parameters, {human_bytes(size)}")
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        checkpoints = Checkpoints(folder / "ours", ALONE, say=print)
        for again in ("first", "later"):
            state.step += 1
            waits = timed(f"ours: what training waits for, {again}", size, lambda: checkpoints.save(state))
            behind = timed("ours: write, checksums, flush, behind its back", size, checkpoints.settle)
        went = timed("ours: check, read, verify", size, lambda: Checkpoints(folder / "ours", ALONE, say=lambda _: None).resume(state))
        theirs = timed("torch.save", size, lambda: torch.save(tensors, folder / "theirs.pt"))
        timed("torch.load, memory-mapped and copied", size, lambda: [
            tensor.clone() for tensor in torch.load(folder / "theirs.pt", weights_only=True, mmap=True).values()
        ])  # fmt: skip
        others = timed("torch.distributed.checkpoint.save", size, lambda: dcp.save(tensors, checkpoint_id=folder / "dcp", no_dist=True))
        read = timed("torch.distributed.checkpoint.load", size, lambda: dcp.load(tensors, checkpoint_id=folder / "dcp", no_dist=True))
    print(f"training waits {waits / theirs:.3f} of torch.save, {waits / others:.3f} of torch.distributed.checkpoint; all of ours takes "
          f"{(waits + behind) / theirs:.2f} and {(waits + behind) / others:.2f} of theirs, going on {went / read:.2f} of "
          "torch.distributed.checkpoint.load")  # fmt: skip


if __name__ == "__main__":
    main()
