"""`bloomery run … --launch …`: from the options of the command line to running ranks, or to a job file."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bloomery.cli.launch.job import Job, job_of
from bloomery.cli.launch.kubernetes import RECIPES, STORE, Kubernetes
from bloomery.cli.launch.options import LAUNCHING
from bloomery.cli.launch.slurm import Slurm
from bloomery.cli.launch.torchrun import torchrun
from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout
from bloomery.store import write_text

if TYPE_CHECKING:  # an annotation only
    from bloomery.recipe import Dials

def start(ctx: click.Context, launcher: str, dials: Dials, texts: Mapping[str, str], options: Mapping[str, Any]) -> int:
    """Starts the ranks, or writes (and submits) the job.

    Args:
        ctx: the command line.
        launcher: "torchrun", "slurm" or "kubernetes".
        dials, texts: of the recipe, which is built once here, so that a mistake in it is told once and not by each rank.
        options: the launcher's.

    Returns:
        The exit code.
    """
    name, device = dials.set(texts).name, ctx.params["device"]
    ranks = Layout.parse(ctx.params["layout"], _gpus(launcher, device, options)).world
    if launcher == "torchrun":
        return _here(ctx, ranks, device, options)
    job = job_of(
        name, _arguments(ctx) if launcher == "slurm" else _arguments_in_pods(ctx), ranks, nodes=options["nodes"],
        gpus_per_node=options["gpus_per_node"], device="cpu" if device == "cpu" else "cuda", cpus_per_gpu=options["cpus_per_gpu"],
        restarts=options["restarts"], time=options["time"],
    )  # fmt: skip
    cluster = _slurm(ctx, options) if launcher == "slurm" else _kubernetes(ctx, options)
    return _write(ctx, job, cluster, options)


def _gpus(launcher: str, device: str, options: Mapping[str, Any]) -> int | None:
    """How many ranks there is room for, as far as it is known: what an axis that is "auto" is told by."""
    if launcher != "torchrun":
        return options["nodes"] * options["gpus_per_node"] if options["nodes"] and options["gpus_per_node"] else None
    import torch

    return (torch.cuda.device_count() or None) if device != "cpu" else None


def _here(ctx: click.Context, ranks: int, device: str, options: Mapping[str, Any]) -> int:
    import torch

    if device != "cpu" and (gpus := torch.cuda.device_count()) and gpus < ranks:
        raise ConfigError(f"--layout {ctx.params['layout']} has {ranks} ranks, and there are {gpus} GPUs here; take fewer, or --device cpu")
    arguments = ["-m", "bloomery.cli", *_arguments(ctx)]
    if options["dry_run"]:
        restarts = options["restarts"]
        click.echo(shlex.join(["torchrun", "--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", *arguments]))
        return 0
    return torchrun([sys.executable, *arguments], ranks, options["restarts"])


def _slurm(ctx: click.Context, options: Mapping[str, Any]) -> Slurm:
    here = Path.cwd()
    return Slurm(
        python=sys.executable, folder=here, logs=here / ctx.params["store_path"] / "jobs", partition=options["partition"],
        account=options["account"],
    )  # fmt: skip


def _kubernetes(ctx: click.Context, options: Mapping[str, Any]) -> Kubernetes:
    needed = {"image": "what pods run, with bloomery installed in it", "claim": "the volume claim of the store, which all pods see"}
    for name, what in needed.items():
        if options[name] is None:
            raise ConfigError(f"--launch kubernetes needs --{name}, {what}; add --{name} NAME")
    path, _, _ = ctx.params["recipe"].partition(":")
    return Kubernetes(image=options["image"], claim=options["claim"], recipe=Path(path), namespace=options["namespace"])


def _write(ctx: click.Context, job: Job, cluster: Slurm | Kubernetes, options: Mapping[str, Any]) -> int:
    text = cluster.text(job)
    if options["dry_run"]:
        click.echo(text, nl=False)
        return 0
    path = ctx.params["store_path"] / "jobs" / f"{job.name}{cluster.suffix}"
    write_text(path, text)
    submit = [*cluster.submit, str(path)]
    if not options["submit"]:
        click.echo(f"{path} is written; {shlex.join(submit)} submits it")
        return 0
    try:
        return subprocess.run(submit, check=False).returncode
    except FileNotFoundError:
        raise ConfigError(f"--submit: {submit[0]} is not installed here; take {path} to where it is") from None


def _arguments(ctx: click.Context, recipe: str | None = None, leave_out: Sequence[str] = ()) -> tuple[str, ...]:
    """What each rank's `bloomery` is told: what we were told, without what is the launcher's."""
    own = {"launcher", "recipe", *LAUNCHING, *leave_out}
    said: list[str] = []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in own or ctx.get_parameter_source(name) not in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
            continue
        value, option = ctx.params[name], parameter.opts[-1]
        if value is True:
            said.append(option)
        else:
            said += [word for one in (value if isinstance(value, tuple) else (value,)) for word in (option, str(one))]
    return ("run", recipe or ctx.params["recipe"], *ctx.args, *said)


def _arguments_in_pods(ctx: click.Context) -> tuple[str, ...]:
    """The same, with recipe and store where pods see them."""
    path, colon, function = ctx.params["recipe"].partition(":")
    return (*_arguments(ctx, f"{RECIPES}/{Path(path).name}{colon}{function}", ["store_path"]), "--store", STORE)
