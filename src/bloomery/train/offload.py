"""What waits in the memory of the host while the device does not need it: activations between the passes, optimiser state between steps.

It costs transfers, which go on beside the computing where they can, and changes no number but the rounding of products of what was a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_bytes
from bloomery.mesh.held import buckets
from bloomery.nn.block import Block
from bloomery.optim import Optimizer
from bloomery.optim.graded import Stepper
from bloomery.train.recompute import Recompute

Offloaded = Literal["activations", "optimizer"]
CHUNK_BYTES = 256 << 20  # of optimiser state that is on the device at a time
LEAST_BYTES = 1 << 20  # tensors below it stay: a transfer has its own cost


def parse_offload(text: str) -> frozenset[Offloaded]:
    """From "none", "activations", "optimizer", or both with a comma."""
    names = set(text.split(",")) - {"none"}
    if unknown := names - set(get_args(Offloaded)):
        raise ConfigError(f"--offload {text!r}: there is no {min(unknown)!r} to be moved; write none, activations, optimizer, "
                          "or both with a comma")  # fmt: skip
    return frozenset(names)  # type: ignore[arg-type]


def check_together(offload: frozenset[Offloaded], again: Recompute) -> None:
    """Refuses a size for activations on the device where they wait in the host's memory.

    Raises:
        ConfigError: both are asked for.
    """
    if "activations" in offload and again.kind == "budget":
        raise ConfigError(f"--recompute {human_bytes(again.budget)} with --offload activations: a size is for what stays on the device, and "
                          "activations wait in the host's memory; leave one of them out, or take --recompute full or selective")  # fmt: skip


def offload_activations(model: nn.Module, away: Away) -> int:
    """Has what each block keeps for its backward pass wait in the host's memory; says how many blocks do so.

    Each tensor leaves by a stream of its own as soon as it is there, and comes back when the backward pass asks for it. Of a block that is
    computed again only what it reads is kept, and leaves. Weights stay, those too that ZeRO has gathered.

    Source: Rhu et al. (2016), vDNN, arXiv 1602.08124; without its fetching ahead.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    away.stays |= {identity(parameter) for parameter in model.parameters()}
    for block in blocks:
        block.forward = partial(away.through, block, block.forward)
    return len(blocks)


def identity(tensor: Tensor) -> int:
    """Which memory it lies in, also where that is none."""
    return tensor.untyped_storage()._cdata


class Away:
    """Moves tensors off a device and back.

    Args:
        device: the device.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.stays: set[int] = set()
        """Memory that stays where it is."""
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def through(self, block: nn.Module, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """A forward pass of a block that keeps its tensors away."""
        gathered = {identity(parameter) for parameter in block.parameters()}  # under ZeRO weights lie elsewhere during a pass
        with torch.autograd.graph.saved_tensors_hooks(partial(self.leave, gathered), self.come_back):
            return forward(*arguments, **named)

    def leave(self, gathered: set[int], tensor: Tensor) -> Tensor | tuple[Tensor, torch.device]:
        """What stands for a tensor that a backward pass will ask for.

        Args:
            gathered: memory of weights, which stays for now.
            tensor: the tensor.
        """
        if tensor.device.type != self.device.type or tensor.nbytes < LEAST_BYTES:
            return tensor
        if (where := identity(tensor)) in self.stays or where in gathered:
            return tensor
        return self.send(tensor), tensor.device

    def come_back(self, kept: Tensor | tuple[Tensor, torch.device]) -> Tensor:
        """The tensor that something stands for."""
        return kept if isinstance(kept, Tensor) else self.fetch(*kept)

    def send(self, tensor: Tensor) -> Tensor:
        """A tensor in the host's memory."""
        if self.stream is None:
            return tensor.clone()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            host = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
        tensor.record_stream(self.stream)
        return host

    def fetch(self, host: Tensor, device: torch.device) -> Tensor:
        """It is on the device again."""
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return host.to(device, non_blocking=True)


class AwayOptimizer(Optimizer):
    """An optimiser whose state waits in the host's memory, and is on the device for some parameters at a time.

    Args:
        optimizer: what updates; this one takes its place. Where it is one of torch's, which look at each number by itself, a few parameters are
            updated at a time; where it is one of ours, which may look at whole matrices and ask other ranks, each group as a whole.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.__dict__.update(optimizer.__dict__)

    def update(self, part: torch.optim.Optimizer) -> None:
        for group in part.param_groups:
            for parameters in [group["params"]] if isinstance(part, Stepper) else buckets(group["params"], CHUNK_BYTES):
                with _only(part, group, parameters):
                    _move(part, parameters, None)
                    super().update(part)
                    _move(part, parameters, "cpu")

    def load(self, state: dict[str, Tensor]) -> None:
        super().load(state)
        for part in self.parts:
            _move(part, list(part.state), "cpu")


@contextmanager
def _only(part: torch.optim.Optimizer, group: dict[str, Any], parameters: Sequence[Tensor]) -> Iterator[None]:
    """A torch optimiser that knows of some parameters of one group only."""
    groups, whole = part.param_groups, group["params"]
    part.param_groups, group["params"] = [group], list(parameters)
    try:
        yield
    finally:
        part.param_groups, group["params"] = groups, whole


def _move(part: torch.optim.Optimizer, parameters: Sequence[Tensor], where: str | None) -> None:
    """Brings the state of parameters to the host, or to where they are."""
    for parameter in parameters:
        slots = part.state.get(parameter, {})
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.dim():
                slots[name] = _to_host(value) if where == "cpu" else value.to(parameter.device, non_blocking=True)


def _to_host(value: Tensor) -> Tensor:
    if value.device.type != "cuda":
        return value
    return torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
