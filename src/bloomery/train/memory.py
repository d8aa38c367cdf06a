"""What a training holds in memory, what there is, and the sentence that is told where it is not enough."""

from __future__ import annotations

import re
import resource
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from bloomery.core.errors import ResourceError
from bloomery.core.units import human_bytes
from bloomery.mesh.held import numbers_here
from bloomery.planning.memory import Memory
from bloomery.train.state import TrainState

SPARE = 0.7
"""Of what is free, what a setting may take to be called one that fits: allocators leave gaps."""
REFUSALS = ("not enough memory", "DefaultCPUAllocator", "out of memory", "Cannot allocate memory")
UNITS = {"bytes": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


Plan = Callable[[int], Memory]
"""Rows per forward pass → what this rank holds at the worst moment of a step."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What steps need, and what could be done where that is not there.

    Attributes:
        plan: of the steps; asked only when it is to be told.
        micro_batch: rows per forward pass.
        there: bytes of it that are there before the first step: weights, and what a run that goes on has already.
        instead: other settings → what a rank holds under them, the simplest first; for when not even one row fits.
    """

    plan: Plan
    micro_batch: int
    there: int = 0
    instead: Mapping[str, Callable[[], Memory]] = field(default_factory=dict)

    @cached_property
    def memory(self) -> Memory:
        """That of the steps as they are."""
        return self.plan(self.micro_batch)

    @property
    def to_come(self) -> float:
        """Bytes beyond what is there."""
        return max(0.0, self.memory.total - self.there)

    def fitting(self, free: float) -> int:
        """The most rows per forward pass, fewer than now, whose steps take well less than `free` bytes beyond what is there; 0 for none.

        What a step holds grows with its rows along a line, of which two points are planned.
        """
        room, one = SPARE * free + self.there, self.plan(1).total
        if self.micro_batch == 1 or one > room:
            return 0
        per_row = (self.memory.total - one) / (self.micro_batch - 1)
        return max(1, min(self.micro_batch - 1, 1 + int((room - one) / max(per_row, 1.0))))

    def remedy(self, free: float) -> str:
        """The nearest setting that fits."""
        if fitting := self.fitting(free):
            return f"--micro-batch {fitting} takes {human_bytes(self.plan(fitting).total)}, and changes no result"
        for setting, plan in self.instead.items():
            if (less := plan().total) <= SPARE * free + self.there:
                return f"{setting} takes {human_bytes(less)} a rank, and changes no result"
        least = human_bytes(self.plan(1).total)
        return f"One row at a time takes {least}, too: shorten max_seq_len, make the model smaller, or find more memory"

    def __str__(self) -> str:
        names = {"optimizer": "optimiser", "activations": f"activations of {self.micro_batch} rows"}
        parts = {names.get(kind, kind): size for kind, size in self.memory.parts.items() if size}
        return " + ".join(f"{kind} {human_bytes(size)}" for kind, size in parts.items()) + f" = {human_bytes(self.memory.total)}"


def bytes_by_kind(state: TrainState) -> dict[str, int]:
    """What this rank has of weights, those of models that the loss asks among them, and of what updates keep: the optimiser's state, an
    average, and what penalties pull towards."""
    here = [numbers_here(parameter) for model in state.beside.frozen.values() for parameter in model.parameters()]
    own = {held.local.untyped_storage().data_ptr() for held in state.holding.parameters.values()}
    asked = [tensor.nbytes for tensor in here if tensor.untyped_storage().data_ptr() not in own]
    kept = [*state.optimizer.state().values(), *(state.average.values.values() if state.average is not None else ())]
    kept += [tensor for pull in state.beside.pulls for spring in pull.springs for tensor in spring.kept]
    return {
        "weights": sum(held.local.nbytes for held in state.holding.parameters.values()) + sum(asked),
        "optimizer": sum(tensor.nbytes for tensor in kept),
    }


def bytes_there(state: TrainState) -> int:
    """What this rank has of weights, and of what updates keep."""
    return sum(bytes_by_kind(state).values())


@contextmanager
def memory_told(needs: Needs, device: str) -> Iterator[None]:
    """Within it, running out of memory ends in a `ResourceError` with the arithmetic and the nearest setting that fits.

    What the system itself kills (Linux, where it has promised more memory than there is) cannot be told; see `bloomery doctor`.

    Args:
        needs: of the steps that are done within it.
        device: where they are done.

    Raises:
        ResourceError: there was not enough.
    """
    before = free_bytes(device)
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_exhaustion(error):
            raise
        asked, left = asked_bytes(str(error)), free_bytes(device)
        traceback.clear_frames(error.__traceback__)  # which hold the tensors that are too many
        more = f"{human_bytes(asked)} more were asked for, and {human_bytes(left)} were" if asked else f"{human_bytes(left)} were"
        told = f"memory of {device} is used up: {needs}; of {human_bytes(before)} that were free before the first step, {more} left"
        raise ResourceError(f"{told}. {needs.remedy(before)}") from None


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in REFUSALS)


def asked_bytes(message: str) -> int:
    """How much was asked for, as allocators tell it ("you tried to allocate 4096 bytes", "Tried to allocate 2.00 GiB"); 0 if not."""
    found = re.search(r"allocate ([\d.]+) ?(bytes|[KMGT]iB|B)", message)
    return round(float(found[1]) * UNITS[found[2]]) if found else 0


def free_bytes(device: str) -> int:
    """What this process can still have: of a GPU what nobody holds; else the least that system, container and `ulimit -v` leave."""
    if device.startswith("cuda"):
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    limits = [kernel_fields("/proc/meminfo").get("MemAvailable", 1 << 62)]
    with suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if allowed != resource.RLIM_INFINITY:
        limits.append(allowed - kernel_fields("/proc/self/status").get("VmSize", 0))
    return max(0, min(limits))


def kernel_fields(path: str) -> dict[str, int]:
    """The entries in kB of a file of Linux's, in bytes; none elsewhere."""
    try:
        return {name: int(kib) << 10 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", Path(path).read_text(), re.MULTILINE)}
    except OSError:
        return {}
