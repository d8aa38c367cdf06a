"""`Batch`: the rows of one optimiser step, or of a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bloomery.nn.layout import Passage, SequenceLayout


@dataclass(frozen=True, eq=False)
class Labels:
    """What a head is to predict at some places of a batch: which of its classes each token, or the document that begins there, is of.

    Attributes:
        targets: (batch, time) int64, a class, or float32, a number; where nothing is, 0 under a weight of 0.
        loss_weight: (batch, time) float32 ≥ 0.
    """

    targets: Shaped[Tensor, "batch time"]
    loss_weight: Float[Tensor, "batch time"]

    @property
    def weight(self) -> float:
        """The sum of the loss weights."""
        return float(self.loss_weight.sum(dtype=torch.float64))

    def __getitem__(self, rows: slice | tuple[slice, slice]) -> Labels:
        """Those of some of the rows, or of a stretch of them."""
        return Labels(self.targets[rows], self.loss_weight[rows])

    def to(self, device: torch.device | str) -> Labels:
        """The same on another device."""
        return Labels(self.targets.to(device, non_blocking=True), self.loss_weight.to(device, non_blocking=True))


@dataclass(frozen=True, eq=False)
class Samples:
    """Where rows come from that a model has written itself.

    Attributes:
        logprobs: (batch, time) float32, log μ of each target that was drawn, μ being what it was drawn from; 0 where the weight is.
        prompts: (batch,) int64, the number of the prompt: samples of one prompt have the same.
        ages: (batch,) int64, steps that the policy has made since it wrote the row.
        advantages: (batch, time) float32, what each drawn target is worth beside what was expected; None where nothing was earned.
        reference: (batch, time) float32, log π_ref of each drawn target, π_ref being what the policy was before; None where nobody asked.
        values: (batch, time) float32, what the policy expected to earn from each place on when it wrote the row; None where it was not asked.
        returns: (batch, time) float32, what it should have expected; None where it was not asked.
        ids: only ids below it could be drawn, which a model may have more of; None where all could.
    """

    logprobs: Float[Tensor, "batch time"]
    prompts: Int[Tensor, " batch"]
    ages: Int[Tensor, " batch"]
    advantages: Float[Tensor, "batch time"] | None = None
    reference: Float[Tensor, "batch time"] | None = None
    values: Float[Tensor, "batch time"] | None = None
    returns: Float[Tensor, "batch time"] | None = None
    ids: int | None = None

    @classmethod
    def blank(cls, rows: int, time: int) -> Samples:
        """All there may be, with nothing in it."""
        of_rows, of_places = torch.zeros(rows, dtype=torch.long), torch.zeros(rows, time)
        return cls(of_places, of_rows, of_rows, of_places, of_places, of_places, of_places)

    def __getitem__(self, rows: slice | tuple[slice, slice]) -> Samples:
        """Those of some of the rows, or of a stretch of them."""
        of_rows = rows[0] if isinstance(rows, tuple) else rows
        return self._each(lambda one: one[rows if one.ndim > 1 else of_rows])

    def to(self, device: torch.device | str) -> Samples:
        """The same on another device."""
        return self._each(lambda one: one.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Samples:
        optional = (None if one is None else change(one) for one in (self.advantages, self.reference, self.values, self.returns))
        return Samples(change(self.logprobs), change(self.prompts), change(self.ages), *optional, ids=self.ids)


@dataclass(frozen=True, eq=False)
class Batch:
    """Tokens, what they should predict, and how much each prediction counts.

    Attributes:
        tokens: (batch, time) int64; of an agent, (batch, time, n_observed) float32, what it observed.
        targets: (batch, time) int64, the token to be predicted at each place; where nothing is, any valid id under a weight of 0.
        loss_weight: (batch, time) float32 ≥ 0; 0 takes a place out of the loss.
        layout: which tokens belong together.
        first_row: global index of the first row in the source's order; row i of the batch is `first_row + i`.
        passage: what an encoder reads for a decoder to write `targets` about; None where there is no encoder.
        labels: further targets by the name of the head that is to predict them.
        draws: (batch, time) float32 in [0, 1), what an objective that samples at a place goes by: like the tokens, a function of the row
            alone. None where the task gives none.
        samples: of rows that the policy has written; None where it has not.
    """

    tokens: Shaped[Tensor, "batch time *observed"]
    targets: Int[Tensor, "batch time"]
    loss_weight: Float[Tensor, "batch time"]
    layout: SequenceLayout
    first_row: int = 0
    passage: Passage | None = None
    labels: Mapping[str, Labels] = field(default_factory=dict)
    draws: Float[Tensor, "batch time"] | None = None
    samples: Samples | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def weight(self) -> float:
        """The sum of the loss weights: what the summed loss is divided by, known before the first backward pass."""
        return float(self.loss_weight.sum(dtype=torch.float64))

    def split(self, rows: int) -> Iterator[Batch]:
        """Micro-batches of at most `rows` rows; views, not copies."""
        for i in range(0, len(self), rows):
            part = slice(i, i + rows)
            passage, labels = None if self.passage is None else self.passage[part], {name: one[part] for name, one in self.labels.items()}
            tokens, targets, weight = self.tokens[part], self.targets[part], self.loss_weight[part]
            draws = None if self.draws is None else self.draws[part]
            samples = None if self.samples is None else self.samples[part]
            yield Batch(tokens, targets, weight, self.layout[part], self.first_row + i, passage, labels, draws, samples)

    def share(self, index: int, count: int) -> Batch:
        """One of `count` equal stretches of the rows' time; there must be no passage."""
        if count == 1:
            return self
        assert self.passage is None, "what an encoder reads is not shared among ranks"
        length = self.tokens.shape[1] // count
        part = slice(None), slice(index * length, (index + 1) * length)
        labels = {name: one[part] for name, one in self.labels.items()}
        tokens, targets, weight = self.tokens[part], self.targets[part], self.loss_weight[part]
        return Batch(tokens, targets, weight, self.layout.share(index, count), self.first_row, None, labels,
                     None if self.draws is None else self.draws[part],
                     None if self.samples is None else self.samples[part])  # fmt: skip

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        move = {"device": device, "non_blocking": True}
        tokens, targets, weight = self.tokens.to(**move), self.targets.to(**move), self.loss_weight.to(**move)
        passage, labels = None if self.passage is None else self.passage.to(device), {name: one.to(device) for name, one in self.labels.items()}
        draws = None if self.draws is None else self.draws.to(**move)
        samples = None if self.samples is None else self.samples.to(device)
        return Batch(tokens, targets, weight, self.layout.to(device), self.first_row, passage, labels, draws, samples)
