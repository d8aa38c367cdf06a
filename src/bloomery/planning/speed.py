"""How long a step takes, and what ranks send each other meanwhile: arithmetic on operations and bytes, with two assumptions stated.

    step = max(computing · imbalance, launching) / (1 − bubble) + waiting
    computing = operations / (peak · utilisation);   launching = kernels · time to have one called
    bubble = (p − 1) / (v · m + p − 1)   for p stages, v stretches per rank and m micro-batches

Launching is what small models take: a step is no faster than its kernels are called, however little they have to do. Compilation leaves fewer.

Waiting: for what tensor, context and expert ranks exchange in the middle of each layer, and for replicas to add up gradients. What ZeRO gathers
and pipelines hand on is taken to travel while something else is computed, as far as it is less. What comes back from the host is waited for.

Source: the bubble as in Narayanan et al. (2021), arXiv 2104.04473, section 2.2; bytes of collectives on rings as in Thakur et al. (2005) and,
for ZeRO, Rajbhandari et al. (2019), arXiv 1910.02054, section 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bloomery.mesh import AXES, Layout
from bloomery.planning.anatomy import Anatomy
from bloomery.planning.machines import Machine
from bloomery.planning.memory import stages_of

HIDDEN = ("shard", "pipeline")  # axes whose traffic travels while something else is computed


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be computed.

    Attributes:
        flops_per_token: of a training step, forward and backward, without recomputing.
        rows: of a step.
        time: places in a row.
        precision: of matrix products.
        active_experts: experts that each token goes to, in the layers that have some; 0 where there are none.
        called: share of the kernels of eager steps that are called, in (0, 1]; less than 1 where steps are compiled.
    """

    flops_per_token: float
    rows: int
    time: int
    precision: str
    active_experts: int = 0
    called: float = 1.0

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.rows * self.time


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of a step.

    Attributes:
        computing_s: seconds of the rank that has most to compute, or those that it takes to have its kernels called, where these are more.
        launching_s: the latter.
        waiting_s: seconds that it waits for what others send.
        bubble: share of the computing time that pipeline ranks stand idle.
        traffic: bytes that a rank sends, by axis, and to its host's memory.
        step_s: seconds in all.
        utilisation: share of the machines' peak that the model's own operations come to (MFU).
        tokens_per_s: of all ranks.
    """

    computing_s: float
    launching_s: float
    waiting_s: float
    bubble: float
    traffic: Mapping[str, float]
    step_s: float
    utilisation: float
    tokens_per_s: float


def speed(work: Work, anatomy: Anatomy, layout: Layout, machine: Machine, utilisation: float, recomputed: int = 0) -> Speed:
    """What a step comes to.

    Args:
        work: what is to be computed.
        anatomy: of the training, in the micro-batches that a rank reads.
        layout: how the ranks are laid out.
        machine: of each rank.
        utilisation: share of its peak that products reach while nothing is waited for, in (0, 1]; an assumption.
        recomputed: blocks that are computed again in the backward pass, of all.
    """
    blocks = len(anatomy.blocks)
    peak = machine.flops(work.precision)
    stages = layout.pipeline * layout.stages
    imbalance = -(-blocks // stages) * stages / blocks
    again = 1 + recomputed / blocks / 3  # a forward pass is a third of a step
    flops = work.tokens * work.flops_per_token / layout.world
    computing = flops * again / (peak * utilisation) * imbalance
    micro_batches = -(-work.rows // layout.readers // anatomy.rows)
    bubble = (layout.pipeline - 1) / (layout.stages * micro_batches + layout.pipeline - 1)
    launching = calls(anatomy, micro_batches, recomputed) * work.called * machine.launch / layout.pipeline
    computing_s, launching_s = (max(computing, launching) / (1 - bubble), launching / (1 - bubble))
    sent = traffic(work, anatomy, layout)
    seconds = {axis: count / bandwidth(axis, layout, machine) for axis, count in sent.items()}
    waiting = sum(second for axis, second in seconds.items() if axis not in HIDDEN)
    waiting += max(0.0, sum(seconds.get(axis, 0.0) for axis in HIDDEN) - computing_s)
    step = computing_s + waiting
    return Speed(
        computing_s=computing_s, launching_s=launching_s, waiting_s=waiting, bubble=bubble, traffic=sent, step_s=step,
        utilisation=flops / (peak * step), tokens_per_s=work.tokens / step,
    )  # fmt: skip


def calls(anatomy: Anatomy, micro_batches: int, recomputed: int = 0) -> float:
    """Kernels that are called in a step of the whole model."""
    again = sum(anatomy.first[i].forward.calls for i in anatomy.blocks[:recomputed])
    first, further = (sum(one.forward.calls + one.backward.calls for one in some) for some in (anatomy.first, anatomy.further))
    return first + (micro_batches - 1) * further + micro_batches * again + anatomy.calls


def traffic(work: Work, anatomy: Anatomy, layout: Layout) -> dict[str, float]:
    """Bytes that a rank sends in a step, by axis; of the stage that has most weights."""
    micro_batches = -(-work.rows // layout.readers // anatomy.rows)
    seam = anatomy.seam / layout.context  # the residual stream of a micro-batch, whole over tensor ranks
    blocks = len(anatomy.blocks) / layout.pipeline
    stages = stages_of(anatomy, layout.pipeline * layout.stages)
    weights = max(anatomy.bulk(set().union(*(anatomy.first[i].weights for i in span))).gathered(layout) for span in stages) * layout.stages
    sent: dict[str, float] = {}
    if layout.tensor > 1:  # gathered before and summed behind a mixer and a feed-forward layer; as much on the way back
        sent["tensor"] = 8 * blocks * micro_batches * seam * _ring(layout.tensor)
    if layout.context > 1:  # queries, keys and values out, the mixed ones in; as much on the way back; at most, where heads are grouped
        sent["context"] = 8 * blocks * micro_batches * seam / layout.tensor * _ring(layout.context)
    if layout.expert > 1:
        sent["expert"] = 4 * blocks * micro_batches * seam / layout.tensor * work.active_experts * _ring(layout.expert)
    if layout.shard > 1:
        gathers = {1: 1, 2: micro_batches, 3: micro_batches * (1 if layout.pipeline > 1 else 2)}[layout.zero]
        sums = 1 if layout.zero == 1 else micro_batches
        sent["shard"] = (gathers + sums) * weights * _ring(layout.shard * layout.context)
    if layout.replicate > 1:
        owned = weights / (layout.shard * layout.context if layout.shard > 1 else 1)
        sent["replicate"] = 2 * owned * _ring(layout.replicate)
    if layout.pipeline > 1:
        sent["pipeline"] = 2 * layout.stages * micro_batches * seam / layout.tensor
    if anatomy.sent or anatomy.turns:
        state = anatomy.bulk(anatomy.weights, lambda weight: weight.state).held(layout) if anatomy.turns else 0.0
        share = layout.context * layout.tensor * layout.pipeline
        sent["host"] = micro_batches * anatomy.sent / share + state / layout.pipeline
    return sent


def bandwidth(axis: str, layout: Layout, machine: Machine) -> float:
    """Bytes per second between the ranks of an axis: slow where some stand in other nodes. Or to the host's memory."""
    if axis == "host":
        return machine.host
    inner = AXES[AXES.index("shard" if axis == "expert" else axis) :]
    span = 1
    for name in inner:
        span *= getattr(layout, name)
    return machine.near if span <= machine.node else machine.far


def _ring(ranks: int) -> float:
    return (ranks - 1) / ranks

