"""Ranks find those that were started with them, and nobody else."""

from __future__ import annotations

import os

import pytest
import torch.distributed as dist

from bloomery.core.errors import ResourceError
from bloomery.mesh import Layout, Mesh
from tests.mesh.ranks import on_ranks


def join(port: int, said: float, timeout_s: float = 60, **environment: str) -> list[float] | str:
    """What a rank hears that joins the others at a launcher's store, or why it does not."""
    os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True", **environment}
    try:
        mesh = Mesh.join(Layout(shard=int(os.environ["WORLD_SIZE"])), timeout_s=timeout_s)
    except ResourceError as error:
        return str(error)
    return mesh.world.total([said])


def leave_words(port: int) -> None:
    """What a rank does that is killed while it looks for the others."""
    store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    store.set(f"bloomery/arrived/{os.environ['RANK']}", "nobody is left to read the answer")


@pytest.fixture
def launcher() -> dist.TCPStore:
    """The store of a launcher that starts ranks anew; it keeps what they have said."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def test_ranks_that_are_started_anew_do_not_take_those_before_them_for_their_own(launcher: dist.TCPStore):
    on_ranks(2, leave_words, launcher.port)
    assert on_ranks(2, join, launcher.port, 1.0) == [[2.0], [2.0]]
    assert on_ranks(2, join, launcher.port, 2.0) == [[4.0], [4.0]]


def absent(port: int) -> list[float] | str:
    """A rank of three, of which only the first and the last come."""
    return join(port, 1.0, 5, WORLD_SIZE="3", RANK="02"[int(os.environ["RANK"])])


def test_ranks_that_do_not_come_are_named(launcher: dist.TCPStore):
    on_ranks(2, leave_words, launcher.port)
    first, last = on_ranks(2, absent, launcher.port)
    assert first == last == "rank 1 of 3 did not come to where ranks meet in time; look for what keeps them, and run again"


def lonely(port: int) -> list[float] | str:
    """A rank whose first one does not come."""
    return join(port, 1.0, 2, WORLD_SIZE="2", RANK="1")


def test_a_first_rank_that_does_not_come_is_named(launcher: dist.TCPStore):
    (told,) = on_ranks(1, lonely, launcher.port)
    assert told == f"rank 1 did not meet rank 0 at 127.0.0.1:{launcher.port} in 2 s; look at rank 0 and its machine"
