"""The orders in which pipeline ranks do micro-batches, as plain lists; what carries them out is in `pipeline`."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Action(NamedTuple):
    """One thing that a rank does: the forward or backward pass of a micro-batch through one of the stages of the whole pipeline."""

    what: Literal["forward", "backward"]
    stage: int
    micro_batch: int


def schedule(name: Literal["gpipe", "1f1b", "interleaved"], rank: int, ranks: int, stages: int, micro_batches: int) -> list[Action]:
    """What a rank does, in order.

    Args:
        name: all forward, then all backward (GPipe); one forward, one backward, as soon as can be (1F1B), which keeps the activations of
            no more micro-batches than there are ranks behind; or the same with several stages per rank, dealt round and round, which makes
            the waiting at both ends shorter.
        rank: which one, from 0.
        ranks: of the pipeline.
        stages: per rank.
        micro_batches: of the step; for the interleaved schedule a multiple of `ranks`.

    Source: Huang et al. (2018), GPipe, arXiv 1811.06965; Narayanan et al. (2021), arXiv 2104.04473, sections 2.1 and 2.2.
    """
    if name == "gpipe":
        forward = [Action("forward", rank, m) for m in range(micro_batches)]
        return forward + [Action("backward", rank, m) for m in range(micro_batches)]
    total = stages * micro_batches
    forwards = [Action("forward", *_place(i, rank, ranks, stages)) for i in range(total)]
    backwards = [Action("backward", *_place(i, rank, ranks, stages, last_first=True)) for i in range(total)]
    ahead = ranks - 1 - rank if stages == 1 else 2 * (ranks - 1 - rank) + (stages - 1) * ranks
    ahead = min(ahead, total)
    actions = forwards[:ahead]
    for i in range(total - ahead):
        actions += [forwards[ahead + i], backwards[i]]
    return actions + backwards[total - ahead :]


def _place(i: int, rank: int, ranks: int, stages: int, last_first: bool = False) -> tuple[int, int]:
    """The stage and the micro-batch of a rank's i-th pass: `ranks` micro-batches through one of its stages, then through the next."""
    if stages == 1:
        return rank, i
    group, within = divmod(i, ranks * stages)
    own, micro_batch = divmod(within, ranks)
    own = stages - 1 - own if last_first else own
    return own * ranks + rank, group * ranks + micro_batch
