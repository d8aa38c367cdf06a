"""What can happen to one rank of several in the middle of a step, and what the others make of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.lives import COURSE, be_rank
from tests.train.resuming import MODEL, Told, state_of

from bloomery.core.errors import BloomeryError, DataError
from bloomery.mesh import Layout, Lookout, Mesh
from bloomery.train import Checkpoints, Manner, TrainState, train
from bloomery.train.wishes import Notice, Wish

STEP = 3  # in which it happens


class Fatal(Told):
    """Rows that something happens at.

    Args:
        happening: what; None where nothing does.
    """

    def __init__(self, happening: Callable[[], None] | None) -> None:
        super().__init__()
        self.happening = happening

    def rows(self, first_row: int, rows: int):
        if self.happening is not None and first_row // COURSE.rows == STEP - 1:
            self.happening()
        return super().rows(first_row, rows)


def happen(what: str) -> None:
    """Kills this process, stops it, keeps it waiting, fails, or asks it to end."""
    if what in ("SIGKILL", "SIGSTOP", "SIGTERM"):
        os.kill(os.getpid(), signal.Signals[what])
    elif what == "sleep":
        time.sleep(1000)
    elif what == "fail":
        raise DataError("row 17 cannot be read")


def rank(what: str, where: str, layout: str, victim: int, folder: Path, number: int, port: int) -> None:
    """One rank's part of a run at which `what` happens to the victim, "connecting", "reading" or in the "passes"; leaves what it has to say in
    `<rank>.said`, and an exit code."""
    world = Layout.parse(layout).world
    be_rank(number, world, port)

    def leave(told: str, code: int = 6) -> None:
        (folder / f"{number}.said").write_text(told)
        os._exit(code)

    happening, notice = (lambda: happen(what)) if number == victim else None, Notice()
    try:
        with Lookout(Mesh.join(Layout.parse(layout)), patience_s=4.0, beat_s=0.4, silence_s=4.0, leave=leave) as lookout, notice:
            if happening and where == "connecting":
                happening()
            state = state_of(Layout.parse(layout), model=MODEL.replace(n_layers=3))
            checkpoints = Checkpoints(folder / "checkpoints", state.holding.mesh)
            if happening and where == "passes":
                in_step(STEP, state, happening)
            source = Fatal(happening if where == "reading" else None)
            for report in train(state, source, COURSE, Manner(micro_batch=2), lambda: Wish(leave=notice.given), lookout.at):
                if report.wish.leave:
                    checkpoints.save(state)
                    checkpoints.settle()
                    leave(f"left after step {report.step}", 75)
    except BloomeryError as error:
        leave(str(error), error.exit_code)
    leave("came to its end", 0)


def in_step(step: int, state: TrainState, happening: Callable[[], None]) -> None:
    """Lets something happen at the second of the micro-batches of a step, of which there are as many in each."""
    passed, each = [], COURSE.rows // 2

    def hook(*_: Any) -> None:
        passed.append(1)
        if len(passed) == (step - 1) * each + 2:
            happening()

    own = next(name for name in state.holding.parameters if ".mixer." in name)
    state.model.get_submodule(own.partition(".mixer.")[0] + ".mixer").register_forward_pre_hook(hook)
