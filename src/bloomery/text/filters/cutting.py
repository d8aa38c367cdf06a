"""Cutting stretches out of texts, many at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import SPANS, Verdicts
from bloomery.text.shingles import utf8, words_of


def cut_verdicts(
    batch: pa.RecordBatch, starts: np.ndarray, ends: np.ndarray, reasons: pa.Array, nothing_left: str, values: pa.Array,
) -> Verdicts:
    """The verdicts that cut stretches out of texts, and drop documents in which no word is left.

    Args:
        batch: documents; those with messages must not be cut.
        starts, ends: where the stretches lie in the texts' bytes, all texts one after the other; they may overlap.
        reasons: why, per row; null where nothing is cut.
        nothing_left: why documents are dropped.
        values: what goes on record, per row.
    """
    if not len(starts):
        return Verdicts.keep(batch)
    before = batch.column("text")
    text, spans = without(before, starts, ends)
    touched = pc.is_valid(reasons)
    text = pc.if_else(touched, pc.utf8_rtrim_whitespace(text), before)
    empty = pc.and_(touched, pa.array(np.diff(words_of(text).bounds) == 0))
    text = pc.if_else(empty, before, text)
    return Verdicts(
        batch=batch.set_column(batch.schema.get_field_index("text"), batch.schema.field("text"), text),
        reasons=pc.if_else(empty, pa.scalar(nothing_left), reasons), dropped=empty, values=values,
        spans=pc.if_else(pc.and_not(touched, empty), _within(spans, text), pa.scalar(None, SPANS)),
    )  # fmt: skip


def without(text: pa.StringArray, starts: np.ndarray, ends: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """The texts less some stretches of bytes, and where in the new texts they were, as empty spans."""
    data, offsets = utf8(text)
    gone, first, _ = _stretches(len(data), offsets, starts, ends)
    kept = np.concatenate([[0], np.cumsum(~gone)])
    new = pa.StringArray.from_buffers(len(text), pa.py_buffer(kept[offsets].astype(np.int32)), pa.py_buffer(data[~gone]))
    return new, _spans(offsets, ~gone & _begins_character(data), first, first)


def replaced(text: pa.StringArray, starts: np.ndarray, ends: np.ndarray, by: str) -> pa.StringArray:
    """The texts with something else in the place of stretches of bytes; those that touch within a text are one."""
    data, offsets = utf8(text)
    gone, first, _ = _stretches(len(data), offsets, starts, ends)
    kept, filling = np.concatenate([[0], np.cumsum(~gone)]), np.frombuffer(by.encode(), np.uint8)
    new = np.insert(data[~gone], np.repeat(kept[first], len(filling)), np.tile(filling, len(first)))
    ends_at = kept[offsets] + len(filling) * np.searchsorted(first, offsets)
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(ends_at.astype(np.int32)), pa.py_buffer(new))


def character_spans(text: pa.StringArray, starts: np.ndarray, ends: np.ndarray) -> pa.Array:
    """Stretches of bytes, all texts one after the other, as spans of characters per text; those that touch are joined."""
    data, offsets = utf8(text)
    _, first, last = _stretches(len(data), offsets, starts, ends)
    return _spans(offsets, _begins_character(data), first, last)


def _begins_character(data: np.ndarray) -> np.ndarray:
    return (data & 0xC0) != 0x80


def _stretches(size: int, offsets: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which bytes are in a stretch, and where stretches begin and end, when those that touch within a text are joined."""
    depth = np.zeros(size + 1, np.int32)
    np.add.at(depth, starts, 1)
    np.add.at(depth, ends, -1)
    inside = np.cumsum(depth[:-1]) > 0
    edge = np.zeros(size + 1, bool)  # between which two bytes a text ends
    edge[offsets] = True
    edge[1:-1] |= inside[1:] != inside[:-1]
    return inside, np.flatnonzero(edge[:-1] & inside), np.flatnonzero(edge[1:] & inside) + 1


def _spans(offsets: np.ndarray, counted: np.ndarray, first: np.ndarray, last: np.ndarray) -> pa.Array:
    """Stretches of bytes as spans per text, in the bytes that are counted."""
    before = np.concatenate([[0], np.cumsum(counted)])
    row = np.searchsorted(offsets, first, "right") - 1
    ends = [pa.array((before[at] - before[offsets[row]]).astype(np.int32)) for at in (first, last)]
    bounds = np.searchsorted(row, np.arange(len(offsets))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), pa.StructArray.from_arrays(ends, ["start", "end"])).cast(SPANS)


def _within(spans: pa.Array, text: pa.Array) -> pa.Array:
    """Empty spans, moved to the end of their text where it has become shorter."""
    flat, lengths = spans.flatten(), pc.utf8_length(text).to_numpy()
    places = np.minimum(flat.field("start").to_numpy(), np.repeat(lengths, pc.list_value_length(spans).to_numpy())).astype(np.int32)
    column = pa.array(places)
    return pa.ListArray.from_arrays(spans.offsets, pa.StructArray.from_arrays([column, column], ["start", "end"])).cast(SPANS)
