"""Fertility counts what a naive loop counts."""

import re

import pyarrow as pa
import pytest

from bloomery.text.tokenizer import Bytes, Tokenizer, Words
from bloomery.text.tokenizer.fertility import compare, languages

TEXTS = ["The cat slept.", "Die Katze schlief, nicht wahr?", "Añil 鉄 3.5", "", "The dog!"]
SOURCES = ["en.txt", "de.txt", "x", "x", "en.txt"]
META = [None, '{"language": "de"}', '{"language": null}', "{}", '{"language": "en"}']


def batch(rows=slice(None)):
    return pa.record_batch({"text": pa.array(TEXTS[rows]), "source": SOURCES[rows], "meta": pa.array(META[rows], pa.string())})


TOKENIZERS = {
    "bytes": Tokenizer.train([], vocab_size=262, model=Bytes()), "words": Tokenizer.train(TEXTS[:2], vocab_size=50, model=Words()),
}  # fmt: skip


def test_a_documents_language_is_in_its_meta_or_else_its_source():
    assert languages(batch()) == ["en.txt", "de", "x", "x", "en"]


def test_ratios_are_those_of_a_naive_count():
    found = compare(TOKENIZERS, [batch()]).plain()
    joined = "".join(TEXTS)
    expected = sum(len(text.encode()) for text in TEXTS) / sum(len(re.findall(r"\w+", text)) for text in TEXTS)
    assert found["overall"]["bytes"]["tokens_per_word"] == pytest.approx(expected, abs=1e-4)
    assert found["overall"]["bytes"]["bytes_per_token"] == 1
    assert found["overall"]["bytes"]["characters_per_token"] == pytest.approx(len(joined) / len(joined.encode()), abs=1e-4)
    assert found["languages"]["x"]["size"] == {"documents": 2, "words": 4, "characters": 10, "bytes": 13}
    assert found["languages"]["x"]["tokenizers"]["words"]["unknown"] == 100 * 4 / 5  # Añil 鉄 3 5; the dot is known
    assert found["languages"]["en.txt"]["tokenizers"]["words"]["unknown"] == 0


def test_batches_add_up():
    assert compare(TOKENIZERS, [batch(slice(0, 2)), batch(slice(2, 5))]).plain() == compare(TOKENIZERS, [batch()]).plain()


def test_the_table_has_a_line_per_language_and_a_column_per_tokenizer():
    table = str(compare(TOKENIZERS, [batch()])).split("\n\n")
    assert len(table) == 4
    assert [line.split()[0] for line in table[0].splitlines()[2:]] == ["de", "en", "en.txt", "x", "overall"]
    assert all(len(line.split()) == 3 for line in table[0].splitlines()[2:])
    assert len(str(compare({"bytes": TOKENIZERS["bytes"]}, [batch()])).split("\n\n")) == 3  # nothing is unknown
