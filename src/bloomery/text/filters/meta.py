"""What is known of documents beside their texts, read and written: the JSON objects of the column `meta`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.core.errors import DataError
from bloomery.text.filters.rewriting import where


def read_meta(batch: pa.RecordBatch, field: str) -> list[Any]:
    """One field of each row's `meta`; None where it is not there. Only rows in which the name occurs are parsed."""
    meta = batch.column("meta")
    rows = np.flatnonzero(pc.fill_null(pc.match_substring(meta, json.dumps(field)), False).to_numpy(zero_copy_only=False))
    found: list[Any] = [None] * len(meta)
    for row in rows.tolist():
        found[row] = _parsed(batch, row).get(field)
    return found


def with_meta(batch: pa.RecordBatch, fields: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with fields written into `meta`, in the place of older ones of the same name.

    Args:
        batch: of the schema `DOCUMENTS`.
        fields: by name, a value per row: strings, integers or finite floats; null leaves what is there.
    """
    meta = batch.column("meta")
    spelt = [_spelt(values) for values in fields.values()]
    names = [json.dumps(name) for name in fields]
    known = [pc.fill_null(pc.match_substring(meta, name), False) for name in names]
    slow = np.logical_or.reduce([np.zeros(len(meta), bool), *(mask.to_numpy(zero_copy_only=False) for mask in known)])

    pairs = [pc.fill_null(pc.binary_join_element_wise(f", {name}: ", value, ""), "") for name, value in zip(names, spelt, strict=True)]
    added = pc.binary_join_element_wise(*pairs, "")
    body = pc.utf8_rtrim_whitespace(pc.fill_null(meta, "{}"))
    head = pc.utf8_rtrim_whitespace(pc.utf8_slice_codeunits(body, 0, -1))  # a JSON object without its last brace
    first = pc.equal(pc.utf8_trim_whitespace(head), "{")
    added = pc.if_else(first, pc.utf8_slice_codeunits(added, 2), added)  # the first member has no comma before it
    merged = pc.if_else(pc.greater(pc.binary_length(added), 0), pc.binary_join_element_wise(head, added, "}", ""), meta)
    if slow.any():
        rows = np.flatnonzero(slow).tolist()
        values = {name: array.to_pylist() for name, array in fields.items()}
        merged = pc.replace_with_mask(merged, pa.array(slow), pa.array([_merged(batch, row, values) for row in rows], pa.string()))
    return batch.set_column(batch.schema.get_field_index("meta"), batch.schema.field("meta"), merged)


def _merged(batch: pa.RecordBatch, row: int, values: Mapping[str, list[Any]]) -> str:
    new = {name: column[row] for name, column in values.items() if column[row] is not None}
    old = _parsed(batch, row)
    return batch.column("meta")[row].as_py() if old | new == old else json.dumps(old | new, ensure_ascii=False)


def _spelt(values: pa.Array) -> pa.Array:
    """The values as JSON."""
    if not pa.types.is_string(values.type):
        return values.cast(pa.string())
    awkward = pc.match_substring_regex(values, r'[\\"[:cntrl:]]')
    plain = pc.binary_join_element_wise('"', values, '"', "", null_handling="emit_null")
    quoted = [json.dumps(value, ensure_ascii=False) for value in values.filter(pc.fill_null(awkward, False)).to_pylist()]
    return where(awkward, plain, lambda _: pa.array(quoted, pa.string()))


def _parsed(batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    try:
        parsed = json.loads(batch.column("meta")[row].as_py())
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise DataError(f"meta of {batch.column('id')[row].as_py()!r} is not a JSON object; correct the reader that made it")
    return parsed
