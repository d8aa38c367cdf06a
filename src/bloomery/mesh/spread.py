"""Spreads a model over the ranks of a mesh: each module as it says of itself that it can be shared, each parameter as its module says.

A model is spread while it has no memory (on torch's "meta" device), so that no rank ever holds more than its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.mesh.divide import AlongTime, Cut, Divided, Headed, MixesRows, Peopled, PerHead
from bloomery.mesh.exchange import gathered, kept, routed, summed, swapped
from bloomery.mesh.held import Held, Holding, local_numbers
from bloomery.mesh.mesh import Axis, Mesh
from bloomery.mesh.part import Part


def spread(model: nn.Module, blocks: Sequence[nn.Module], mesh: Mesh, forwards: Sequence[str], tied: Sequence[str] = ()) -> Holding:
    """Makes a model, without memory yet, this rank's part of it, and gives it memory.

    Args:
        model: on "meta"; what other pipeline stages have is gone from it already, its names are the canonical ones.
        blocks: those of its modules whose weights ZeRO gathers together; the rest go with the model itself.
        mesh: the ranks.
        forwards: the methods by which the model is called.
        tied: names of parameters that the first and the last stage of the pipeline both hold.

    Raises:
        ConfigError: a module cannot be shared like that.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    tensor, context = mesh.axis("tensor"), mesh.axis("context")
    check(model, mesh)
    cuts: dict[str, tuple[str, Cut]] = {}
    for path, module in list(model.named_modules()):
        if isinstance(module, Peopled) and mesh.experts.size > 1:
            cuts |= {f"{path}.{name}": ("expert", cut) for name, cut in module.settle(mesh.experts.index, mesh.experts.size).items()}
            module.consult = elsewhere(module.consult, mesh.experts)
        elif isinstance(module, Divided) and tensor.size > 1:
            cuts |= {f"{path}.{name}": ("tensor", cut) for name, cut in module.divide(tensor.index, tensor.size).items()}
        if isinstance(module, PerHead):
            for axis in (tensor, context):
                if axis.size > 1:
                    module.deal_heads(axis.index, axis.size)
        if mesh.time.size > 1:
            _share_time(module, mesh)
    for name, (kind, cut) in cuts.items():
        axis = mesh.experts if kind == "expert" else tensor
        _shrink(model, name, Part.whole(shapes[name]).divided(cut.dim, cut.blocks, axis.index, axis.size).local_shape)
    experts = {name for name, (kind, _) in cuts.items() if kind == "expert"}
    _shard(model, blocks, mesh, [model.get_parameter(name) for name in experts], forwards)
    model.to_empty(device=mesh.device)
    for module in _sharded(model, mesh):  # torch settles where the numbers lie when a module is first gathered
        module.unshard()
        module.reshard()
    parameters = dict(model.named_parameters())
    return Holding(mesh, {name: _held(name, p, shapes[name], cuts.get(name), mesh, name in tied) for name, p in parameters.items()})


def accumulate(model: nn.Module, mesh: Mesh, last: bool) -> None:
    """Says before a micro-batch's passes whether they are the last of the step: under ZeRO-1 gradients and weights stay whole until then."""
    if mesh.shards.size > 1 and mesh.layout.zero == 1:
        root: Any = model  # which FSDP2 has made another class
        root.set_requires_gradient_sync(last)
        root.set_reshard_after_backward(last)


def settle(model: nn.Module, mesh: Mesh) -> None:
    """Lets go of gathered weights, where passes without a way back have left some: they may change before the next pass."""
    for module in _sharded(model, mesh):
        module.reshard()


def check(model: nn.Module, mesh: Mesh) -> None:
    """Refuses what cannot be shared as the layout asks, naming the module."""
    layout = mesh.layout
    for path, module in model.named_modules():
        reason = ""
        if isinstance(module, MixesRows) and layout.world > 1:
            reason = "mixes the rows of a batch, which ranks read apart; take another norm, or one rank"
        elif isinstance(module, Divided) and layout.tensor > 1 and (why := module.indivisible(layout.tensor)):
            reason = f"{why}, which tensor={layout.tensor} ranks cannot share"
        elif isinstance(module, Headed) and layout.context > 1 and (why := module.inseparable(layout.context * layout.tensor)):
            reason = f"{why}, which context · tensor = {layout.context * layout.tensor} ranks cannot share"
        elif isinstance(module, Peopled) and layout.expert > 1 and (why := module.unsettled(layout.expert)):
            reason = f"{why}, which expert={layout.expert} ranks cannot share"
        if reason:
            raise ConfigError(f"--layout {layout}: the model's {path} ({type(module).__name__}) {reason}")


def elsewhere(consult: Callable[[Tensor, Tensor], Tensor], axis: Axis) -> Callable[[Tensor, Tensor], Tensor]:
    """Asks experts that live on several ranks: rows go to those of their experts, and what these say comes back.

    Args:
        consult: asks the experts of this rank.
        axis: the ranks.
    """

    def ask(rows: Tensor, ends: Tensor) -> Tensor:
        counts = ends.diff(prepend=ends.new_zeros(1)).long().view(axis.size, -1)  # (ranks, experts of each)
        coming = torch.empty_like(counts)
        dist.all_to_all_single(coming, counts, group=axis.group)
        sent, received = counts.sum(1).tolist(), coming.sum(1).tolist()
        arrived = routed(rows, axis, sent, received)  # by rank, and of each by expert
        number = torch.arange(coming.numel(), device=rows.device).view_as(coming).fmod(coming.shape[1])
        order = number.flatten().repeat_interleave(coming.flatten()).argsort(stable=True)
        said = consult(arrived[order], coming.sum(0).cumsum(0).to(ends.dtype))
        return routed(said[order.argsort()], axis, received, sent)

    return ask


def _share_time(module: nn.Module, mesh: Mesh) -> None:
    """Lets a module that was made for whole rows be called with this rank's stretch of them."""
    tensor, context, time = mesh.axis("tensor"), mesh.axis("context"), mesh.time
    if isinstance(module, Headed):
        if context.size > 1:
            module.whole = with_fewer_heads(module.whole, context)
        if tensor.size > 1:
            _around(module, tensor, lambda layout: layout.of_row.share(context.index, context.size), summed)
    elif isinstance(module, AlongTime):  # every rank does all of it, and speaks for its own stretch
        _around(module, time, lambda layout: layout.of_row, kept)
    elif isinstance(module, Divided) and tensor.size > 1:
        _around(module, tensor, lambda layout: layout, summed)


def _around(module: nn.Module, axis: Axis, layout_of: Callable[[Any], Any], leave: Callable[[Tensor, Axis, int], Tensor]) -> None:
    """Gathers what a module reads over an axis, and leaves this rank's stretch of what it says."""
    module.register_forward_pre_hook(lambda _, given: (gathered(given[0], axis, 1), *map(layout_of, given[1:2]), *given[2:]))
    module.register_forward_hook(lambda _, given, said: leave(said, axis, 1))


def with_fewer_heads(whole: Callable[..., Tensor], axis: Axis) -> Callable[..., Tensor]:
    """Mixes some of the heads over the whole time of the rows, where queries, keys and values come as all heads of a stretch of time."""

    def mix(queries: Tensor, keys: Tensor, values: Tensor, layout: Any) -> Tensor:
        mixed = whole(*(swapped(x, axis, 2, 1) for x in (queries, keys, values)), layout.of_row)
        return swapped(mixed, axis, 1, 2)

    return mix


def _shrink(model: nn.Module, name: str, shape: Sequence[int]) -> None:
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    old = module.get_parameter(own)
    setattr(module, own, nn.Parameter(old.new_empty(shape), requires_grad=old.requires_grad))


def _shard(model: nn.Module, blocks: Sequence[nn.Module], mesh: Mesh, left: Sequence[nn.Parameter], forwards: Sequence[str]) -> None:
    """Divides what is left of the weights over the ranks of ZeRO, by torch's FSDP2.

    Source: Rajbhandari et al. (2019), arXiv 1910.02054; Zhao et al. (2023), arXiv 2304.11277. Gradients are added up, not averaged.
    """
    if mesh.shards.size == 1:
        return
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    ranks = DeviceMesh.from_group(mesh.shards.group, mesh.device.split(":")[0])
    again = mesh.layout.zero == 3 and mesh.layout.pipeline == 1  # a pipeline would gather weights for every micro-batch
    for module in [*blocks, model]:
        fully_shard(module, mesh=ranks, reshard_after_forward=again and module is not model, ignored_params=set(left))
    for name in forwards:
        register_fsdp_forward_method(model, name)
    for module in _sharded(model, mesh):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def _sharded(model: nn.Module, mesh: Mesh) -> list[Any]:
    """The modules whose weights are gathered together."""
    if mesh.shards.size == 1:
        return []
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _held(name: str, parameter: nn.Parameter, shape: tuple[int, ...], cut: tuple[str, Cut] | None, mesh: Mesh, tied: bool) -> Held:
    layout, numbers = mesh.layout, local_numbers(parameter)
    sharded = numbers is not None
    over: set[str] = {"shard", "context"} if sharded else set()
    over |= set() if cut is None else {"shard", "context", "tensor"} if cut[0] == "expert" else {"tensor"}
    cut_axis, pipeline = mesh.axis(*over), mesh.axis()

    def part_of(rank: int) -> Part:
        at, part = layout.coordinates(rank), Part.whole(shape)
        if cut is not None:
            kind, (dim, blocks) = cut
            index, ranks = (at["tensor"], layout.tensor) if kind == "tensor" else (
                (at["shard"] * layout.context + at["context"]) * layout.tensor + at["tensor"], layout.holders)  # fmt: skip
            part = part.divided(dim, blocks, index, ranks)
        return part.stretch(0, at["shard"] * layout.context + at["context"], layout.shard * layout.context) if sharded else part

    local = parameter if numbers is None else nn.Parameter(numbers.detach(), requires_grad=parameter.requires_grad)
    part, copies = part_of(mesh.rank), [axis for axis in ("replicate", "shard", "context", "tensor") if axis not in over]
    assert part.local_shape == tuple(local.shape), f"{name} is {tuple(local.shape)} and should be {part.local_shape}"
    speaks = all(mesh.coordinates[axis] == 0 for axis in copies) and not (tied and mesh.coordinates["pipeline"])
    return Held(
        name, parameter, local, part, tuple(part_of(rank) for rank in cut_axis.ranks), cut_axis, mesh.axis(*copies),
        mesh.ends() if tied and layout.pipeline > 1 else pipeline, speaks,
    )  # fmt: skip
