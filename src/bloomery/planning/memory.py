"""What each rank holds at the worst moment of a step, by kind.

Everything but the division among ranks is measured (`Anatomy`); the division is arithmetic on it:

    weights, gradients, state     of a stage's layers; matrices / tensor, experts / expert, all but these / (shard · context) as zero says
    activations                   of a stage's blocks, / (context · tensor); what tensor ranks gather is whole over them
    masks                         whole on every rank: heads are divided, and they are alike for all heads

Source: Rajbhandari et al. (2019), arXiv 1910.02054 (ZeRO); Korthikanti et al. (2022), arXiv 2205.05198 (activations under tensor and
sequence parallelism, recomputing); Narayanan et al. (2021), arXiv 2104.04473 (micro-batches in flight).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from bloomery.mesh import Layout
from bloomery.mesh.schedules import schedule
from bloomery.planning.anatomy import Anatomy, Weight
from bloomery.planning.trace import Change, Load, Stretch, backward_of, forward_of

GATHERED = 2  # branches of a block whose input tensor ranks gather and keep
SUMMED, SWAPPED = 8, 2  # residual streams under way: for the sums of tensor ranks, and for the heads of context ranks
BUCKET_BYTES = 64 << 20  # of gradients that are added up in one go


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
        self.stages = dict(enumerate(stages_of(anatomy, layout.pipeline * layout.stages)))
        self.stages = {stage: span for stage, span in self.stages.items() if stage % layout.pipeline == place}
        again = {*anatomy.blocks[:recomputed]}

        def local(stretches: Sequence[Stretch]) -> dict[int, list[Stretch]]:
            return {
                stage: [self._local(stretches[i].recomputed if i in again else stretches[i], i == len(stretches) - 1) for i in span]
                for stage, span in self.stages.items()
            }

        self.first, self.further = local(anatomy.first), local(anatomy.further)
        self.stretches = [stretch for stage in self.first.values() for stretch in stage]
        names = set().union(*(stretch.weights for stretch in self.stretches))
        self.held = [anatomy.weights[name] for name in sorted(names)]

    def worst(self) -> Memory:
        """At the worst moment."""
        return max(self._moments(), key=lambda memory: memory.total)

    def _moments(self) -> Iterator[Memory]:
        trained = [weight for weight in self.held if weight.trained]
        owned = sum(self._share(weight) * weight.bytes for weight in trained)
        whole = sum(weight.bytes for weight in self.anatomy.weights.values() if weight.trained)
        still = Memory(
            weights=sum(self._share(weight) * weight.bytes for weight in self.held), gradients=owned,
            optimizer=sum(self._share(weight) * weight.state for weight in self.held), activations=0.0, logits=0.0,
            buffers=self.anatomy.buffers + self.rows * self.anatomy.row_bytes, communication=0.0, moment="adding up gradients",
        )  # fmt: skip
        yield replace(still, communication=self._bucket(owned))
        yield replace(still, activations=self.anatomy.update * owned / max(whole, 1), moment="the update")
        under_way = self._gathered() + self._handed()
        for level, moment in self._passes():
            yield replace(
                still, gradients=level.gradients, activations=level.kept - level.logits, logits=level.logits, communication=under_way,
                moment=moment,
            )  # fmt: skip

    def _passes(self) -> Iterator[tuple[Load, str]]:
        """The worst moment of each pass of a step, in the order in which the rank does them; of long steps, the beginning."""
        layout, level, seen = self.layout, Load(), set()
        enough = layout.pipeline * (2 * layout.stages + 1)  # from then on all is as it was before
        micro_batches = self.micro_batches if layout.schedule == "gpipe" else min(self.micro_batches, max(enough, 2))
        forward = {stage: forward_of(stretches) for stage, stretches in self.first.items()}
        first, further = ({n: backward_of(stretches) for n, stretches in stages.items()} for stages in (self.first, self.further))
        for what, stage, micro in schedule(layout.schedule, self.place, layout.pipeline, layout.stages, micro_batches):
            change = forward[stage] if what == "forward" else further[stage] if stage in seen else first[stage]
            yield level.plus(change.worst), f"the {what} pass of micro-batch {micro + 1}"
            level = level.plus(change.left)
            if what == "backward":  # a table that the first and the last stage hold has a gradient at each
                over = forward[stage].left.plus(change.left)
                level = level.plus(over._replace(gradients=0.0).times(*[-1.0] * len(over)))
                level = level.plus(Load(gradients=max(over.kept, 0.0) if stage not in seen else 0.0))
                seen.add(stage)

    def _gathered(self) -> float:
        """Weights that are gathered from the ranks of ZeRO at a time, and one block's on the way."""
        if self.shards == 1:
            return 0.0
        weights = self.anatomy.weights
        blocks = [sum(self._gather(weights[name]) for name in stretch.weights) for stretch in self.stretches if stretch.block]
        whole = sum(self._gather(weight) for weight in self.held)
        if self.layout.zero < 3 or self.layout.pipeline > 1:
            return whole + max(blocks)
        return whole - sum(blocks) + 2 * max(blocks)

    def _gather(self, weight: Weight) -> float:
        return 0.0 if self._settled(weight) else self._part(weight) * weight.bytes

    def _handed(self) -> float:
        """Activations that ranks hand each other."""
        layout, seam = self.layout, self.anatomy.seam / self.layout.context
        summed = SUMMED * seam if layout.tensor > 1 else 0.0
        swapped = SWAPPED * seam / layout.tensor if layout.context > 1 else 0.0
        last = layout.pipeline * layout.stages - 1
        sent = sum((stage > 0) + (stage < last) for stage in self.stages)
        return summed + swapped + ((1 + sent) * self.micro_batches * seam / layout.tensor if last else 0.0)

    def _bucket(self, owned: float) -> float:
        """Copies of gradients that are added up together over ranks that hold the same."""
        copies = self.layout.replicate * self.layout.context * self.layout.tensor > 1
        return min(owned, BUCKET_BYTES) if copies else 0.0

    def _settled(self, weight: Weight) -> bool:
        """Whether it is an expert's that lives on some ranks only."""
        return weight.sharing == "expert" and self.layout.expert > 1

    def _part(self, weight: Weight) -> float:
        """The share of a weight that is computed with on a rank."""
        return {"whole": 1.0, "tensor": 1 / self.layout.tensor, "expert": 1 / self.layout.expert}[weight.sharing]

    def _share(self, weight: Weight) -> float:
        """The share of a weight that a rank holds."""
        return self._part(weight) / (1 if self._settled(weight) else self.shards)

    def _local(self, stretch: Stretch, loss: bool) -> Stretch:
        """What a rank does of a stretch."""
        layout = self.layout
        weights = [self.anatomy.weights[name] for name in stretch.weights]
        whole = max(sum(weight.bytes for weight in weights), 1)
        used = sum(self._part(weight) * weight.bytes for weight in weights) / whole
        left = sum(self._share(weight) * weight.bytes for weight in weights) / whole if layout.zero > 1 else used
        tokens, gathered = 1 / (layout.context * layout.tensor), GATHERED * stretch.reads * (1 - 1 / layout.tensor) / layout.context

        def local(change: Change, more: float) -> Change:
            worst = change.worst.times(tokens, 1.0, used, used, 1.0).plus(Load(max(more, 0.0)))
            after = change.left.times(tokens, 1.0, used, left, 1.0).plus(Load(more))
            return Change(*(Load(gradients=load.gradients, logits=load.kept) if loss else load for load in (worst, after)))

        return replace(stretch, forward=local(stretch.forward, gathered), backward=local(stretch.backward, -gathered))


def stages_of(anatomy: Anatomy, count: int) -> list[range]:
    """The stretches of each stage of a pipeline: blocks are dealt out evenly, what stands around them goes with its neighbours."""
    blocks = anatomy.blocks
    cuts = [blocks[len(blocks) * i // count] for i in range(1, count)]
    return [range(start, stop) for start, stop in pairwise([0, *cuts, len(anatomy.first)])]
