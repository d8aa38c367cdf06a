"""What is to be learnt from rows: the next token of the same document, and of conversations what is to be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from bloomery.data import Batch, TokenShards
from bloomery.nn.layout import PADDING
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.doctor.patient import Finding, Patient, Verdict
from bloomery.train.doctor.sight import segments_of

SHIFTS = {0: "the token itself", 1: "the next token", 2: "the token after the next"}
HIDDEN = 0.9
"""Share of targets that may be seen as they are under a task that hides tokens: all but a few must be hidden."""


def shift(patient: Patient) -> Iterator[Finding]:
    """Whether targets are what the task says: the next token of the same document, or what stood where a token is hidden."""
    batch = patient.source.batch(0, patient.read_rows)
    counted = batch.loss_weight > 0
    if not batch.layout.causal:
        seen = share(batch.tokens == batch.targets, counted)
        good = seen < HIDDEN
        yield Finding(
            check="hidden tokens", verdict="pass" if good else "fail", figure=f"{seen:.1%} of {int(counted.sum())} targets can be read off",
            rule=f"less than {HIDDEN:.0%}, since what is to be told must be hidden",
            remedy="" if good else "Nothing is hidden: take a task that hides, or raise the share that it hides",
        )  # fmt: skip
        return
    matches = {by: shifted(batch, counted, by) for by in SHIFTS}
    good, best = matches[1] == 1.0, max(matches, key=lambda by: matches[by])
    remedy = "Some are not: look at the task" if best == 1 else f"They are {SHIFTS[best]} ({matches[best]:.0%}): shift targets once"
    yield Finding(
        check="shift of targets", verdict="pass" if good else "fail",
        figure=f"{matches[1]:.1%} of the targets are the next token of their document", rule="all are", remedy="" if good else remedy,
    )  # fmt: skip


def shifted(batch: Batch, counted: Tensor, by: int) -> float:
    """The share of targets that are the token so many places on, of those whose document reaches so far."""
    segments, time = segments_of(batch.tokens, batch.layout), batch.tokens.shape[1]
    here, there = slice(0, time - by), slice(by, time)
    inside = counted[:, here] & (segments[:, here] == segments[:, there])
    return share(batch.targets[:, here] == batch.tokens[:, there], inside)


def as_stored(patient: Patient) -> Iterator[Finding]:
    """Whether rows have the tokens, targets and weights that the shards have for the documents that they name."""
    corpora = {name: one.shards for name, one in patient.corpora.items()}
    if not corpora:
        return
    rows, wrong, pieces = patient.raw.rows(0, patient.read_rows), list[str](), 0
    covered = np.zeros(rows.tokens.shape, bool)
    for span in patient.raw.documents(0, patient.read_rows):
        shards = corpora[span.source]
        length, pieces = span.stop - span.start, pieces + 1
        here = slice(span.place, span.place + length)
        covered[span.row, here] = True
        found = (rows.tokens[span.row, here], rows.targets[span.row, here], rows.loss_weight[span.row, here])
        if not any(_agree(shards, number, span.start, span.stop, *found) for number in shards.numbers(span.id)):
            wrong.append(span.id)
    stray = int(((rows.loss_weight > 0) & ~covered).sum())
    yield Finding(
        check="rows as stored", verdict="fail" if wrong or stray else "pass",
        figure=f"{len(wrong)} of {pieces} pieces are not what their shards hold" + (f", the first of {wrong[0]}" if wrong else "")
        + (f"; {stray} places outside of all documents count" if stray else ""),
        rule="tokens, next tokens and their weights are those of the documents", remedy="Look at the source's rows" if wrong or stray else "",
    )  # fmt: skip


def _agree(shards: TokenShards, number: int, start: int, stop: int, tokens: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> bool:
    """Whether a piece of a row is what a document holds there: where a target counts, it is the next token, and it counts as its mask says."""
    own, mask = shards.document(number, start, stop + 1), shards.mask(number, start, stop + 1)
    mask = mask if shards.head is None else np.ones_like(mask)  # there it says where labels stand
    if not np.array_equal(own[: stop - start], tokens):
        return False
    inner = slice(0, len(own) - 1)  # places whose next token the document has
    counts = weight[inner] > 0
    told = np.array_equal(targets[inner][counts], own[1:][counts])
    return told and not np.any(weight[inner][mask[1:] == 0]) and bool(np.all(counts[: stop - start - 1] == (mask[1 : stop - start] > 0)))


def loss_weights(patient: Patient) -> Iterator[Finding]:
    """Whether something counts, and padding does not."""
    batch = patient.source.batch(0, patient.read_rows)
    segments, weight = segments_of(batch.tokens, batch.layout), batch.loss_weight
    of_labels = sum(labels.weight for labels in batch.labels.values())
    real, empty = segments != PADDING, int((weight.sum(1) == 0).sum())
    counted = share(weight > 0, real)
    verdict: Verdict = "pass"
    remedy = ""
    if not counted and not of_labels:
        verdict, remedy = "fail", "Nothing would be learnt: check the mask of the corpus and the encoding that made it"
    elif empty > len(batch) / 2 and not of_labels:
        verdict, remedy = "warn", "Make rows longer, or drop what holds nothing to learn"
    yield Finding(
        check="loss weights", verdict=verdict,
        figure=f"{counted:.1%} of {int(real.sum())} tokens count, in {len(batch) - empty} of {len(batch)} rows",
        rule="some do, in most rows", remedy=remedy,
    )  # fmt: skip
    padding = float(weight[~real].sum()) + sum(float(labels.loss_weight[~real].sum()) for labels in batch.labels.values())
    yield Finding(
        check="padding", verdict="fail" if padding else "pass", figure=f"{int((~real).sum())} places with a weight of {padding:g} together",
        rule="padding counts nothing", remedy="Give places of segment 0 a weight of 0, or the model learns to write padding" if padding else "",
    )  # fmt: skip


def conversations(patient: Patient) -> Iterator[Finding]:
    """Whether what counts of conversations reads as what is to be said in them, each time up to the `<|end|>` that closes it."""
    rows, wrong, asked = patient.raw.rows(0, patient.read_rows), list[tuple[str, str]](), 0
    for span in patient.raw.documents(0, patient.read_rows):
        if span.id in patient.said:
            here = slice(span.place, span.place + span.stop - span.start)
            targets, counts = rows.targets[span.row, here], rows.loss_weight[span.row, here] > 0
            whole = span.start == 0 and rows.tokens[span.row, here][-1] == patient.tokenizer.end
            asked += 1
            wrong += [(span.id, text) for text in misread(patient.tokenizer, targets, counts, patient.said[span.id], span.start > 0, whole)]
    if asked:
        yield Finding(
            check="conversations", verdict="fail" if wrong else "pass",
            figure=f"{len(wrong)} stretches that count in {asked} conversations are not what is said there"
            + (f": {wrong[0][1][:60]!r} in {wrong[0][0]}" if wrong else ""),
            rule="what counts is what is to be said, to the letter, and the end of it",
            remedy="The mask does not fit the tokens: it goes with the token that is predicted, one place on" if wrong else "",
        )  # fmt: skip


def misread(
    tokenizer: Tokenizer, targets: np.ndarray, counts: np.ndarray, said: Sequence[str], goes_on: bool, whole: bool
) -> Iterator[str]:
    """What counts in a piece of a conversation and is not said there; what is cut off with the piece may be the rest, or the beginning, of it.

    Args:
        tokenizer: of the targets.
        targets: (time,) of the piece.
        counts: which of them.
        said: what is to be learnt of the conversation, turn by turn.
        goes_on: whether the piece begins within the conversation.
        whole: whether it is all of it.
    """
    edges, heard = np.flatnonzero(np.diff(np.concatenate([[0], counts.astype(int), [0]]))), 0
    for begin, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        ids = targets[begin:stop].tolist()
        late, closed = goes_on and begin == 0, ids[-1] == tokenizer.end
        text = tokenizer.decode(ids).strip("\ufffd")  # of a character that is cut
        fits = any(
            (said_one.endswith(text) if closed else text in said_one) if late else (said_one == text if closed else said_one.startswith(text))
            for said_one in said
        )
        heard += 1
        if not fits or not (closed or stop == len(targets)) or (ids[0] in tokenizer.controls and not late):
            yield tokenizer.decode_markup(ids)
    if whole and heard != len(said):
        yield f"{heard} of {len(said)} turns"


def share(these: Tensor, of: Tensor) -> float:
    """The share of some places at which something holds; 0 of none."""
    return float((these & of).sum()) / max(1, int(of.sum()))
