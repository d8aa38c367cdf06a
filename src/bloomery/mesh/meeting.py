"""How the ranks that a launcher has started find each other: those of this life, and none of an earlier one."""

from __future__ import annotations

import os
import secrets
import time
from datetime import timedelta

import torch.distributed as dist

from bloomery.core.errors import ResourceError

LOOK_AGAIN_S = 0.05  # how often the first rank looks who has come


def meet(timeout_s: float) -> dist.Store:
    """The store of all ranks, once they are all there. The environment says where it is and who they are, as launchers do: RANK, WORLD_SIZE,
    MASTER_ADDR, MASTER_PORT.

    A launcher that starts ranks anew keeps its store, with the addresses of ranks that are gone; nor does each of its nodes count alike how
    often it has done so. So every rank that comes leaves a word that nobody has used before, and the first rank answers it with the name of
    this life, under which all that the ranks tell each other is kept apart.

    Args:
        timeout_s: how long ranks wait for each other.

    Raises:
        ResourceError: some did not come; it says which.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place, until = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", time.monotonic() + timeout_s
    try:
        store = _store(rank, timeout_s)
        life = _host(store, world, until) if rank == 0 else _guest(store, rank, timeout_s)
    except dist.DistError as error:
        raise ResourceError(f"rank {rank} did not meet rank 0 at {place} in {timeout_s:.0f} s; look at rank 0 and its machine") from error
    return dist.PrefixStore(life, store)


def _store(rank: int, timeout_s: float) -> dist.Store:
    """A connection to the store; of none but the launcher's or the first rank's own."""
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=hosts, wait_for_workers=False, multi_tenant=True,
        timeout=timedelta(seconds=timeout_s),
    )  # fmt: skip


def _guest(store: dist.Store, rank: int, timeout_s: float) -> str:
    """What the first rank answers to a word that only this process knows, once all have come."""
    word = secrets.token_hex(8)
    store.set(_arrived(rank), word)
    life = store.get(word).decode()
    store.set(f"{life}/{rank}", "")
    store.wait([f"{life}/trouble"], timedelta(seconds=2 * timeout_s))  # longer than the first rank waits, whose words are those to be told
    if trouble := store.get(f"{life}/trouble").decode():
        raise ResourceError(trouble)
    return life


def _host(store: dist.Store, world: int, until: float) -> str:
    """Answers those who come, and words that were left in earlier lives, too, until all have taken the answer."""
    life, absent, answered = secrets.token_hex(8), list(range(1, world)), dict[int, str]()
    while absent and time.monotonic() < until:
        for rank in absent:
            word = store.get(_arrived(rank)).decode() if store.check([_arrived(rank)]) else ""
            if word != answered.get(rank, ""):
                store.set(word, life)
                answered[rank] = word
        absent = [rank for rank in absent if not store.check([f"{life}/{rank}"])]
        if absent:
            time.sleep(LOOK_AGAIN_S)
    whose = f"rank{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))} of {world}"
    trouble = f"{whose} did not come to where ranks meet in time; look for what keeps them, and run again" if absent else ""
    store.set(f"{life}/trouble", trouble)
    if trouble:
        raise ResourceError(trouble)
    return life


def _arrived(rank: int) -> str:
    return f"bloomery/arrived/{rank}"
