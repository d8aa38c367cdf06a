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
from bloomery.mesh.held import BUCKET_BYTES
from bloomery.mesh.schedules import schedule
from bloomery.planning.anatomy import Anatomy, Bulk, Weight
from bloomery.planning.trace import Change, Load, Stretch, backward_of, forward_of

GATHERED = 2  # branches of a block whose input tensor ranks gather and keep
SUMMED, SWAPPED = 2, 2  # residual streams copied within a block: for sums over tensor ranks (in their order, to send), and for heads


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a rank at the worst moment of a step.

    Attributes:
        weights: its own, in the precision that the optimiser changes them in.
        gradients: of these.
        optimizer: its state, the average of weights, and the copy of them that updates are taken back to, where there are such.
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
        spans = enumerate(stages_of(anatomy, layout.pipeline * layout.stages))
        self.stages = {stage: span for stage, span in spans if stage % layout.pipeline == place}
        self.again = {*anatomy.blocks[:recomputed]}
        self.own = [i for span in self.stages.values() for i in span]
        self.held = sorted(set().union(*(anatomy.first[i].weights for i in self.own)))

    def worst(self) -> Memory:
        """At the worst moment."""
        return max(self._moments(), key=lambda memory: memory.total)

    def _moments(self) -> Iterator[Memory]:
        anatomy, layout = self.anatomy, self.layout
        owned = anatomy.bulk(self.held, trained_bytes).held(layout)
        whole = sum(map(trained_bytes, anatomy.weights.values()))
        state, copies = (
            anatomy.bulk(self.held, what).held(layout) for what in (lambda weight: weight.state, lambda weight: weight.copies)
        )
        still = Memory(
            weights=anatomy.bulk(self.held).held(layout) + anatomy.asked.held(layout), gradients=owned,
            optimizer=copies + (0.0 if anatomy.turns else state), activations=0.0, logits=0.0,
            buffers=anatomy.buffers + self.rows * anatomy.row_bytes, communication=0.0, moment="adding up gradients",
        )  # fmt: skip
        yield replace(still, communication=self._bucket(owned))
        here = max((turn.of(owned) for turn in anatomy.turns), default=owned) / max(owned, 1)
        yield replace(
            still, optimizer=copies + here * state, activations=here * anatomy.update * owned / max(whole, 1), moment="the update",
        )  # fmt: skip
        if anatomy.asked.block.gathered(layout):
            kept, blocks = forward_of(self._local(further=False)[i] for i in self.own[:-1]).left, 2 * anatomy.asked.block.gathered(layout)
            yield replace(
                still, activations=kept.total, communication=self._gathered() + (blocks if layout.shard > 1 and layout.zero == 3 else 0.0),
                moment="asking another model",
            )  # fmt: skip
        level, handed, moment = max(self._passes(), key=lambda found: found[0].total + found[1])
        yield replace(
            still, gradients=level.gradients, activations=level.kept - level.logits, logits=level.logits,
            communication=self._gathered() + handed, moment=moment,
        )  # fmt: skip

    def _passes(self) -> Iterator[tuple[Load, float, str]]:
        """The worst moment of each pass of a step, in the order in which the rank does them, with what stages of a pipeline have handed each
        other until then, all of which a rank holds until the step ends.

        Of long steps only the beginning is gone through, as if what is handed on in the rest of them were there already.
        """
        layout, level, seen = self.layout, Load(), set()
        enough = layout.pipeline * (2 * layout.stages + 1)  # from then on all is as it was before
        micro_batches = self.micro_batches if layout.schedule == "gpipe" else min(self.micro_batches, max(enough, 2))
        seam, last = self.anatomy.seam / (layout.context * layout.tensor), layout.pipeline * layout.stages - 1
        rest = (self.micro_batches - micro_batches) * sum((stage > 0) + (stage < last) for stage in self.stages)
        handed = (self.micro_batches + rest) * seam if last else 0.0  # each rank has a pattern of what comes, for each micro-batch
        first, further = self._local(further=False), self._local(further=True)
        forward = {stage: forward_of(first[i] for i in span) for stage, span in self.stages.items()}
        first_back, back = ({n: backward_of([part[i] for i in span]) for n, span in self.stages.items()} for part in (first, further))
        for what, stage, micro in schedule(layout.schedule, self.place, layout.pipeline, layout.stages, micro_batches):
            change = forward[stage] if what == "forward" else back[stage] if stage in seen else first_back[stage]
            comes, goes = (stage > 0) * seam, (stage < last) * seam
            handed += comes if what == "forward" else goes
            yield level.plus(change.worst), handed, f"the {what} pass of micro-batch {micro + 1}"
            level = level.plus(change.left)
            if what == "backward":  # a table that the first and the last stage hold has a gradient at each
                over = forward[stage].left.plus(change.left)
                level = level.plus(over._replace(gradients=0.0).times(*[-1.0] * len(over)))
                level = level.plus(Load(gradients=max(over.kept, 0.0) if stage not in seen else 0.0))
                seen.add(stage)

    def _gathered(self) -> float:
        """Weights that are gathered from the ranks of ZeRO at a time, and one block's on the way."""
        if self.layout.shard == 1:
            return 0.0
        anatomy = self.anatomy
        asked = (anatomy.asked.around if self.layout.zero == 3 else anatomy.asked.whole).gathered(self.layout)
        blocks = [anatomy.bulks[i].gathered(self.layout) for i in self.own if anatomy.first[i].block]
        whole = anatomy.bulk(self.held).gathered(self.layout)
        if self.layout.zero < 3 or self.layout.pipeline > 1:
            return asked + whole + max(blocks)
        return asked + whole - sum(blocks) + 2 * max(blocks)

    def _bucket(self, owned: float) -> float:
        """Copies of gradients that are added up together over ranks that hold the same."""
        copies = self.layout.replicate * self.layout.context * self.layout.tensor > 1
        return min(owned, BUCKET_BYTES) if copies else 0.0

    def _local(self, further: bool) -> dict[int, Stretch]:
        """What the rank does of each stretch that it has, in the first micro-batch or in further ones; of those that are alike it is worked
        out once."""
        stretches = self.anatomy.further if further else self.anatomy.first
        last, known, found = len(stretches) - 1, {}, {}
        for i in self.own:
            stretch, bulk = stretches[i], self.anatomy.bulks[i]
            if i == 0 and self.layout.pipeline > 1:
                stretch = self._without_other_end(stretch)
            if i == last:  # of this rank's places alone
                stretch = self.anatomy.loss(self.anatomy.rows * self.anatomy.time // (self.layout.context * self.layout.tensor))[further]
            key = (stretch.reads, stretch.forward, stretch.backward, bulk, i in self.again, i == last)
            if key not in known:
                known[key] = self._share_of(stretch, bulk, i in self.again, i == last)
            found[i] = known[key]
        return found

    def _without_other_end(self, stretch: Stretch) -> Stretch:
        """What comes first, where a table of it is tied to the head, at the other end of the pipeline: what that finds is added when the step
        ends, and not here, into a third tensor of its size."""
        tied = stretch.weights & self.anatomy.first[-1].weights
        theirs = sum(trained_bytes(self.anatomy.weights[name]) for name in tied)
        worst = stretch.backward.worst
        return replace(stretch, backward=replace(stretch.backward, worst=worst.plus(Load(gradients=-min(theirs, worst.gradients)))))

    def _share_of(self, stretch: Stretch, bulk: Bulk, again: bool, loss: bool) -> Stretch:
        layout = self.layout
        whole = max(sum(bulk), 1)
        used, held = bulk.used(layout) / whole, bulk.held(layout) / whole
        tokens, stream = 1.0 if loss else 1 / (layout.context * layout.tensor), stretch.reads / layout.context
        gathered, leaves = GATHERED * stream * (1 - 1 / layout.tensor), again or self.anatomy.sent > 0
        copied = (SUMMED * stream if layout.tensor > 1 else 0.0) + (SWAPPED * stream / layout.tensor if layout.context > 1 else 0.0)

        def local(change: Change, more: float) -> Change:
            worst = change.worst.times(tokens, 1.0, used, used, 1.0).plus(Load(max(more, gathered if leaves else 0.0) + copied))
            left = change.left.times(tokens, 1.0, used, held if layout.zero > 1 else used, 1.0).plus(Load(0.0 if leaves else more))
            worst, left = (Load(gradients=load.gradients, logits=load.kept) if loss else load for load in (worst, left))
            return Change(worst, left, change.calls)

        part = stretch.recomputed if again else stretch
        return replace(part, forward=local(part.forward, gathered), backward=local(part.backward, -gathered))


def trained_bytes(weight: Weight) -> int:
    """Of a weight's gradient."""
    return weight.bytes if weight.trained else 0


def stages_of(anatomy: Anatomy, count: int) -> list[range]:
    """The stretches of each stage of a pipeline: blocks are dealt out evenly, what stands around them goes with its neighbours."""
    blocks = anatomy.blocks
    cuts = [blocks[len(blocks) * i // count] for i in range(1, count)]
    return [range(start, stop) for start, stop in pairwise([0, *cuts, len(anatomy.first)])]
