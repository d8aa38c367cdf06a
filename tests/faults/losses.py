"""What can happen to one rank of several in the middle of a step, and what the others make of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.lives import COURSE, be_rank
from tests.train.resuming import Told, state_of

from bloomery.core.errors import BloomeryError, DataError
from bloomery.mesh import Layout, Lookout
from bloomery.train import Checkpoints, Manner, train
from bloomery.train.wishes import Notice, Wish

STEP = 3  # in which it happens


class Fatal(Told):
    """Rows that something happens at, on the last rank."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def rows(self, first_row: int, rows: int):
        if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1 and first_row // COURSE.rows == STEP - 1:
            happen(self.what)
        return super().rows(first_row, rows)


def happen(what: str) -> None:
    """Kills this process, stops it, keeps it waiting, fails, or asks it to end."""
    if what in ("SIGKILL", "SIGSTOP", "SIGTERM"):
        os.kill(os.getpid(), signal.Signals[what])
    elif what == "sleep":
        time.sleep(1000)
    elif what == "fail":
        raise DataError("row 17 cannot be read")


def rank(what: str, layout: str, folder: Path, number: int, port: int) -> None:
    """One rank's part of a run at which `what` happens; leaves what it has to say in `<rank>.said`, and an exit code."""
    world = Layout.parse(layout).world
    be_rank(number, world, port)

    def leave(told: str, code: int = 6) -> None:
        (folder / f"{number}.said").write_text(told)
        os._exit(code)

    state, notice = state_of(Layout.parse(layout)), Notice()
    mesh = state.holding.mesh
    checkpoints = Checkpoints(folder / "checkpoints", mesh)
    try:
        with Lookout(mesh, patience_s=4.0, beat_s=0.4, leave=leave) as lookout, notice:
            for report in train(state, Fatal(what), COURSE, Manner(micro_batch=4), lambda: Wish(leave=notice.given), lookout.at):
                if report.wish.leave:
                    checkpoints.save(state)
                    checkpoints.settle()
                    leave(f"left after step {report.step}", 75)
    except BloomeryError as error:
        leave(str(error), error.exit_code)
    leave("came to its end", 0)
