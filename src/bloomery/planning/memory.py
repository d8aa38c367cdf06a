"""What each rank holds at the worst moment of a step, by kind.

Everything but the division among ranks is measured (`Anatomy`); the division is arithmetic on it:

    weights, gradients, state     of a stage's layers; matrices / tensor, experts / expert, all but these / (shard · context) as zero says
    activations                   of a stage's blocks, / (context · tensor); what tensor ranks gather is whole over them
    masks                         whole on every rank: heads are divided, and they are alike for all heads

Source: Rajbhandari et al. (2019), arXiv 1910.02054 (ZeRO); Korthikanti et al. (2022), arXiv 2205.05198 (activations under tensor and
sequence parallelism, recomputing); Narayanan et al. (2021), arXiv 2104.04473 (micro-batches in flight).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from bloomery.mesh import Layout
from bloomery.planning.anatomy import Anatomy, Weight
from bloomery.planning.trace import Change, Load, Stretch

GATHERED = 2  # branches of a block that tensor ranks gather their input for


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a rank at the worst moment of a step.

    Attributes:
        weights: its own, in the precision that the optimiser changes them in.
        gradients: of these.
        optimizer: its state, and an average of weights where there is one.
        activations: what the backward passes in flight need, and what is computed with at the moment.
        logits: what the loss and the head hold, of logits and their gradients.
        buffers: tables of the model, and the rows of the step.
        communication: weights gathered from other ranks, gradients and activations on their way to them.
        moment: when that is.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    buffers: float
    communication: float
    moment: str

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by kind."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "moment"}

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts.values())


def memory(anatomy: Anatomy, layout: Layout, rows: int, recomputed: int = 0) -> list[Memory]:
    """What the ranks of each place in the pipeline hold at the worst moment, from the first place to the last.

    Args:
        anatomy: of the training, in the micro-batches that a rank reads.
        layout: how the ranks are laid out.
        rows: of a step, over all ranks.
        recomputed: blocks of the whole model, the first ones, that keep their input only and are computed again in the backward pass.
    """
    return [_Rank(anatomy, layout, rows, recomputed, place).worst() for place in range(layout.pipeline)]


class _Rank:
    """A place in the pipeline."""

    def __init__(self, anatomy: Anatomy, layout: Layout, rows: int, recomputed: int, place: int) -> None:
        self.anatomy, self.layout, self.place = anatomy, layout, place
        self.rows = rows // layout.readers
        self.micro_batches = -(-self.rows // anatomy.rows)
        self.shards = layout.shard * layout.context if layout.shard > 1 else 1
        stretches = anatomy.further if self.micro_batches > 1 else anatomy.first
        again = {*anatomy.blocks[:recomputed]}
        own = stages_of(anatomy, layout)[place]
        self.stretches = [self._local(stretches[i].recomputed if i in again else stretches[i]) for i in own]
        self.last = own[-1] == len(stretches) - 1
        names = set().union(*(stretch.weights for stretch in self.stretches))
        self.held = {name: anatomy.weights[name] for name in sorted(names)}

    def worst(self) -> Memory:
        """At the worst moment."""
        return max(self._moments(), key=lambda memory: memory.total)

    def _moments(self) -> Iterator[Memory]:
        own = sum(self._share(weight) * weight.bytes for weight in self.held.values())
        state = sum(self._share(weight) * weight.state for weight in self.held.values())
        trained = [weight for weight in self.held.values() if weight.trained]
        gradients = sum((self._share(weight) if self.layout.zero > 1 else self._part(weight)) * weight.bytes for weight in trained)
        buffers = self.anatomy.buffers + self.rows * self.anatomy.row_bytes
        still = Memory(
            weights=own, gradients=0.0, optimizer=state, activations=0.0, logits=0.0, buffers=buffers, communication=0.0, moment="",
        )  # fmt: skip
        whole = sum(weight.bytes for weight in self.anatomy.weights.values() if weight.trained)
        yield replace(still, gradients=gradients, activations=self.anatomy.update * gradients / max(whole, 1), moment="update")
        accumulated = gradients if self.micro_batches > 1 else 0.0
        kept = sum((stretch.forward.left for stretch in self.stretches), Load()).kept
        before = (self._in_flight() - 1) * kept
        level, logits = Load(), 0.0
        gathered = self._gathered()
        for stretch, change, moment in self._passes():
            at = level + change.worst
            loss = self.last and stretch is self.stretches[-1]
            now = logits + change.worst.kept if loss else logits
            yield replace(
                still, gradients=accumulated + at.gradients, activations=before + at.kept - now, logits=now, communication=gathered,
                moment=moment,
            )  # fmt: skip
            left = change.left if accumulated == 0.0 else change.left.times(gradients=0.0)
            level += left.times(gradients=self._kept_gradients())
            logits += change.left.kept if loss else 0.0

    def _passes(self) -> Iterator[tuple[Stretch, Change, str]]:
        for stretch in self.stretches:
            yield stretch, stretch.forward, "forward"
        for stretch in reversed(self.stretches):
            yield stretch, stretch.backward, "backward"

    def _in_flight(self) -> int:
        """Micro-batches whose activations a rank keeps at a time."""
        layout = self.layout
        ahead = {"gpipe": self.micro_batches, "1f1b": layout.pipeline - self.place}
        if layout.schedule in ahead:
            return min(ahead[layout.schedule], self.micro_batches)
        chunks = 2 * (layout.pipeline - 1 - self.place) + (layout.stages - 1) * layout.pipeline + 1
        return min(-(-chunks // layout.stages), self.micro_batches)

    def _gathered(self) -> float:
        """Weights and gradients of other ranks that are here for a while."""
        return 0.0

    def _kept_gradients(self) -> float:
        """The share that stays of the gradients of a stretch, once they are added up over the ranks of ZeRO."""
        return 1 / self.shards if self.layout.zero > 1 else 1.0

    def _part(self, weight: Weight) -> float:
        """The share of a weight that is computed with on a rank."""
        return {"whole": 1.0, "tensor": 1 / self.layout.tensor, "expert": 1 / self.layout.expert}[weight.sharing]

    def _share(self, weight: Weight) -> float:
        """The share of a weight that a rank holds."""
        experts = weight.sharing == "expert" and self.layout.expert > 1
        return self._part(weight) / (1 if experts else self.shards)

    def _local(self, stretch: Stretch) -> Stretch:
        layout = self.layout
        time = layout.context * layout.tensor
        if time == 1:
            return stretch
        part = self._average_part(stretch)
        tokens, gathers = 1 / time, Load(tokens=GATHERED * stretch.reads * (1 - 1 / layout.tensor) / layout.context)

        def local(change: Change, forward: int) -> Change:
            share = {"tokens": tokens, "copies": part, "gradients": part}
            return Change(change.worst.times(**share) + gathers.times(max(forward, 0)), change.left.times(**share) + gathers.times(forward))

        return replace(stretch, forward=local(stretch.forward, 1), backward=local(stretch.backward, -1))

    def _average_part(self, stretch: Stretch) -> float:
        weights = [self.anatomy.weights[name] for name in stretch.weights]
        whole = sum(weight.bytes for weight in weights)
        return sum(self._part(weight) * weight.bytes for weight in weights) / whole if whole else 1.0


def stages_of(anatomy: Anatomy, layout: Layout) -> list[list[int]]:
    """The places of the stretches that the ranks of each place in the pipeline hold: blocks are dealt out evenly, what stands around them goes
    with its neighbours."""
    blocks, count = anatomy.blocks, layout.pipeline * layout.stages
    cuts = [blocks[len(blocks) * i // count] for i in range(1, count)]
    bounds = [0, *cuts, len(anatomy.first)]
    spans = [range(start, stop) for start, stop in pairwise(bounds)]
    return [[i for span in spans[place :: layout.pipeline] for i in span] for place in range(layout.pipeline)]
