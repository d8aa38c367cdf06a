"""`Machine`: an accelerator and its links, as far as a plan needs to know them; and those that there are, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.core.units import Bytes

GIB = 1 << 30
PCIE_4, PCIE_5 = 32e9, 64e9  # bytes per second to the host and as many back, 16 lanes
Rate = Annotated[float, Gt(0)]


class Machine(Config):
    """An accelerator among its like. All figures are those of data sheets, which nothing reaches; a plan takes a share of them."""

    bf16_flops: Rate
    """Operations per second of dense matrix products in bf16, summed in fp32."""
    fp32_flops: Rate
    """The same in fp32 proper."""
    memory: Bytes
    """Of the accelerator."""
    near: Rate
    """Bytes per second that it sends to others of its node, while it receives as many."""
    far: Rate
    """Bytes per second that it sends to other nodes."""
    node: Annotated[int, Ge(1)] = 8
    """Accelerators in a node."""
    host: Rate = PCIE_5
    """Bytes per second that it sends to its host's memory, and as many back."""
    launch: Annotated[float, Ge(0)] = 30e-6
    """Seconds of the processor for each kernel of an eager step: those of Python, torch and the loop, all in all. A step is no faster.

    Source: measured (docs/log.md, "What a call costs"): 16 to 42 µs in the fastest steps of tiny models on a CPU, 38 µs where there is an H100.
    """
    device: Literal["cpu", "cuda"] = "cuda"
    """What torch calls it, and so whose habits code has there."""
    activations: Bytes | None = None
    """Of one micro-batch at most, where a run chooses it; None for a share of what the model and its updates leave of the memory."""

    def flops(self, precision: str) -> float:
        """Operations per second in a precision of matrix products."""
        return self.fp32_flops if precision == "fp32" else self.bf16_flops


MACHINES: dict[str, Machine] = {
    "a100-40gb": Machine(bf16_flops=312e12, fp32_flops=19.5e12, memory=40 * GIB, near=300e9, far=25e9, host=PCIE_4),
    "a100-80gb": Machine(bf16_flops=312e12, fp32_flops=19.5e12, memory=80 * GIB, near=300e9, far=25e9, host=PCIE_4),
    "h100": Machine(bf16_flops=989.4e12, fp32_flops=66.9e12, memory=80 * GIB, near=450e9, far=50e9),
    "h200": Machine(bf16_flops=989.4e12, fp32_flops=66.9e12, memory=140 * GIB, near=450e9, far=50e9),
    "b200": Machine(bf16_flops=2250e12, fp32_flops=75e12, memory=179 * GIB, near=900e9, far=50e9),
    "mi300x": Machine(bf16_flops=1307.4e12, fp32_flops=163.4e12, memory=192 * GIB, near=448e9, far=50e9),
    "l40s": Machine(bf16_flops=362e12, fp32_flops=91.6e12, memory=48 * GIB, near=32e9, far=25e9, host=PCIE_4),
    "rtx4090": Machine(bf16_flops=165.2e12, fp32_flops=82.6e12, memory=24 * GIB, near=32e9, far=12.5e9, host=PCIE_4),
}
"""Name → machine, of the makers' data sheets, in the form for servers (SXM, OAM); between nodes, one network adapter per accelerator."""


def machine(name: str) -> Machine:
    """That of a name in `MACHINES`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in MACHINES:
        remedy = did_you_mean(name, MACHINES, f"those that are, are {', '.join(MACHINES)}")
        raise ConfigError(f"--machine {name}: there is none of that name; {remedy}")
    return MACHINES[name]
