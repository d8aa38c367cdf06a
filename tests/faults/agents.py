"""torchrun as people start it, over a store; and the ranks that it has started, for tests to kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = "tests/faults/small.py"
ENVIRONMENT = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
TORCHRUN, BLOOMERY = (sys.executable, "-m", "torch.distributed.run"), (sys.executable, "-m", "bloomery.cli")


@dataclass
class Launched:
    """A launcher, and its ranks."""

    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        with open(self.log, "a") as log:
            environment = {**ENVIRONMENT, **self.environment}
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def ranks(self) -> dict[int, int]:
        """Rank → process, of those that are alive."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                said = dict(line.split("=", 1) for line in (path / "environ").read_text().split("\0") if "=" in line)
            except OSError:  # it has ended in the meantime, or is none of ours
                continue
            if parent == self.process.pid and "RANK" in said:
                found[int(said["RANK"])] = int(path.name)
        return found

    def has_rank(self, rank: int, timeout_s: float = 240) -> None:
        """Waits until it has started a rank of this number."""
        until = time.monotonic() + timeout_s
        while rank not in self.ranks:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def kill(self, rank: int) -> None:
        """As when a rank runs out of memory."""
        os.kill(self.ranks[rank], signal.SIGKILL)

    def lose(self) -> None:
        """As when a machine loses its power: launcher and ranks."""
        ranks = self.ranks
        self.process.kill()
        self.process.wait()
        for process in ranks.values():
            os.kill(process, signal.SIGKILL)

    def ends(self, timeout_s: float = 120) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.lose()


def arguments(text: Path, store: Path, steps: int, *more: str) -> tuple[str, ...]:
    """Of `bloomery`: a run that saves after every fifth step."""
    dials = ("--text", str(text), "--steps", str(steps))
    return ("run", RECIPE, *dials, "--store", str(store), "--device", "cpu", "--tracker", "none", "--keep-every", "5", *more)


def saved(store: Path) -> int:
    """The step of the newest whole checkpoint of a training that is not done."""
    manifests = store.glob("Train/*.partial/checkpoints/*/manifest.json")
    return max((int(path.parent.name.removeprefix("step-").split(".")[0]) for path in manifests), default=0)


def comes_to(step: int, store: Path, timeout_s: float = 240) -> None:
    """Waits until a training has saved at a step, or a later one."""
    until = time.monotonic() + timeout_s
    while saved(store) < step:
        assert time.monotonic() < until, f"no checkpoint of step {step} in {timeout_s} s"
        time.sleep(0.01)


def losses(store: Path) -> dict[int, float]:
    """Step → loss of the one training in a store."""
    (path,) = store.glob("Train/*/metrics.jsonl")
    lines = map(json.loads, path.read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}
