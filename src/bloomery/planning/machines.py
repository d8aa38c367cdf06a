"""`Machine`: an accelerator and its links, as far as a plan needs to know them; and those that there are, by name."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.core.units import Bytes

GIB = 1 << 30
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
    activations: Bytes | None = None
    """Of one micro-batch at most, where a run chooses it; None for a share of what the model and its updates leave of the memory."""

    def flops(self, precision: str) -> float:
        """Operations per second in a precision of matrix products."""
        return self.fp32_flops if precision == "fp32" else self.bf16_flops


MACHINES: dict[str, Machine] = {
    "a100-40gb": Machine(bf16_flops=312e12, fp32_flops=19.5e12, memory=40 * GIB, near=300e9, far=25e9),
    "a100-80gb": Machine(bf16_flops=312e12, fp32_flops=19.5e12, memory=80 * GIB, near=300e9, far=25e9),
    "h100": Machine(bf16_flops=989.4e12, fp32_flops=66.9e12, memory=80 * GIB, near=450e9, far=50e9),
    "h200": Machine(bf16_flops=989.4e12, fp32_flops=66.9e12, memory=140 * GIB, near=450e9, far=50e9),
    "b200": Machine(bf16_flops=2250e12, fp32_flops=75e12, memory=179 * GIB, near=900e9, far=50e9),
    "mi300x": Machine(bf16_flops=1307.4e12, fp32_flops=163.4e12, memory=192 * GIB, near=448e9, far=50e9),
    "l40s": Machine(bf16_flops=362e12, fp32_flops=91.6e12, memory=48 * GIB, near=32e9, far=25e9),
    "rtx4090": Machine(bf16_flops=165.2e12, fp32_flops=82.6e12, memory=24 * GIB, near=32e9, far=12.5e9),
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
