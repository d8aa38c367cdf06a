"""A rank that is killed, stopped, stuck or failed: the others say which one and where it was, and wait no longer."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from tests.faults.losses import rank
from tests.mesh.ranks import CONTEXT

from bloomery.mesh import Layout
from bloomery.train.checkpoints.folder import MANIFEST


def outcome(folder: Path, what: str, layout: str, where: str = "reading", victim: int | None = None) -> list[tuple[int | None, str]]:
    """Of each rank, its exit code and what it had to say; a stopped one is killed when the others are done.

    Args:
        folder: for what they leave.
        what, where: of the loss.
        layout: of the ranks.
        victim: to whom it happens; the last one unless given.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = Layout.parse(layout).world
    victim = world - 1 if victim is None else victim
    processes = [CONTEXT.Process(target=rank, args=(what, where, layout, victim, folder, number, port)) for number in range(world)]
    for process in processes:
        process.start()
    for number, process in enumerate(processes):
        if number != victim:
            process.join(120)
            assert process.exitcode is not None, f"rank {number} waits for one that is lost"
    processes[victim].join(0.1 if what == "SIGSTOP" else 60)
    processes[victim].kill()
    processes[victim].join()
    said = [folder / f"{number}.said" for number in range(world)]
    return [(process.exitcode, path.read_text() if path.exists() else "") for process, path in zip(processes, said, strict=True)]


GONE = r"rank {victim} is gone: last seen in step [0-3], .*; look for what ended it, and run again"  # its last word may be some steps old
STUCK = r"rank 1 did not arrive in \d+ s: last seen in step 3, reading rows, at \w+ \(losses\.py:\d+\); look at the machine, and run again"
FAILED = r"rank 1 left in step 3, reading rows.*: DataError: row 17 cannot be read"


@pytest.mark.parametrize(("what", "layout", "said", "code"), [
    ("SIGKILL", "shard=2", GONE, -9), ("sleep", "shard=2", STUCK, 6),
    pytest.param("sleep", "tensor=2", STUCK, 6, marks=pytest.mark.slow),
    ("fail", "tensor=2", FAILED, 3),
], ids=lambda value: value if isinstance(value, str) and " " not in value else "")  # fmt: skip
def test_the_others_say_who_is_lost_and_where(tmp_path: Path, what: str, layout: str, said: str, code: int):
    first, last = outcome(tmp_path, what, layout)
    assert first[0] == 6, "it is ended by the lookout"
    assert re.fullmatch(said.replace("{victim}", "1"), first[1]), first[1]
    assert last[0] == code


@pytest.mark.parametrize(("what", "where", "victim"), [
    pytest.param("SIGKILL", "connecting", 1, marks=pytest.mark.slow), ("SIGKILL", "passes", 0), ("SIGKILL", "passes", 1),
    pytest.param("SIGSTOP", "passes", 2, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_rank_of_a_pipeline_is_missed_at_both_ends(tmp_path: Path, what: str, where: str, victim: int):
    """Not all ranks talk to each other there; those that do not talk to the lost one learn of it, too."""
    ranks = outcome(tmp_path, what, "pipeline=3", where, victim)
    words = GONE.replace("{victim}", str(victim)) + ("|rank 0 is gone, and all last words with it; .*" if victim == 0 else "")
    for number, (code, said) in enumerate(ranks):
        assert code == (-9 if number == victim else 6)
        assert number == victim or re.fullmatch(words, said), said


def test_when_one_is_asked_to_end_all_save_at_one_step_and_leave(tmp_path: Path):
    (code, said), (other, its) = outcome(tmp_path, "SIGTERM", "shard=2")
    assert (code, other) == (75, 75)
    assert said == its == "left after step 3"
    assert (tmp_path / "checkpoints" / "step-00000003" / MANIFEST).exists()
