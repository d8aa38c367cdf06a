"""The order of data: rows are a function of their number, and an epoch has each document once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bloomery.data import Batch, Cursor, Packed
from bloomery.train.doctor.patient import Finding, Patient

REMEDY = "A row may depend on nothing but its number, seed and shards: look for state, or for a number of rows, in the source or its task"


def pure_rows(patient: Patient) -> Iterator[Finding]:
    """Whether rows are the same each time: from the source built anew, in batches of any size, and shared out among ranks."""
    source, count = patient.source, max(4, min(patient.read_rows, 16))
    whole = source.batch(0, count)
    ways = {
        "read twice": source.batch(0, count),
        "from a source built anew": patient.again().batch(0, count),
        "one by one": joined([source.batch(row, 1) for row in range(count)]),
        "shared by 2 ranks": joined([next(source.resume(Cursor(), count, rank, 2))[0] for rank in range(2)]),
    }
    others = [way for way, batch in ways.items() if not same(whole, batch)]
    hashes = {f"in parts of {size}": sum(source.sequence_hash(row, min(size, count - row)) for row in range(0, count, size)) % (1 << 64)
              for size in (1, 3)}  # fmt: skip
    others += [f"{way}, by their hash" for way, found in hashes.items() if found != source.sequence_hash(0, count)]
    yield Finding(
        check="data order", verdict="fail" if others else "pass",
        figure=f"rows 0 to {count - 1} are others " + ", and ".join(others) if others else f"rows 0 to {count - 1} in {len(ways) + 2} ways",
        rule="they are the same in each", remedy=REMEDY if others else "",
    )  # fmt: skip


def epochs(patient: Patient) -> Iterator[Finding]:
    """Whether the first epoch of each corpus has each of its documents once, whole but for what its packing says that it cuts."""
    for name, packed in patient.corpora.items():
        documents, tokens = passed_over(packed)
        counts = np.bincount(documents, minlength=len(packed.shards))
        expected = packed.shards.tokens - packed.arrangement.cut().tokens
        missing, twice = int((counts == 0).sum()), int((counts > 1).sum())
        good = not missing and not twice and tokens == expected
        yield Finding(
            check="epochs", verdict="pass" if good else "fail",
            figure=f"{name}: epoch 0 lacks {missing} of {len(counts)} documents, has {twice} twice, and {tokens} of {expected} tokens",
            rule="each once", remedy="" if good else "Look at how the packing arranges documents in rows",
        )  # fmt: skip


def passed_over(packed: Packed) -> tuple[np.ndarray, int]:
    """The documents that begin in epoch 0, in order, and its tokens."""
    pieces = packed.arrangement.pieces(0, packed.arrangement.rows_per_epoch())
    first = pieces.where(pieces.epochs == 0)
    return first.documents[first.starts == 0], int(first.lengths.sum())


def joined(batches: list[Batch]) -> tuple[torch.Tensor, ...]:
    """The rows of several batches as those of one."""
    return tuple(torch.cat(tensors) for tensors in zip(*(tensors_of(batch) for batch in batches), strict=True))


def same(one: Batch, other: Batch | tuple[torch.Tensor, ...]) -> bool:
    """Whether two batches have the same numbers."""
    theirs = tensors_of(other) if isinstance(other, Batch) else other
    return all(torch.equal(a, b) for a, b in zip(tensors_of(one), theirs, strict=True))


def tensors_of(batch: Batch) -> tuple[torch.Tensor, ...]:
    """All that a batch is made of."""
    layout, passage = batch.layout, batch.passage
    some = [batch.tokens, batch.targets, batch.loss_weight, layout.positions, layout.segments, layout.prefix, layout.parts, batch.draws]
    some += [one for labels in batch.labels.values() for one in (labels.targets, labels.loss_weight)]
    some += [] if passage is None else [passage.tokens, passage.layout.positions, passage.layout.segments]
    return tuple(one for one in some if one is not None)

