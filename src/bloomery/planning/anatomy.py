"""`Anatomy`: what a planner knows of a training, whatever its model is made of; measured on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from bloomery.mesh import Layout
from bloomery.mesh.divide import Divided, Peopled
from bloomery.planning.trace import Change, Load, Stretch, Tally, trace

Sharing = Literal["whole", "tensor", "expert"]
"""Among which ranks a weight is divided, beside those of ZeRO: none, those that share matrices, or those that share experts."""

Keeps = Literal["all", "products"]
"""What blocks keep for their backward pass: whatever it reads; or the results of products and attention, and the rest is computed again."""


@dataclass(frozen=True)
class Weight:
    """A parameter.

    Attributes:
        bytes: of its numbers.
        trained: whether it has a gradient.
        state: bytes that whatever updates it keeps for it.
        sharing: how it can be divided.
    """

    bytes: int
    trained: bool
    state: int
    sharing: Sharing = "whole"


class Bulk(NamedTuple):
    """Bytes of weights by how they can be divided."""

    whole: float
    tensor: float
    expert: float

    def used(self, layout: Layout) -> float:
        """What a rank computes with."""
        return self.whole + self.tensor / layout.tensor + self.expert / layout.expert

    def gathered(self, layout: Layout) -> float:
        """What the ranks of ZeRO share of that."""
        return self.whole + self.tensor / layout.tensor + (self.expert if layout.expert == 1 else 0.0)

    def held(self, layout: Layout) -> float:
        """What a rank holds of it."""
        settled = self.expert / layout.expert if layout.expert > 1 else 0.0
        return self.gathered(layout) / (layout.shard * layout.context if layout.shard > 1 else 1) + settled


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A training in micro-batches of some size.

    Attributes:
        rows: in a micro-batch.
        time: places in a row.
        first: what the parts of the model do to memory in the first micro-batch of a step, in the order of its forward pass.
        further: the same in later ones, which add to the gradients that they find.
        weights: by name.
        buffers: bytes of what the model holds beside weights.
        row_bytes: of a row of the batch.
        update: the most that an update needs beside weights, gradients and state, in bytes.
        loss: number of places → the last of the stretches for so many, in the first micro-batch and in later ones; measured when it is asked.
            A loss that works in chunks does not take half as much for half of the places.
    """

    rows: int
    time: int
    first: tuple[Stretch, ...]
    further: tuple[Stretch, ...]
    weights: Mapping[str, Weight]
    buffers: int
    row_bytes: int
    update: float
    loss: Callable[[int], tuple[Stretch, Stretch]] = field(compare=False)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """The places of the blocks among the stretches."""
        return tuple(place for place, stretch in enumerate(self.first) if stretch.block)

    @cached_property
    def bulks(self) -> tuple[Bulk, ...]:
        """The weights of each stretch."""
        return tuple(self.bulk(stretch.weights) for stretch in self.first)

    def bulk(self, names: Iterable[str], what: Callable[[Weight], float] = lambda weight: weight.bytes) -> Bulk:
        """What some weights come to, their bytes unless told otherwise, by how they can be divided."""
        sums: dict[Sharing, float] = {"whole": 0.0, "tensor": 0.0, "expert": 0.0}
        for name in names:
            sums[self.weights[name].sharing] += what(self.weights[name])
        return Bulk(**sums)

    @property
    def seam(self) -> int:
        """Bytes of the residual stream of a micro-batch: what a stage of a pipeline hands on to the next."""
        return max(stretch.reads for stretch in self.first)


class Updater(Protocol):
    """What changes weights by their gradients."""

    def step(self) -> None:
        """Changes them."""

    def state(self) -> dict[str, Tensor]:
        """All that is kept for it, under `<name of the parameter>|<slot>`."""
        ...


def dissect(
    model: nn.Module, loss: Callable[[], Tensor], optimizer: Callable[[], Updater], *, rows: int, time: int, row_bytes: int,
    last: Callable[[int], tuple[Stretch, Stretch]],
) -> Anatomy:
    """Does two micro-batches and two updates on tensors without memory (see `without_memory`), and notes what they take.

    Args:
        model: fresh, without gradients.
        loss: of a micro-batch.
        optimizer: a fresh one for the model's parameters.
        rows: in the micro-batch.
        time: places in a row.
        row_bytes: of a row of the batch.
        last: number of places → the last stretch for so many, see `Anatomy.loss`.
    """
    first, further = trace(model, loss), trace(model, loss)
    updater = optimizer()
    updater.step()
    kept: dict[str, int] = {}
    for path, slot in updater.state().items():
        name = path.rsplit("|", 1)[0]
        kept[name] = kept.get(name, 0) + slot.nbytes
    with Tally({}) as tally:
        updater.step()
    sharing = sharing_of(model)
    weights = {
        name: Weight(p.nbytes, p.requires_grad, kept.get(name, 0), sharing.get(name, "whole"))
        for name, p in model.named_parameters()
    }
    return Anatomy(
        rows=rows, time=time, first=first, further=further, weights=weights, buffers=sum(buffer.nbytes for buffer in model.buffers()),
        row_bytes=row_bytes, update=tally.change(0, len(tally.moves)).worst.total, loss=last,
    )  # fmt: skip


def between(one: Anatomy, two: Anatomy, rows: int) -> Anatomy:
    """The anatomy in micro-batches of any number of rows: from one to two rows on, everything grows by as much with each."""
    if rows == one.rows:
        return one

    def load(a: Load, b: Load) -> Load:
        return a.plus(b.plus(a.times(*[-1.0] * len(a))).times(*[float(rows - 1)] * len(a)))

    def change(a: Change, b: Change) -> Change:
        return Change(load(a.worst, b.worst), load(a.left, b.left))

    def stretches(some: Sequence[Stretch], others: Sequence[Stretch]) -> tuple[Stretch, ...]:
        return tuple(
            replace(a, reads=a.reads * rows, forward=change(a.forward, b.forward), backward=change(a.backward, b.backward))
            for a, b in zip(some, others, strict=True)
        )

    return replace(one, rows=rows, first=stretches(one.first, two.first), further=stretches(one.further, two.further))


def sharing_of(model: nn.Module) -> dict[str, Sharing]:
    """The weights that ranks can share matrix by matrix or expert by expert, as its modules say; those not named are whole everywhere.

    The model becomes one of one share, and is of no further use.
    """
    found: dict[str, Sharing] = {}
    for path, module in list(model.named_modules()):
        sharing: Sharing = "expert" if isinstance(module, Peopled) else "tensor"
        names = module.settle(0, 1) if isinstance(module, Peopled) else module.divide(0, 1) if isinstance(module, Divided) else ()
        for name in names:
            found[f"{path}.{name}"] = sharing
    return found
