"""Runs a function on several ranks, each a process of its own on this machine, and brings back what each returns."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "bloomery.train", "torch.distributed.fsdp", "torch.distributed.device_mesh", "bloomery.cli.main", "bloomery.recipe",
    "bloomery.stages.train",
])  # fmt: skip


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any, timeout_s: float = 150.0) -> list[Any]:
    """What `function(*arguments)` returns on each of `world` ranks, in their order; raises what one of them raises."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        processes = [CONTEXT.Process(target=_rank, args=(rank, world, port, folder, function, arguments)) for rank in range(world)]
        for process in processes:
            process.start()
        until = time.monotonic() + timeout_s
        failed = False
        for process in processes:
            while process.is_alive() and time.monotonic() < until and not failed:
                process.join(0.1)
                failed = any(p.exitcode not in (None, 0) for p in processes)
        late = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
            process.join()
        errors = [path.read_text() for path in sorted(Path(folder).glob("*.error"))]
        if errors:
            raise AssertionError("\n".join(errors))
        if late:
            raise AssertionError(f"ranks {late} did not come to an end in {timeout_s} s")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(rank: int, world: int, port: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    try:
        result = function(*arguments)
    except BaseException:
        (Path(folder) / f"{rank}.error").write_text(f"rank {rank}: {traceback.format_exc()}")
        os._exit(1)
    torch.save(result, Path(folder) / f"{rank}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
