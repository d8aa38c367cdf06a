"""Trainings on several ranks that are started, killed and started again; each rank is a process of its own."""

from __future__ import annotations

import os
import random
import socket
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.mesh.ranks import CONTEXT
from tests.train.resuming import MODEL, Told, state_of

from bloomery.mesh import Layout
from bloomery.models import write_held_model
from bloomery.objectives import CausalLM
from bloomery.optim import WarmupCosine
from bloomery.train import Checkpoints, Course, Manner, train
from bloomery.train.checkpoints.folder import MANIFEST, found, step_of

COURSE = Course(objective=CausalLM(), schedule=WarmupCosine(warmup=2), steps=30, rows=8)


def be_rank(rank: int, world: int, port: int) -> None:
    """Makes this process one rank of a world, as a launcher does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)


def life(layout: str, folder: Path, rank: int, port: int) -> None:
    """One rank's part of a run that saves after every step; it says where it goes on from, and writes the model in the end."""
    world = Layout.parse(layout).world
    be_rank(rank, world, port)
    try:
        state = state_of(Layout.parse(layout))
        checkpoints = Checkpoints(folder / "checkpoints", state.holding.mesh, facts=COURSE.facts, say=lambda line: say(folder, line))
        if not checkpoints.resume(state) and rank == 0:
            say(folder, "going on from step 0")
        for _ in train(state, Told(), COURSE, Manner(micro_batch=4)):
            checkpoints.save(state)
        checkpoints.settle()
        write_held_model(folder / "model", MODEL, state.holding, state.average.values)
    except Exception:
        (folder / f"{rank}.error").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def say(folder: Path, line: str) -> None:
    """Adds a line to what the run has said."""
    with open(folder / "said", "a") as file:
        file.write(line + "\n")


@dataclass
class Run:
    """A run in a folder, life after life."""

    layout: str
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)

    def start(self) -> list[Any]:
        """Starts all ranks."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ranks = [CONTEXT.Process(target=life, args=(self.layout, self.folder, rank, port)) for rank in range(Layout.parse(self.layout).world)]
        for process in ranks:
            process.start()
        return ranks

    @property
    def acknowledged(self) -> int:
        """The step of the newest checkpoint that is one."""
        return max((step_of(path) for path in found(self.folder / "checkpoints") if (path / MANIFEST).exists()), default=0)

    @property
    def torn(self) -> int:
        """How many checkpoints were being written, or deleted."""
        return sum(not (path / MANIFEST).exists() for path in found(self.folder / "checkpoints"))

    @property
    def steps_gone_on_from(self) -> list[int]:
        """Those of all lives so far."""
        lines = (self.folder / "said").read_text().splitlines() if (self.folder / "said").exists() else []
        return [int(line.split("step ")[1].split(",")[0]) for line in lines if line.startswith("going on from")]

    def to_end(self) -> bytes:
        """Lives one more life undisturbed; the final weights."""
        for process in self.start():
            process.join(120)
            assert process.exitcode == 0, [path.read_text() for path in self.folder.glob("*.error")]
        return (self.folder / "model" / "model.safetensors").read_bytes()


def killed(run: Run, moments: random.Random) -> bool:
    """Starts a run and kills one rank or all, a while after some checkpoint; False where it had come to its end by then.

    Ranks that are still looking for each other when one is killed go on looking, and are killed, as a launcher does.
    """
    start = run.acknowledged
    until = start + moments.randint(0, 10)
    ranks = run.start()
    while run.acknowledged < until and all(process.is_alive() for process in ranks):
        time.sleep(0.005)
    time.sleep(moments.uniform(0, 0.1))
    victims = ranks if moments.random() < 0.5 else [moments.choice(ranks)]
    alive = all(process.is_alive() for process in ranks)
    for process in victims:
        process.kill()
    together = run.acknowledged > start
    for process in ranks:
        process.join(60 if together else 1)
        assert not (together and process.is_alive()), "a rank waits for one that is gone"
        process.kill()
        process.join()
    return alive


def survive(folder: Path, layout: str, kills: int, seed: int) -> dict[str, int]:
    """Kills runs again and again; what is acknowledged must be there in the next life, and the end be that of an undisturbed run."""
    moments = random.Random(seed)
    expected = Run(layout, folder / "undisturbed").to_end()
    run, done, lives, torn, later = Run(layout, folder / "disturbed-0"), 0, 0, 0, 0
    while done < kills:
        before, said = run.acknowledged, len(run.steps_gone_on_from)
        if not killed(run, moments):
            assert run.to_end() == expected
            lives += 1
            run = Run(layout, folder / f"disturbed-{lives}")
            continue
        done += 1
        assert run.acknowledged >= before, "an acknowledged checkpoint is lost"
        assert all(step == before for step in run.steps_gone_on_from[said:]), "it did not go on from the newest one"
        torn += run.torn
        later += run.acknowledged > before
    before = run.acknowledged
    assert run.to_end() == expected
    assert run.steps_gone_on_from[-1] == before
    return {"kills": done, "runs": lives + 1, "in the middle of a checkpoint": torn, "after new checkpoints": later}
