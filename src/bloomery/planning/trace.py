"""A training step on tensors without memory, watched: what each block keeps for its backward pass, and what both passes need meanwhile.

Nothing here knows what a block is made of. The step that is watched is the one that will run, so that what a plan says of it cannot drift
away from it.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce
from itertools import pairwise
from operator import add, mul
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bloomery.nn.block import Block

PRODUCTS = frozenset((torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default))
"""What comes out of these is of tokens, though it may happen to have the shape of a weight."""


CHOICES = frozenset((torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default,
                     torch.ops.aten._index_put_impl_.default))  # fmt: skip
"""What masks can be given to, after the tensor."""


class Nature(Enum):
    """What a storage that a step allocates is for, and thereby among which ranks it is divided."""

    TOKENS = "tokens"
    """Of each token: activations."""
    MASKS = "masks"
    """A number for each pair of places, alike for all heads."""
    COPIES = "copies"
    """As large as a weight: the weight in the precision of products, its gradient under way."""
    GRADIENTS = "gradients"
    """Gradients of weights."""


class Load(NamedTuple):
    """Bytes by nature; negative where they are let go of. `logits` are tokens of the loss, where someone tells them apart."""

    tokens: float = 0.0
    masks: float = 0.0
    copies: float = 0.0
    gradients: float = 0.0
    logits: float = 0.0

    def plus(self, other: Load) -> Load:
        """Both together."""
        return Load(*map(add, self, other))

    def times(self, *factors: float) -> Load:
        """Each nature by a factor of its own, in their order."""
        return Load(*map(mul, self, factors))

    @property
    def kept(self) -> float:
        """All but the gradients."""
        return self.total - self.gradients

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


@dataclass(frozen=True)
class Change:
    """What a pass through a part of a model does to memory, beyond what was there before it: at its worst moment, and in the end. And how many
    kernels it calls."""

    worst: Load
    left: Load
    calls: float = 0.0

    def then(self, other: Change) -> Change:
        """One after the other."""
        later = self.left.plus(other.worst)
        worst = later if later.total > self.worst.total else self.worst
        return Change(worst, self.left.plus(other.left), self.calls + other.calls)


NOTHING = Change(Load(), Load())


@dataclass(frozen=True)
class Stretch:
    """A part of a model between two places of its forward pass: a block, or what stands before, between and behind blocks.

    Attributes:
        reads: bytes of the residual stream that a block reads; 0 for what is none.
        forward: what its forward pass does.
        backward: what its backward pass does.
        weights: names of the parameters that it reads.
        away: bytes of the residual stream that wait in the host's memory where the block is computed again, to come back for that.
    """

    reads: int
    forward: Change
    backward: Change
    weights: frozenset[str]
    away: int = 0

    @property
    def block(self) -> bool:
        """Whether it is one."""
        return self.reads > 0

    @property
    def recomputed(self) -> Stretch:
        """The same block where it keeps no more than what it hands on, and is computed once more in the backward pass."""
        again, kept, back = self.forward.left.plus(Load(-self.reads)), self.reads - self.away, Load(self.away)
        worst = max((self.forward.worst, again.plus(self.backward.worst)), key=lambda load: load.total)
        left, calls = Load(-kept, gradients=self.backward.left.gradients), self.forward.calls
        forward = Change(self.forward.worst, Load(kept), calls)
        return replace(self, forward=forward, backward=Change(worst.plus(back), left, calls + self.backward.calls))


class Tally(TorchDispatchMode):
    """Notes which storages come and go while it is active; those that were there before are no business of its.

    Storages that a kernel allocates for itself are not seen.

    Args:
        weights: by name; what is read of them is noted.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.moves: list[tuple[int, int]] = []
        """(number of the storage, ± its bytes), in their order."""
        self.natures: list[Nature] = []
        """By number."""
        self.reads: list[tuple[int, str]] = []
        """(moves before it, name of a weight), in their order."""
        self.calls: list[int] = []
        """Of each kernel that is called, the moves before it. What only looks at a tensor in another way, or makes room, is none."""
        self._names = {id(weight.untyped_storage()): name for name, weight in weights.items()}
        self._held = [weight.untyped_storage() for weight in weights.values()]  # so that nothing else gets their ids
        self._numbers: dict[int, int | None] = {}  # None for those that were there before
        self._watched: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        names = (self._names.get(id(tensor.untyped_storage())) for tensor in read)
        self.reads += [(len(self.moves), name) for name in names if name is not None]
        for tensor in read:
            self._meet(tensor, None)
        made = func(*args, **(kwargs or {}))
        if _is_kernel(func, made):
            self.calls.append(len(self.moves))
        like = set() if func in PRODUCTS else {tensor.shape for tensor in read if self._is_weighty(tensor)}
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._meet(leaf, Nature.COPIES if leaf.shape in like else Nature.MASKS if _is_mask(leaf) else Nature.TOKENS)
        if func is torch.ops.aten.add_.Tensor and self._is_weighty(read[0]) and read[-1].shape == read[0].shape:
            self._take_for(read[-1], Nature.COPIES)
        return made

    def note_gradient(self, tensor: Tensor) -> None:
        """Whatever it was taken for before, it is the gradient of a weight."""
        self._take_for(tensor, Nature.GRADIENTS)

    def change(self, start: int, stop: int) -> Change:
        """What some of the moves come to."""
        calls = bisect_left(self.calls, stop) - bisect_left(self.calls, start)
        level = dict.fromkeys(Nature, 0)
        total = most = 0
        worst = Load()
        for number, size in self.moves[start:stop]:
            level[self.natures[number]] += size
            total += size
            if total > most:
                most, worst = total, _load(level)
        return Change(worst, _load(level), calls)

    def _take_for(self, tensor: Tensor, nature: Nature) -> None:
        if (number := self._numbers.get(id(tensor.untyped_storage()))) is not None:
            self.natures[number] = nature

    def _is_weighty(self, tensor: Tensor) -> bool:
        key = id(tensor.untyped_storage())
        number = self._numbers.get(key)
        return tensor.ndim > 1 and (key in self._names or (number is not None and self.natures[number] is Nature.COPIES))

    def _meet(self, tensor: Tensor, nature: Nature | None) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._numbers:
            return
        number = self._numbers[key] = None if nature is None else len(self.natures)
        size = storage.nbytes()
        if number is not None and nature is not None:
            self.natures.append(nature)
            self.moves.append((number, size))

        def gone(_: Any) -> None:
            del self._numbers[key], self._watched[key]
            if number is not None:
                self.moves.append((number, -size))

        self._watched[key] = weakref.ref(storage, gone)


def _is_kernel(func: Any, made: Any) -> bool:
    """Whether an operation has the device do something: not if it only looks at a tensor in another way, makes room, or asks about it."""
    if func.is_view or "empty" in func.name() or func is torch.ops.aten._unsafe_view.default:
        return False
    return func._schema.is_mutable or any(isinstance(leaf, Tensor) for leaf in tree_leaves(made))


def _load(level: Mapping[Nature, int]) -> Load:
    return Load(**{nature.value: size for nature, size in level.items()})


def _is_mask(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.shape[1] == 1 and tensor.shape[2] == tensor.shape[3] > 1


def trace(model: nn.Module, step: Callable[[], Tensor]) -> tuple[Stretch, ...]:
    """What the stretches of a model do to memory in a forward and a backward pass, in the order of the forward pass.

    Gradients that are there already are added to, as in all micro-batches of a step but the first.

    Args:
        model: with tensors without memory (see `without_memory`) or with real ones.
        step: gives the scalar to go back from; nothing else may hold on to its graph.
    """
    tally = Tally(dict(model.named_parameters()))
    marks: list[tuple[int, int]] = []  # (moves before it, bytes that the block reads which begins there; 0 where one ends)

    def mark(reads: int) -> None:
        marks.append((len(tally.moves), reads))

    def ends(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        mark(0)
        if output.requires_grad:
            output.register_hook(lambda gradient: mark(0))
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda gradient: mark(0))

    with ExitStack() as hooks, tally:
        for module in model.modules():
            if isinstance(module, Block):
                hooks.callback(module.register_forward_pre_hook(lambda _, inputs: mark(inputs[0].nbytes)).remove)
                hooks.callback(module.register_forward_hook(ends).remove)
        for parameter in model.parameters():
            if parameter.requires_grad:
                hooks.callback(parameter.register_hook(tally.note_gradient).remove)
        total = step()
        turn, middle = len(marks), len(tally.moves)
        total.backward()
        del total
    end = len(tally.moves)
    forward = list(pairwise([0, *(place for place, _ in marks[:turn]), middle]))
    unreached = [end] * (2 * turn - len(marks))  # nothing is trained before the first blocks
    backward = list(pairwise([middle, *(place for place, _ in marks[turn:]), *unreached, end]))
    read = [frozenset(name for place, name in tally.reads if start <= place < stop) for start, stop in forward]
    reads = [0, *(size for _, size in marks[:turn])]
    return tuple(
        Stretch(size, tally.change(*there), tally.change(*back), names)
        for size, there, back, names in zip(reads, forward, reversed(backward), read, strict=True)
    )


def forward_of(stretches: Iterable[Stretch]) -> Change:
    """The forward pass through several stretches."""
    return reduce(Change.then, (stretch.forward for stretch in stretches), NOTHING)


def backward_of(stretches: Sequence[Stretch]) -> Change:
    """The backward pass through several stretches, the last one first."""
    return reduce(Change.then, (stretch.backward for stretch in reversed(stretches)), NOTHING)


@contextmanager
def without_memory() -> Iterator[None]:
    """Tensors that are made within have shapes and types and no numbers; computing with them takes no memory and next to no time."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a third of a second to import

    with FakeTensorMode(), AllChosen():
        yield


class AllChosen(TorchDispatchMode):
    """Has a choice by a mask, of which nobody knows the numbers, choose everything: all places of an example are learnt from."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CHOICES:
            args = args[0], [index for one in args[1] for index in _all_of(one)], *args[2:]
        return func(*args, **(kwargs or {}))


def _all_of(index: Tensor | None) -> list[Tensor | None]:
    """Indices in which a mask takes all that it could."""
    if index is None or index.dtype is not torch.bool:
        return [index]
    return [torch.arange(index.numel(), device=index.device) for _ in range(index.dim())]
