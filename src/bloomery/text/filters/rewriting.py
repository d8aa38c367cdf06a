"""Rewriting texts, for filters: only where it is needed, and conversations with their contents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Verdicts, with_texts

Change = Callable[[pa.Array], pa.Array]
"""A function of many texts, each by itself."""


def rewritten(batch: pa.RecordBatch, change: Change, reason: str, spans: Callable[[pa.Array, pa.Array], pa.Array] | None = None) -> Verdicts:
    """The verdicts that change the texts of plain documents, and the contents of conversations, whose text follows from them.

    Args:
        batch: of the schema `DOCUMENTS`.
        change: what is done to each text.
        reason: goes to the rows that it changed.
        spans: where the texts of those rows were changed, as the type `SPANS`, given the texts as they came and as they left.
    """
    talks = pc.is_valid(batch.column("messages"))
    if not pc.any(talks).as_py():
        after = with_texts(batch, change(batch.column("text")))
    else:
        messages = batch.column("messages")
        contents = change(messages.flatten().field("content"))
        ends = np.cumsum(pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False))
        joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]).astype(np.int32)), contents), "\n\n")
        text = where(pc.invert(talks), batch.column("text"), change)
        after = with_texts(batch, pc.if_else(talks, joined, text), contents)
    verdicts = Verdicts.rewrite(batch, after, reason)
    changed = pc.is_valid(verdicts.reasons)
    if spans is None or not pc.any(changed).as_py():
        return verdicts
    stretches = spans(batch.column("text").filter(changed), after.column("text").filter(changed))
    hit = changed.to_numpy(zero_copy_only=False)
    found = stretches.take(pa.array(np.cumsum(hit) - 1, mask=~hit))
    return Verdicts(batch=after, reasons=verdicts.reasons, dropped=verdicts.dropped, spans=found)


def where(mask: pa.Array, text: pa.Array, change: Change) -> pa.Array:
    """The texts, with `change` applied to those that the mask picks; the others are not copied one by one."""
    mask = pc.fill_null(mask, False)
    return pc.replace_with_mask(text, mask, change(text.filter(mask))) if pc.any(mask).as_py() else text


def substitute(pattern: str, replacement: str) -> Change:
    """The change that puts `replacement` in the place of what the pattern (RE2, in linear time) matches, in the texts where it does."""
    return lambda text: where(pc.match_substring_regex(text, pattern), text, lambda t: pc.replace_substring_regex(t, pattern, replacement))
