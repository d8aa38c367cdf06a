"""`Anatomy`: what a planner knows of a training, whatever its model is made of; measured on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, get_args

from torch import Tensor, nn

from bloomery.mesh import Layout
from bloomery.mesh.divide import Divided, Peopled
from bloomery.nn.block import Block
from bloomery.planning.trace import Change, Load, Stretch, Tally, trace

Sharing = Literal["whole", "tensor", "expert"]
"""Among which ranks a weight is divided, beside those of ZeRO: none, those that share matrices, or those that share experts."""

Keeps = Literal["all", "products", "host"]
"""What blocks keep for their backward pass: whatever it reads; the results of products and attention, and the rest is computed again; or
whatever it reads, but in the host's memory as far as it is large."""


@dataclass(frozen=True)
class Weight:
    """A parameter.

    Attributes:
        bytes: of its numbers.
        trained: whether it has a gradient.
        state: bytes that the optimiser keeps for it.
        sharing: how it can be divided.
        copies: bytes of it as it is kept besides: an average, what updates are taken back to, what penalties pull towards.
    """

    bytes: int
    trained: bool
    state: int
    sharing: Sharing = "whole"
    copies: int = 0


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


class Turn(NamedTuple):
    """Weights whose state is brought from the host's memory together to be updated.

    Attributes:
        share: of all that are trained, those that belong together by the way they are updated.
        most: bytes of them at a time.
    """

    share: float
    most: float

    def of(self, trained: float) -> float:
        """Bytes of weights at a time, where a rank trains so many."""
        return min(self.share * trained, self.most)


NONE = Bulk(0.0, 0.0, 0.0)


class Asked(NamedTuple):
    """Weights of models that a loss asks.

    Attributes:
        whole: all of them.
        around: those outside of blocks, which stay gathered, as nobody goes back through such a model.
        block: the largest of the blocks.
        alike: those that the model that is trained has alike and does not train, which are held once where ranks do not share them.
    """

    whole: Bulk
    around: Bulk
    block: Bulk
    alike: Bulk = NONE

    def held(self, layout: Layout) -> float:
        """What a rank holds of them."""
        return self.whole.held(layout) - (self.alike.held(layout) if layout.shard == 1 else 0.0)


NOBODY = Asked(NONE, NONE, NONE)


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
        calls: kernels that an update calls; of a stack that is known from a shallow one, as if each layer had its own.
        asked: the models that the loss asks and nobody trains.
        turns: in which state comes from the host's memory to be updated; empty where all of it is on the device always.
        sent: bytes that blocks send to the host's memory in a forward pass, to have them back in the backward pass.
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
    calls: float = field(default=0.0, compare=False)
    asked: Asked = NOBODY
    turns: tuple[Turn, ...] = ()
    sent: float = 0.0

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
        """What the optimiser keeps, under `<name of the parameter>|<slot>`."""
        ...

    def copies(self) -> dict[str, Tensor]:
        """What else is kept, likewise."""
        ...


def dissect(
    model: nn.Module, loss: Callable[[], Tensor], optimizer: Callable[[], Updater], *, rows: int, time: int, row_bytes: int,
    last: Callable[[int], tuple[Stretch, Stretch]], asked: Iterable[nn.Module] = (), itself: bool = False,
) -> Anatomy:  # fmt: skip
    """Does two micro-batches and two updates on tensors without memory (see `without_memory`), and notes what they take.

    Args:
        model: fresh, without gradients.
        loss: of a micro-batch.
        optimizer: a fresh one for the model's parameters.
        rows: in the micro-batch.
        time: places in a row.
        row_bytes: of a row of the batch.
        last: number of places → the last stretch for so many, see `Anatomy.loss`.
        asked: the models that the loss asks besides. They become models of one share, and are of no further use.
        itself: whether one of them is the model as it was before this training.
    """
    first, further = trace(model, loss), trace(model, loss)
    updater = optimizer()
    updater.step()
    state, copies = by_parameter(updater.state()), by_parameter(updater.copies())
    with Tally({}) as tally:
        updater.step()
    update = tally.change(0, len(tally.moves) + 1)
    weights = weights_of(model, state, copies)
    others = [(one, [path for path, module in one.named_modules() if isinstance(module, Block)]) for one in asked]
    parts = [_parts(weights_of(one, {}, {}), blocks) for one, blocks in others]
    still = _parts({name: weight for name, weight in weights.items() if not weight.trained}, ()) if itself else [NONE]
    return Anatomy(
        rows=rows, time=time, first=first, further=further, weights=weights, buffers=sum(buffer.nbytes for buffer in model.buffers()),
        row_bytes=row_bytes, update=update.worst.total, loss=last, calls=update.calls,
        asked=Asked(
            _together([bulk for one in parts for bulk in one]), _together([rest for rest, *_ in parts]),
            max((block for _, *blocks in parts for block in blocks), key=sum, default=NONE), still[0],
        ),
    )  # fmt: skip


def _parts(weights: Mapping[str, Weight], blocks: Sequence[str]) -> list[Bulk]:
    """What stands outside of blocks, then each block."""
    whose = {name: next((path for path in blocks if name.startswith(f"{path}.")), "") for name in weights}
    return [
        Bulk(*(float(sum(weight.bytes for name, weight in weights.items() if whose[name] == path and weight.sharing == how))
               for how in get_args(Sharing)))
        for path in ("", *blocks)
    ]  # fmt: skip


def _together(bulks: Sequence[Bulk]) -> Bulk:
    return Bulk(*(float(sum(bulk[i] for bulk in bulks)) for i in range(len(NONE))))


def by_parameter(slots: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of what is kept for each parameter, from `<name of the parameter>|<slot>`."""
    kept: dict[str, int] = {}
    for path, slot in slots.items():
        name = path.rsplit("|", 1)[0]
        kept[name] = kept.get(name, 0) + slot.nbytes
    return kept


def weights_of(model: nn.Module, state: Mapping[str, int], copies: Mapping[str, int]) -> dict[str, Weight]:
    """The weights of a model, which is of no further use, by name.

    Args:
        model: the model.
        state: bytes that the optimiser keeps for each.
        copies: bytes that are kept of each besides.
    """
    sharing = sharing_of(model)
    return {
        name: Weight(p.nbytes, p.requires_grad, state.get(name, 0), sharing.get(name, "whole"), copies.get(name, 0))
        for name, p in model.named_parameters()
    }


def between(one: Anatomy, two: Anatomy, rows: int) -> Anatomy:
    """The anatomy in micro-batches of any number of rows: from one to two rows on, everything grows by as much with each."""
    if rows == one.rows:
        return one

    def line(a: float, b: float) -> float:
        return a + (b - a) * (rows - 1)

    def load(a: Load, b: Load) -> Load:
        return a.plus(b.plus(a.times(*[-1.0] * len(a))).times(*[float(rows - 1)] * len(a)))

    def change(a: Change, b: Change) -> Change:
        return Change(load(a.worst, b.worst), load(a.left, b.left), line(a.calls, b.calls))

    def stretches(some: Sequence[Stretch], others: Sequence[Stretch]) -> tuple[Stretch, ...]:
        return tuple(
            replace(a, reads=a.reads * rows, forward=change(a.forward, b.forward), backward=change(a.backward, b.backward))
            for a, b in zip(some, others, strict=True)
        )

    first, further = stretches(one.first, two.first), stretches(one.further, two.further)
    return replace(one, rows=rows, first=first, further=further, sent=line(one.sent, two.sent))


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
