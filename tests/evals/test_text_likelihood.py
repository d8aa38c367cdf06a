"""Texts, told token by token: longer than the model reads, too."""

from __future__ import annotations

import math

import pytest

from bloomery.evals import TextLikelihood
from tests.evals.small import SMALL, TOKENIZER, table, told

TEXTS = ["a short text", "naïve é", "a text that is longer than the model reads, by quite a lot: " * 3]


def nats(text: str) -> float:
    ids = [TOKENIZER.begin, *TOKENIZER.encode(text)]
    return -sum(told(ids[start : start + 1], ids[start + 1 : start + 96]) for start in range(0, len(ids) - 1, 95))


def test_figures_are_those_of_all_texts_together(tmp_path):
    task = TextLikelihood(name="texts", rows=table(tmp_path / "rows.jsonl", [{"words": text} for text in TEXTS]), text="words")
    (sitting,) = task.sittings(SMALL)
    total, octets = sum(map(nats, TEXTS)), sum(len(text.encode()) for text in TEXTS)
    found = {name: measure.value for name, measure in sitting.measures.items()}
    assert found == pytest.approx({
        "bits_per_byte": total / octets / math.log(2), "byte_perplexity": math.exp(total / octets),
        "word_perplexity": math.exp(total / sum(len(text.split(" ")) for text in TEXTS)),
        "token_perplexity": math.exp(total / sum(len(TOKENIZER.encode(text)) for text in TEXTS)),
    }, rel=1e-5)  # fmt: skip
    assert not sitting.wrong
