"""`Planner`: what a training comes to under a layout, which other layouts there are, and what helps where one does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log2
from typing import Literal

from bloomery.core.units import human_bytes, human_seconds
from bloomery.mesh import AXES, Layout
from bloomery.planning.anatomy import Anatomy, Keeps, between
from bloomery.planning.machines import Machine
from bloomery.planning.memory import Memory, memory
from bloomery.planning.speed import Speed, Work, speed

USABLE = 0.92
"""Share of an accelerator's memory that tensors can have: the rest goes to its driver, to kernels' own workspaces and to fragments."""
MICRO_BATCHES = (1, 2, 4, 8)  # rows that are tried
KEPT: Mapping[Keeps, str] = {"all": "", "products": ", all but products recomputed", "host": ", activations in the host's memory"}
LARGER = (2, 4, 8, 16, 32, 64)  # times as many ranks that are tried where nothing fits


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a training is run: what changes its speed and memory, and not its numbers.

    Attributes:
        layout: how the ranks are laid out.
        micro_batch: rows in a forward pass.
        recomputed: blocks that are computed again in the backward pass.
        keeps: what the other blocks keep for it.
    """

    layout: Layout
    micro_batch: int
    recomputed: int = 0
    keeps: Keeps = "all"

    def distance(self, other: Setting) -> float:
        """How far it is from another: doublings of each axis and of the micro-batch, and one for each other change."""
        ratios = [getattr(self.layout, axis) / getattr(other.layout, axis) for axis in (*AXES, "expert")]
        doublings = sum(abs(log2(ratio)) for ratio in (*ratios, self.micro_batch / other.micro_batch))
        return doublings + (self.layout.zero != other.layout.zero) + ((self.recomputed, self.keeps) != (other.recomputed, other.keeps))

    def __str__(self) -> str:
        again = f", {self.recomputed} blocks recomputed" if self.recomputed else ""
        again += KEPT[self.keeps]
        return f"{self.layout}, micro-batches of {self.micro_batch}{again}"


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a setting comes to.

    Attributes:
        setting: the setting.
        places: memory of the ranks of each place in the pipeline.
        speed: of a step.
        usable: bytes that tensors can have on a rank.
    """

    setting: Setting
    places: tuple[Memory, ...]
    speed: Speed
    usable: float

    @property
    def memory(self) -> Memory:
        """Of the rank that has most to hold."""
        return max(self.places, key=lambda memory: memory.total)

    @property
    def fits(self) -> bool:
        """Whether every rank has room."""
        return self.memory.total <= self.usable

    @property
    def sum(self) -> str:
        """The memory as an addition: "weights 39.9 GiB + gradients … = 171 GiB"."""
        parts = [f"{kind} {human_bytes(size)}" for kind, size in self.memory.parts.items() if size > 0.005 * self.memory.total]
        return f"{' + '.join(parts)} = {human_bytes(self.memory.total)}"


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Plans a training on machines of one kind.

    Attributes:
        work: what is to be computed.
        machine: of each rank.
        anatomy: of the training in micro-batches of so many rows, whose blocks keep so much; asked for one and for two rows.
        refusal: why the training cannot be laid out like that; empty where it can.
        utilisation: share of its peak that products reach while nothing is waited for, in (0, 1]; an assumption.
        keeps: what blocks keep that are not recomputed.
    """

    work: Work
    machine: Machine
    anatomy: Callable[[int, Keeps], Anatomy]
    refusal: Callable[[Layout], str]
    utilisation: float
    keeps: Keeps = "all"

    @cached_property
    def _anatomies(self) -> dict[tuple[int, Keeps], Anatomy]:
        return {}

    def of(self, rows: int, keeps: Keeps = "all") -> Anatomy:
        """The anatomy in micro-batches of so many rows, from that of one and of two; but which tensors are large enough to wait in the host's
        memory goes by all rows."""
        if (rows, keeps) not in self._anatomies:
            exact = self.keeps == "host"
            self._anatomies[rows, keeps] = self.anatomy(rows, keeps) if exact else between(self.anatomy(1, keeps), self.anatomy(2, keeps), rows)
        return self._anatomies[rows, keeps]

    def outlook(self, setting: Setting) -> Outlook:
        """What a setting comes to."""
        anatomy = self.of(setting.micro_batch, setting.keeps)
        return Outlook(
            setting=setting, places=tuple(memory(anatomy, setting.layout, self.work.rows, setting.recomputed)),
            speed=self.speed(setting), usable=USABLE * self.machine.memory,
        )  # fmt: skip

    def speed(self, setting: Setting) -> Speed:
        """Of a step in a setting."""
        anatomy = self.of(setting.micro_batch, setting.keeps)
        return speed(self.work, anatomy, setting.layout, self.machine, self.utilisation, setting.recomputed)

    def settings(self, layouts: Iterable[Layout]) -> Iterator[Setting]:
        """The settings of some layouts that the step's rows allow."""
        for layout in layouts:
            rows = self.work.rows // layout.readers
            for micro_batch in MICRO_BATCHES:
                if rows % micro_batch == 0:
                    yield Setting(layout=layout, micro_batch=micro_batch, keeps=self.keeps)
                    yield Setting(layout=layout, micro_batch=micro_batch, recomputed=len(self.of(1).blocks))

    def layouts(self, world: int) -> Iterator[Layout]:
        """All layouts of so many ranks that the training allows; tensor ranks stay within a node. Where there are experts, each of a replica's
        ranks can have some of them."""
        for axes in _products(world, len(AXES)):
            pipeline, replicate, shard, context, tensor = axes
            if tensor > self.machine.node or context > self.machine.node:
                continue
            plain = Layout(pipeline=pipeline, replicate=replicate, shard=shard, context=context, tensor=tensor)
            levels: tuple[Literal[1, 2, 3], ...] = (3,) if shard == 1 else (1, 2) if pipeline > 1 else (1, 2, 3)
            kinds = [plain, plain.replace(expert=plain.holders)] if self.work.active_experts and plain.holders > 1 else [plain]
            for kind in kinds:
                if not self.refusal(kind):
                    yield from (kind.replace(zero=zero) if zero < 3 else kind for zero in levels)

    def fitting(self, world: int) -> Iterator[Outlook]:
        """Settings of so many ranks that fit, the fastest first."""
        settings = [(self.speed(setting).step_s, setting) for setting in self.settings(self.layouts(world))]
        for _, setting in sorted(settings, key=lambda pair: (pair[0], pair[1].recomputed, axes_of(pair[1].layout))):
            if (outlook := self.outlook(setting)).fits:
                yield outlook

    def alternatives(self, there: Outlook) -> list[tuple[Outlook, str]]:
        """Up to three other settings of as many ranks, each the best in its way, and why one could want it."""
        found = [outlook for outlook in self.fitting(there.setting.layout.world) if outlook.setting.layout != there.setting.layout]
        ways: list[tuple[Callable[[Outlook], tuple[float, ...]], Callable[[Outlook, Outlook], str]]] = [
            (lambda o: (o.speed.step_s, axes_of(o.setting.layout)), _fastest),
            (lambda o: (axes_of(o.setting.layout), o.setting.recomputed, o.speed.step_s), _simplest),
            (lambda o: (o.memory.total, o.speed.step_s), _leanest),
        ]
        chosen: list[tuple[Outlook, str]] = []
        for best_by, reason in ways:
            rest = [outlook for outlook in found if all(outlook.setting.layout != other.setting.layout for other, _ in chosen)]
            if rest:
                best = min(rest, key=best_by)
                chosen.append((best, reason(best, there)))
        return chosen

    def remedy(self, there: Outlook) -> str:
        """What is wrong with a setting that does not fit, and the nearest one that does."""
        wrong = f"{there.sum} > {human_bytes(there.usable)} that tensors can have of {human_bytes(self.machine.memory)}"
        world = there.setting.layout.world
        for ranks in (world, *(times * world for times in LARGER)):
            near = list(_some(self.fitting(ranks), 400))
            if near:
                best = min(near, key=lambda outlook: (outlook.setting.distance(there.setting), outlook.speed.step_s))
                more = "" if ranks == world else f" (on {ranks} ranks; nothing fits on {world})"
                return f"{wrong}; {best.setting} would need {human_bytes(best.memory.total)}{more}"
        return f"{wrong}; nothing fits on up to {LARGER[-1] * world} ranks; take a machine with more memory, or a smaller model"


def _fastest(outlook: Outlook, there: Outlook) -> str:
    return f"the fastest that fits: {_against(outlook, there)}"


def _simplest(outlook: Outlook, there: Outlook) -> str:
    return f"the simplest: {' and '.join(used_axes(outlook.setting.layout)) or 'nothing'} only; {_against(outlook, there)}"


def _leanest(outlook: Outlook, there: Outlook) -> str:
    free = human_bytes(outlook.usable - outlook.memory.total)
    return f"the leanest: {free} are left for longer rows or more layers; {_against(outlook, there)}"


def _against(outlook: Outlook, there: Outlook) -> str:
    ratio = there.speed.step_s / outlook.speed.step_s
    pace = f"{ratio:.2g} times as fast" if abs(ratio - 1) >= 0.05 else "as fast"
    return f"{human_seconds(outlook.speed.step_s)} a step, {pace}"


def axes_of(layout: Layout) -> int:
    """How many axes it uses; another level of ZeRO than the last counts as one."""
    return len(used_axes(layout)) + (layout.zero < 3 and layout.shard > 1)


def used_axes(layout: Layout) -> list[str]:
    """Those with more than one rank."""
    return [axis for axis in (*AXES, "expert") if getattr(layout, axis) > 1]


def _products(number: int, factors: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a product of so many, in order."""
    if factors == 1:
        yield (number,)
        return
    for first in range(1, number + 1):
        if number % first == 0:
            for rest in _products(number // first, factors - 1):
                yield first, *rest


def _some(outlooks: Iterable[Outlook], count: int) -> Iterator[Outlook]:
    for number, outlook in enumerate(outlooks):
        if number == count:
            return
        yield outlook
