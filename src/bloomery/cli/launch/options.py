"""Which options of `bloomery run` each launcher reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from bloomery.core.errors import ConfigError

JOB = {"nodes", "gpus_per_node", "cpus_per_gpu", "time", "restarts", "submit", "dry_run"}
READS = {
    None: set[str](), "torchrun": {"restarts", "dry_run"}, "slurm": JOB | {"partition", "account"},
    "kubernetes": JOB | {"image", "claim", "namespace"},
}  # fmt: skip
"""Launcher → the options that it reads."""
LAUNCHING = frozenset[str]().union(*READS.values())
"""All of them."""


def check(ctx: click.Context, launcher: str | None, options: Mapping[str, Any]) -> None:
    """Refuses options that the launcher would not read."""
    for name in options:
        if name not in READS[launcher] and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            readers = " or ".join(f"--launch {one}" for one, reads in READS.items() if name in reads)
            given = f"--launch {launcher}" if launcher else "no --launch"
            raise ConfigError(f"--{name.replace('_', '-')} is read by {readers}, and there is {given}; add the one or leave out the other")
