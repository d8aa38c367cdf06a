"""`Job`: what is to run on how many nodes, for launchers to write down in their own way."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bloomery.core.errors import ConfigError

GRACE_S = 120  # between the warning that nodes will be taken away and their loss, in which ranks save what they have
USUAL_GPUS = 8  # of a node
CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d{1,3}):(?P<minutes>\d{2})(?::(?P<seconds>\d{2}))?")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run on many ranks.

    Attributes:
        name: of the recipe, fit for labels: lower-case letters, digits and hyphens.
        arguments: of `bloomery`, without the launcher's own.
        nodes: machines.
        per_node: ranks of each; GPUs, too, unless ranks are on the CPU.
        device: "cuda" or "cpu".
        cpus_per_rank: cores of each rank.
        restarts: how often it is started anew after a failure.
        time_s: the longest that it may take; None for no limit of ours.
    """

    name: str
    arguments: tuple[str, ...]
    nodes: int
    per_node: int
    device: str = "cuda"
    cpus_per_rank: int = 8
    restarts: int = 0
    time_s: int | None = None

    @property
    def gpus(self) -> int:
        """Of each node."""
        return self.per_node if self.device == "cuda" else 0


def job_of(
    recipe: str, arguments: tuple[str, ...], ranks: int, *, nodes: int | None, gpus_per_node: int | None, device: str, cpus_per_gpu: int,
    restarts: int, time: str | None,
) -> Job:
    """A job from what the command line says.

    Raises:
        ConfigError: ranks cannot be laid on the nodes, or the time is none.
    """
    per_node = gpus_per_node or (ranks // nodes if nodes else min(USUAL_GPUS, ranks))
    whole = nodes or max(1, ranks // max(1, per_node))
    if whole * per_node != ranks:
        fits = [f"--nodes {n} --gpus-per-node {ranks // n}" for n in range(1, ranks + 1) if ranks % n == 0 and ranks // n <= USUAL_GPUS]
        raise ConfigError(f"--nodes {whole} --gpus-per-node {per_node} make not the {ranks} ranks of --layout; {' or '.join(fits[:2])} would")
    seconds = None if time is None else seconds_of(time)
    return Job(
        name=label(recipe), arguments=arguments, nodes=whole, per_node=per_node, device=device, cpus_per_rank=cpus_per_gpu, restarts=restarts,
        time_s=seconds,
    )  # fmt: skip


def seconds_of(time: str) -> int:
    """A duration as the command line has it, "HH:MM", "HH:MM:SS" or "D-HH:MM:SS", in seconds."""
    found = CLOCK.fullmatch(time)
    if found is None:
        raise ConfigError(f"--time {time!r} is no duration; write HH:MM:SS or D-HH:MM:SS, 12:00:00, say")
    days, hours, minutes, seconds = (int(found[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def label(name: str) -> str:
    """A name as clusters want it: lower-case letters, digits and hyphens, 50 at most."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].rstrip("-")
    return words if words[:1].isalpha() else f"run-{words}".rstrip("-")


def plain(option: str, value: str) -> str:
    """The value of an option that names something on a cluster; raises `ConfigError` where it is none that any cluster could have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.,:/@+-]*", value):
        raise ConfigError(f"{option} {value!r} is no name; letters, digits and _.,:/@+- make one")
    return value
