"""Ranks on this machine, by torch's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Sequence

import click

from bloomery.cli.launch.job import GRACE_S
from bloomery.core.errors import ConfigError


def torchrun(command: Sequence[str], ranks: int, restarts: int = 0) -> int:
    """Starts a command once per rank, under torchrun's environment (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and a free MASTER_PORT).

    When one of them fails, the others are ended, and all are started anew as often as `restarts` says. SIGTERM and SIGINT are handed on to
    all of them, which have two minutes to save what they have.

    Args:
        command: the program and its arguments.
        ranks: how many.
        restarts: after failures.

    Returns:
        0; or the exit code of the first that failed, in the last try; 128 + the signal where a signal ended it, or us.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says, we say in a line
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_S))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1", max_restarts=restarts,
    )  # fmt: skip
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        how = f"exit code {code}" if failure.exitcode > 0 else signal.Signals(-failure.exitcode).name
        if code != ConfigError.exit_code:  # what the rank has told is to be mended first
            click.echo(f"rank {rank} of {ranks} ended with {how}, and the others were ended; the same command goes on from here", err=True)
        return code
    except SignalException as error:
        click.echo(f"stopped by {error.sigval.name}; the same command goes on from here", err=True)
        return 128 + error.sigval
    return 0
