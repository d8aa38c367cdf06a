"""`Mesh`: this process among its ranks, and sums and gatherings along the axes of the layout. Alone, all of them do nothing."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.mesh.layout import AXES, Layout
from bloomery.mesh.meeting import meet

FIRST_TIMEOUT_S = 1800.0  # until the first step is done: loading, compiling and connecting take long; and between steps, where one may measure


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of the mesh, or several taken as one: the ranks that differ in nothing else.

    Attributes:
        ranks: the global numbers of its ranks, this one among them.
        index: which of them this one is.
        group: how they talk; None where there is only one.
    """

    ranks: tuple[int, ...]
    index: int
    group: Any = None

    @property
    def size(self) -> int:
        """How many ranks it has."""
        return len(self.ranks)

    def share(self, rows: int) -> tuple[int, int]:
        """The first of a number of rows that this rank reads, and how many it reads."""
        each = rows // self.size
        return self.index * each, each

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds up a tensor over the axis, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sum of some numbers over the axis, in double precision."""
        return self.sum_(torch.tensor(numbers, dtype=torch.float64)).tolist() if self.size > 1 else list(numbers)

    def tell(self, text: str, index: int) -> str:
        """What one of the ranks says, to all of them."""
        if self.size == 1:
            return text
        source = self.ranks[index]
        length = torch.tensor([len(text.encode())])
        dist.broadcast(length, source, group=self.group)
        own = torch.tensor(list(text.encode()), dtype=torch.uint8)
        said = own if self.index == index else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(said, source, group=self.group)
        return bytes(said.tolist()).decode()

    def gather(self, tensor: Tensor) -> Tensor:
        """(size, *shape): the tensor of each rank, all of one shape."""
        if self.size == 1:
            return tensor[None]
        out = tensor.new_empty(self.size * tensor.numel())
        dist.all_gather_single(out, tensor.flatten(), group=self.group)
        return out.view(self.size, *tensor.shape)

    def hand(self, tensor: Tensor, shape: Sequence[int], giver: int, taker: int) -> Tensor:
        """A tensor in memory of the CPU from one rank to another; only these two call. The taker need only know its shape and type."""
        if giver == taker:
            return tensor
        if self.index == giver:
            dist.send(tensor.contiguous(), self.ranks[taker], group=self.group)
            return tensor
        out = torch.empty(tuple(shape), dtype=tensor.dtype)
        dist.recv(out, self.ranks[giver], group=self.group)
        return out


class Mesh:
    """This process as one rank of a layout.

    Args:
        layout: how the ranks are laid out.
        rank: which one this is.
        device: that it computes on.
    """

    def __init__(self, layout: Layout, rank: int = 0, device: str = "cpu") -> None:
        self.layout, self.rank, self.device = layout, rank, device
        self.coordinates = layout.coordinates(rank)
        self._axes: dict[tuple[str, ...], Axis] = {}

    @classmethod
    def join(cls, layout: Layout, device: str = "cpu", timeout_s: float = FIRST_TIMEOUT_S) -> Mesh:
        """Joins the ranks that a launcher has started, as its environment says (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT).

        Args:
            layout: must have as many ranks as were started.
            device: "cpu", or "cuda", of which each rank takes the one of its LOCAL_RANK.
            timeout_s: how long a rank waits for another.

        Raises:
            ConfigError: another number of ranks was started.
            ResourceError: some did not come.
        """
        if (started := ranks_started()) != layout.world:
            raise ConfigError(f"--layout {layout} has {layout.world} ranks, and {started} were started; start as many, or change the layout")
        if layout.world == 1:
            return cls(layout, device=device)
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
            rank, store = int(os.environ["RANK"]), meet(timeout_s)
            dist.init_process_group(backend, store=store, rank=rank, world_size=started, timeout=timedelta(seconds=timeout_s))
            atexit.register(_leave)  # or gloo's threads, still listening, abort a process that ends
        return cls(layout, dist.get_rank(), device)

    @property
    def alone(self) -> bool:
        """Whether this is the only rank."""
        return self.layout.world == 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that talks to people and writes what is written once."""
        return self.rank == 0

    def axis(self, *names: str) -> Axis:
        """An axis, or several as one, the outermost first. The first time, all of its ranks must ask for it."""
        names = tuple(name for name in AXES if name in names)
        if names not in self._axes:
            self._axes[names] = self._axis(names)
        return self._axes[names]

    @property
    def world(self) -> Axis:
        """All ranks."""
        return self.axis(*AXES)

    @property
    def readers(self) -> Axis:
        """The ranks that read rows of their own."""
        return self.axis("replicate", "shard")

    @property
    def time(self) -> Axis:
        """The ranks that share a row's time outside of mixers and feed-forward layers."""
        return self.axis("context", "tensor")

    @property
    def shards(self) -> Axis:
        """The ranks over which ZeRO divides; none but this one unless `shard` is 2 or more."""
        return self.axis("shard", "context") if self.layout.shard > 1 else self.axis()

    @property
    def experts(self) -> Axis:
        """The ranks that share experts."""
        return self.axis("shard", "context", "tensor") if self.layout.expert > 1 else self.axis()

    def apart(self) -> Axis:
        """All ranks once more, for a thread to talk in while steps go on: what it says does not get between what they say. All must ask."""
        ranks = tuple(range(self.layout.world))
        return Axis(ranks, self.rank, dist.new_group(list(ranks), backend="gloo") if len(ranks) > 1 else None)

    def ends(self) -> Axis:
        """The first and the last rank of the pipeline, which add up between them what both hold; any other rank has only itself.

        The first time, all ranks must ask: torch names a group by how many there are already, which has to be the same for all.
        """
        last, key = self.layout.pipeline - 1, ("ends",)
        if key not in self._axes:
            places = dict.fromkeys((0, last)) if self.coordinates["pipeline"] in (0, last) else (self.coordinates["pipeline"],)
            ranks = [self.layout.rank({**self.coordinates, "pipeline": place}) for place in places]
            self._axes[key] = Axis(tuple(ranks), ranks.index(self.rank), dist.new_group(ranks, use_local_synchronization=True))
        return self._axes[key]

    def _axis(self, names: Sequence[str]) -> Axis:
        spans = [range(getattr(self.layout, name)) if name in names else (self.coordinates[name],) for name in AXES]
        return self._of(tuple(self.layout.rank(dict(zip(AXES, place, strict=True))) for place in product(*spans)))

    def _of(self, ranks: tuple[int, ...]) -> Axis:
        group = dist.new_group(list(ranks), use_local_synchronization=True) if len(ranks) > 1 else None
        return Axis(ranks, ranks.index(self.rank), group)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def ranks_started() -> int:
    """How many ranks a launcher has started; 1 where there was none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


ALONE = Mesh(Layout())
"""One process by itself."""
