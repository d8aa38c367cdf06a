"""`Held`: a parameter as this rank holds it, and what has to be done about it once a step: adding up its gradient over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from bloomery.mesh.mesh import Axis, Mesh
from bloomery.mesh.part import Part

BUCKET_BYTES = 64 << 20  # of tensors that are added up in one go


@dataclass(eq=False)
class Held:
    """A parameter of a model, as this rank holds it.

    Attributes:
        name: canonical, whatever the layout.
        parameter: what the module has, a DTensor under ZeRO.
        local: the numbers that this rank holds, which optimisers change; the parameter itself where nothing divides it.
        part: which part of the whole they are.
        parts: those of all ranks of `cut`, in their order.
        cut: the ranks that share the whole among them.
        sums: the ranks whose gradients of this part add up, once the backward passes are done; ZeRO adds up its own.
        tied: further ranks, ends of a pipeline, that hold the same and add up what they have.
        speaks: whether this rank, of all that hold the same part, is the one that writes it and counts it in norms.
    """

    name: str
    parameter: nn.Parameter
    local: nn.Parameter
    part: Part
    parts: tuple[Part, ...]
    cut: Axis
    sums: Axis
    tied: Axis
    speaks: bool

    def whole(self, local: Tensor) -> Tensor:
        """The whole tensor, from the parts that its ranks have of it; all of them must ask."""
        if self.cut.size == 1:
            return local
        most = max(prod(part.local_shape) for part in self.parts)
        flat = local.new_zeros(most)
        flat[: local.numel()] = local.flatten()
        out = local.new_empty(self.part.shape)
        for part, numbers in zip(self.parts, self.cut.gather(flat), strict=True):
            part.put(out, numbers[: prod(part.local_shape)].view(part.local_shape))
        return out

    def own(self, whole: Tensor) -> Tensor:
        """This rank's part of a whole tensor."""
        return self.part.take(whole)


@dataclass(eq=False)
class Holding:
    """All parameters of a model as this rank holds them, in the model's order.

    Attributes:
        mesh: the ranks.
        parameters: by canonical name; those of other pipeline stages are missing.
    """

    mesh: Mesh
    parameters: Mapping[str, Held]

    @classmethod
    def alone(cls, model: nn.Module, mesh: Mesh) -> Holding:
        """A whole model on its only rank."""
        here = mesh.axis()
        named = {name: (p, Part.whole(p.shape)) for name, p in model.named_parameters()}
        return cls(mesh, {name: Held(name, p, p, part, (part,), here, here, here, True) for name, (p, part) in named.items()})

    def trainable(self) -> list[Held]:
        """Those that are trained."""
        return [held for held in self.parameters.values() if held.parameter.requires_grad]

    def forget_gradients(self) -> None:
        """Lets go of all gradients."""
        for held in self.parameters.values():
            held.parameter.grad = held.local.grad = None

    def add_up(self) -> None:
        """Gives each `local` the gradient of the whole step, from what all ranks' backward passes have left."""
        if self.mesh.alone:
            return
        for held in self.trainable():
            gradient = held.parameter.grad
            if gradient is None:  # no row of this rank's used it
                gradient = torch.zeros_like(held.local)
            numbers = local_numbers(gradient)
            held.local.grad = gradient if numbers is None else numbers
        gradients = [(held, held.local.grad) for held in self.trainable() if held.local.grad is not None]
        sum_each((held.sums, gradient) for held, gradient in gradients)
        sum_each((held.tied, gradient) for held, gradient in gradients)

    def pour(self, name: str, whole: Tensor) -> None:
        """Fills this rank's part of a parameter from the whole; does nothing where it has none."""
        if (held := self.parameters.get(name)) is not None:
            with torch.no_grad():
                held.local.copy_(held.own(whole))


def sum_each(tensors: Iterable[tuple[Axis, Tensor]]) -> None:
    """Adds up tensors in place, each over its own axis; as few collectives as their sizes allow. All ranks of an axis give theirs in the
    same order."""
    by_axis: dict[tuple[int, ...], tuple[Axis, list[Tensor]]] = {}
    for axis, tensor in tensors:
        if axis.size > 1:
            by_axis.setdefault(axis.ranks, (axis, []))[1].append(tensor)
    for axis, group in by_axis.values():
        for bucket in buckets(group, BUCKET_BYTES):
            flat = axis.sum_(torch.cat([tensor.flatten() for tensor in bucket]))
            for tensor, numbers in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(numbers.view_as(tensor))


def buckets(tensors: Sequence[Tensor], most: int) -> list[list[Tensor]]:
    """Neighbouring tensors in groups of at most so many bytes; one that is larger is a group by itself."""
    groups: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if tensor.nbytes > room or not groups:
            groups.append([])
            room = most
        groups[-1].append(tensor)
        room -= tensor.nbytes
    return groups


def local_numbers(tensor: Tensor) -> Tensor | None:
    """What this rank has of a tensor that ZeRO divides; None for any other."""
    of_dtensor: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return None if of_dtensor is None else of_dtensor()


def numbers_here(tensor: Tensor) -> Tensor:
    """What this rank has of a tensor: all of one that ZeRO does not divide."""
    local = local_numbers(tensor)
    return tensor if local is None else local
