"""Ways of training that `bench/time_to_bpb.py` compares: what the peer does, and what changes it, each lever by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bloomery.nn import FanInInit, NormalInit, WeightInit
from bloomery.optim import WSD, AdamW, BatchRamp, Doublings, Muon, NoRamp, OptimizerConfig, Schedule, WarmupCosine


@dataclass(frozen=True, kw_only=True)
class Way:
    """How we train. As it stands, it is what the peer does."""

    rows: int
    optimizer: OptimizerConfig
    schedule: Schedule
    init: WeightInit
    ramp: BatchRamp
    z_loss: float = 0.0


def muon(way: Way, steps: int) -> Way:
    """Muon for the hidden matrices."""
    return replace(way, optimizer=Muon(learning_rate=MUON_RATE, others=AdamW(learning_rate=MUON_RATE)))


def iterations(way: Way, steps: int) -> Way:
    """Three iterations of Muon's for five: the five are nearly a third of a step on a CPU."""
    return replace(way, optimizer=way.optimizer.replace(iterations=3)) if isinstance(way.optimizer, Muon) else way


def others(way: Way, steps: int) -> Way:
    """Twice the rate for what is no hidden matrix; without Muon, for embeddings."""
    match way.optimizer:
        case Muon() as optimizer:
            return replace(way, optimizer=optimizer.replace(others=optimizer.others.replace(learning_rate=2 * MUON_RATE)))
        case AdamW() as optimizer:
            return replace(way, optimizer=optimizer.replace(embedding_rate=2.0))
    return way


def wsd(way: Way, steps: int) -> Way:
    """Full rate until the decay, and down to nothing."""
    return replace(way, schedule=WSD(decay=0.4))


def fan_in(way: Way, steps: int) -> Way:
    """Matrices drawn by their inputs."""
    return replace(way, init=FanInInit())


def half_batch(way: Way, steps: int) -> Way:
    """Half the rows, twice the steps."""
    return replace(way, rows=way.rows // 2)


def double_batch(way: Way, steps: int) -> Way:
    """Twice the rows, half the steps."""
    return replace(way, rows=2 * way.rows)


def ramp(way: Way, steps: int) -> Way:
    """A quarter of the rows, then half of them, for the first tenth of the steps each."""
    return replace(way, ramp=Doublings(at=(max(1, steps // 10), max(2, steps // 5))))


def z_loss(way: Way, steps: int) -> Way:
    """Log-partitions are held near 0."""
    return replace(way, z_loss=1e-4)


MUON_RATE, ADAMW_RATE = 8e-3, 2e-3
LEVERS: dict[str, Callable[[Way, int], Way]] = {
    lever.__name__: lever for lever in (muon, iterations, others, wsd, fan_in, half_batch, double_batch, ramp, z_loss)
}
"""By name, in the order in which they are pulled."""
BEST = ("muon", "iterations", "others", "wsd")
"""What was best; see docs/log.md."""


def way_of(levers: Sequence[str], rate: float, rows: int, steps: int) -> Way:
    """What the peer does, changed by each lever in turn; all rates times `rate`."""
    way = Way(
        rows=rows, optimizer=AdamW(learning_rate=ADAMW_RATE), schedule=WarmupCosine(final=0.0), init=NormalInit(), ramp=NoRamp(),
    )
    for name, pull in LEVERS.items():
        way = pull(way, steps) if name in levers else way
    return replace(way, optimizer=way.optimizer.at(rate * way.optimizer.learning_rate))
