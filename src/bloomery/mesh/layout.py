"""`Layout`: over how many ranks a run is spread, and along which axes. It changes speed and memory, and no result."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, Literal

from annotated_types import Ge

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError

Count = Annotated[int, Ge(1)]
AXES = ("pipeline", "replicate", "shard", "context", "tensor")
"""From the outermost, whose ranks lie farthest apart, to the innermost."""


class Layout(Config):
    """The mesh of ranks, and what its axes are used for.

        world = pipeline · replicate · shard · context · tensor

    Ranks that differ in `replicate` or `shard` read different rows; those that differ in `context` or `tensor` hold different stretches of
    the same rows; those that differ in `pipeline` hold different layers.

    Example:
        >>> Layout(shard=4, tensor=2).world
        8

    Source: the order of the axes as in torchtitan (Liang et al. 2024, arXiv 2410.06511) and OLMo-core.
    """

    pipeline: Count = 1
    """Ranks that each hold some of the layers."""
    replicate: Count = 1
    """Ranks that hold the same weights and read other rows (DDP)."""
    shard: Count = 1
    """Ranks that share weights, gradients and optimiser state, as `zero` says, and read other rows (ZeRO, FSDP)."""
    context: Count = 1
    """Ranks that share a row's time; attention exchanges heads among them."""
    tensor: Count = 1
    """Ranks that share each matrix of mixers and feed-forward layers, and time elsewhere (tensor and sequence parallel)."""
    expert: Count = 1
    """Ranks that share the experts of mixtures: 1, or all that read other tokens within a replica, shard · context · tensor."""
    zero: Literal[1, 2, 3] = 3
    """What `shard` ranks share: 1 is the optimiser's state, 2 gradients too, 3 weights too."""
    schedule: Literal["gpipe", "1f1b", "interleaved"] = "1f1b"
    """The order in which pipeline ranks do micro-batches."""
    stages: Count = 1
    """Stretches of layers that each pipeline rank holds; more than 1 goes with the interleaved schedule."""

    def check(self) -> None:
        if self.expert not in (1, self.holders):
            raise self.refuse("expert", f"is neither 1 nor shard · context · tensor = {self.holders}; take one of these")
        if (self.stages > 1) != (self.schedule == "interleaved"):
            raise self.refuse("stages", f"does not go with schedule={self.schedule!r}; 'interleaved' takes 2 or more, the others 1")
        if self.schedule == "interleaved" and self.pipeline == 1:
            raise self.refuse("schedule", "needs a pipeline to interleave; set pipeline to 2 or more")

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return prod(getattr(self, axis) for axis in AXES)

    @property
    def readers(self) -> int:
        """Ranks that read rows of their own."""
        return self.replicate * self.shard

    @property
    def holders(self) -> int:
        """Ranks of one replica and one pipeline stage: all of them hold different tokens."""
        return self.shard * self.context * self.tensor

    def coordinates(self, rank: int) -> Mapping[str, int]:
        """Where a rank stands along each axis; the innermost axis counts fastest."""
        places: dict[str, int] = {}
        for axis in reversed(AXES):
            rank, places[axis] = divmod(rank, getattr(self, axis))
        return {axis: places[axis] for axis in AXES}

    def rank(self, coordinates: Mapping[str, int]) -> int:
        """The rank that stands there."""
        rank = 0
        for axis in AXES:
            rank = rank * getattr(self, axis) + coordinates[axis]
        return rank

    @classmethod
    def parse(cls, text: str, world: int | None = None) -> Layout:
        """From a line of "axis=number" pairs, as the command line has it: "shard=4,tensor=2"; empty is one rank, or replicas.

        Args:
            text: one of the axes may be "auto": what is left of `world`, so that a run goes on when ranks come or go.
            world: how many ranks there are; None where that is not known, and then nothing can be left of it.
        """
        fields: dict[str, Any] = {}
        for pair in filter(None, (text or ("replicate=auto" if world else "")).split(",")):
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals:
                raise ConfigError(f"--layout {text!r}: {pair!r} is no NAME=VALUE; write shard=4,tensor=2, say")
            fields[name] = int(value) if value.isdecimal() else value
        if auto := [name for name in AXES if fields.get(name) == "auto"]:
            if not world:
                raise ConfigError(f"--layout {text!r}: how many ranks there will be is not known here, so that nothing can be left for "
                                  f"{auto[0]}=auto; give a number")  # fmt: skip
            others = prod(fields.get(name, 1) for name in AXES if name not in auto)
            if world % others or len(auto) > 1:
                raise ConfigError(f"--layout {text!r}: {world} ranks are not a multiple of the {others} of the other axes, which "
                                  f"{auto[0]}=auto needs; start as many as are, with one axis auto")  # fmt: skip
            fields[auto[0]] = world // others
        return cls(**fields)

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.non_default_fields().items()) or "one rank"
