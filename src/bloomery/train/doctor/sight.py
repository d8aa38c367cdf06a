"""Who sees whom: a token is changed, and whatever is told otherwise has seen it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.core.rng import numpy_rng
from bloomery.data import Batch
from bloomery.models import Model
from bloomery.nn.layout import PADDING, SequenceLayout
from bloomery.train.doctor.patient import Finding, Patient, readers

SEEN = 1e-6
"""Change of a feature, relative to their size, that is no rounding: what is not seen changes by nothing, in float64 by 1e-13 at most."""
ROWS, AMONG = 4, 32
"""How many rows are looked at, of so many."""


@dataclass(frozen=True)
class Leak:
    """What was seen that should not have been: the changed place, and the place at which something else was told for it."""

    row: int
    changed: int
    told: int

    def __str__(self) -> str:
        return f"in row {self.row}, place {self.changed} changes what is told at place {self.told}"


def sight(patient: Patient) -> Iterator[Finding]:
    """Whether a token is seen by those only that may: not by those before it, not by other documents of its row, and padding by none.

    In each of a few rows a token is replaced by another, and the features of the changed and the unchanged row are compared in float64.
    """
    leaks: dict[str, list[Leak]] = {"before": [], "documents": [], "padding": [], "passage": []}
    asked = dict.fromkeys(leaks, 0)
    for model in readers(patient.copy().double().eval()).values():
        for row in rows_of_interest(patient):
            with torch.no_grad():
                probe(patient, model, patient.source.batch(row, 1).to(model.device), leaks, asked)
    rules = {
        "before": ("future", "nothing is told otherwise before a token that is changed",
                   "The model sees what it is to predict: check the mask of its mixers, and that nothing mixes along time beside them"),
        "documents": ("documents of a row", "a document is told the same whatever else is in its row",
                      "Build masks from the layout's segments"),
        "padding": ("padding is not seen", "padding changes nothing", "Build masks from the layout's segments, of which padding is number 0"),
        "passage": ("passages of a row", "a text only sees the passage of its own document", "Build the mask of cross-attention by `across`"),
    }  # fmt: skip
    for kind, (check, rule, remedy) in rules.items():
        if asked[kind]:
            found = leaks[kind]
            figure = f"{asked[kind]} changed tokens, {len(found)} seen where they must not be" + (f": {found[0]}" if found else "")
            yield Finding(check=check, verdict="fail" if found else "pass", figure=figure, rule=rule, remedy=remedy if found else "")


def rows_of_interest(patient: Patient) -> list[int]:
    """Those of the first rows that have the most documents, and the one that has the most padding."""
    segments = segments_of((batch := patient.source.batch(0, AMONG)).tokens, batch.layout)
    documents, padding = segments.amax(1).tolist(), (segments == PADDING).sum(1).tolist()
    most = sorted(range(AMONG), key=lambda row: -documents[row])[: ROWS - 1]
    return list(dict.fromkeys([*most, max(range(AMONG), key=lambda row: padding[row])]))


def probe(patient: Patient, model: Model, batch: Batch, leaks: dict[str, list[Leak]], asked: dict[str, int]) -> None:
    """Changes tokens of a row, one at a time, and notes who has seen them."""
    before, segments = _features(model, batch), segments_of(batch.tokens, batch.layout)[0]
    rng = numpy_rng(patient.seed, "probes", batch.first_row)
    for places in ((segments != PADDING).nonzero()[:, 0], (segments == PADDING).nonzero()[:, 0]):
        for place in rng.permutation(places.cpu().numpy())[: patient.effort.probes].tolist():
            told = differ(before, _features(model, replace(batch, tokens=changed(patient, batch.tokens, place))))
            for kind, wrong in forbidden(batch.layout, segments, place).items():
                record(kind, told & wrong, batch.first_row, place, leaks, asked)
    if batch.passage is not None:
        theirs = segments_of(batch.passage.tokens, batch.passage.layout)[0]
        for place in rng.permutation((theirs != PADDING).nonzero()[:, 0].cpu().numpy())[: patient.effort.probes].tolist():
            passage = replace(batch.passage, tokens=changed(patient, batch.passage.tokens, place))
            told = differ(before, _features(model, replace(batch, passage=passage)))
            record("passage", told & (segments != PADDING) & (segments != theirs[place]), batch.first_row, place, leaks, asked)


def forbidden(layout: SequenceLayout, segments: Int[Tensor, " time"], place: int) -> dict[str, Bool[Tensor, " time"]]:
    """Where a token at a place of the only row must not be seen, by what would be wrong; nothing where there is no such place."""
    time = torch.arange(len(segments), device=segments.device)
    mine, real = segments == segments[place], segments != PADDING
    if segments[place] == PADDING:
        return {"padding": real}
    in_prefix = layout.prefix is not None and bool(layout.prefix[0, place])
    wrong = {"before": mine & (time < place)} if layout.causal and not in_prefix else {}
    wrong["documents"] = real & ~mine
    return {kind: places for kind, places in wrong.items() if places.any()}


def record(kind: str, wrong: Bool[Tensor, " time"], row: int, place: int, leaks: dict[str, list[Leak]], asked: dict[str, int]) -> None:
    """Notes that a token was changed, and where that was seen."""
    asked[kind] += 1
    if wrong.any():
        leaks[kind].append(Leak(row, place, int(wrong.nonzero()[0, 0])))


def segments_of(tokens: Tensor, layout: SequenceLayout) -> Int[Tensor, "batch time"]:
    """The number of each place's document, also where each row is one."""
    return torch.ones_like(tokens) if layout.segments is None else layout.segments


def changed(patient: Patient, tokens: Int[Tensor, "1 time"], place: int) -> Int[Tensor, "1 time"]:
    """The tokens with another one at that place."""
    changed = tokens.clone()
    changed[0, place] = (tokens[0, place] + 1) % min(patient.tokenizer.vocab_size, patient.config.vocab_size)
    return changed


def differ(before: Float[Tensor, "1 time d"], after: Float[Tensor, "1 time d"]) -> Bool[Tensor, " time"]:
    """Where features are not the same but for rounding."""
    return ((after - before).abs().amax(-1) / before.square().mean().sqrt().clamp(min=1e-30))[0] > SEEN


def _features(model: Model, batch: Batch) -> Tensor:
    return model.features(batch.tokens, batch.layout, passage=batch.passage)
