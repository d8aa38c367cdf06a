"""Whether tokenizer, rows and model fit: ids that there are, ids that are used, texts that it has no words for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bloomery.data.tasks import room
from bloomery.train.doctor.patient import Finding, Patient, Verdict

IDLE = 0.1
"""Share of the model's ids that no token has, from which memory and time are wasted on them; vocabularies are often rounded up."""
UNKNOWN, LOST = 0.001, 0.05
"""Shares of tokens that are unknown: from which it is worth a warning, and from which it is a failure."""
BYTEWISE = 0.1
"""Share of tokens that are single bytes of characters that the vocabulary does not have."""


def ids(patient: Patient) -> Iterator[Finding]:
    """Whether all ids of the rows are the model's, and how many of the model's nobody has."""
    batch, vocab_size = patient.source.batch(0, patient.read_rows), patient.config.vocab_size
    tensors = [batch.tokens, batch.targets] + ([] if batch.passage is None else [batch.passage.tokens])
    highest, lowest = max(int(x.max()) for x in tensors), min(int(x.min()) for x in tensors)
    more = room(patient.task.roles(patient.source.time), patient.tokenizer.roles)
    taken, outside = patient.tokenizer.vocab_size + more, not 0 <= lowest <= highest < vocab_size
    idle = max(0, vocab_size - taken)
    verdict: Verdict = "pass"
    remedy = ""
    if outside or taken > vocab_size:
        verdict, remedy = "fail", f"Give the model vocab_size={max(taken, highest + 1)}, or take the tokenizer that it was trained with"
    elif idle > IDLE * vocab_size:
        verdict, remedy = "warn", f"vocab_size={taken} would do; the table and the head are larger than they need be"
    yield Finding(
        check="ids", verdict=verdict,
        figure=f"{lowest} to {highest} in the rows; {taken} in the tokenizer and the task, {idle} of the model's {vocab_size} unused",
        rule=f"all below {vocab_size}, at most {IDLE:.0%} unused", remedy=remedy,
    )  # fmt: skip


def unknown_tokens(patient: Patient) -> Iterator[Finding]:
    """How much of the rows the vocabulary has no tokens for: unknown ones, and characters that are spelled byte by byte."""
    rows = patient.raw.rows(0, patient.read_rows)
    tokens, tokenizer = rows.tokens[rows.segments > 0], patient.tokenizer
    tokens = tokens[tokens < tokenizer.vocab_size]
    lone = np.array([len(spelled) == 1 and spelled[0] >= 0x80 for spelled in tokenizer.token_bytes])
    unknown = float((tokens == tokenizer.unknown).mean()) if tokenizer.unknown is not None and len(tokens) else 0.0
    bytewise = float(lone[tokens].mean()) if len(tokens) else 0.0
    used = len(np.unique(tokens))
    verdict = "fail" if unknown > LOST else "warn" if unknown > UNKNOWN or bytewise > BYTEWISE else "pass"
    yield Finding(
        check="tokens", verdict=verdict,
        figure=f"{unknown:.1%} unknown, {bytewise:.1%} bytes of a character; {used} of {tokenizer.vocab_size} ids in {len(tokens)} tokens",
        rule=f"at most {UNKNOWN:.1%} unknown, {BYTEWISE:.0%} bytes",
        remedy="" if verdict == "pass" else "Train the tokenizer on this text, or give it byte_fallback and more ids",
    )  # fmt: skip
