"""FineWeb's rules: by example, against slow versions of themselves, and beside datatrove's."""

import pytest
from hypothesis import given, settings

from bloomery.text.filters import FineWebQuality
from tests.text.filters import naive
from tests.text.filters.naive import documents, measures_of
from tests.text.filters.test_gopher import disagreements, peers, reason

LONG = "This line is long enough to count as a sentence"


@pytest.mark.parametrize(("text", "expected"), [
    (f"{LONG}.", None), ("", "lines below 1"), (" \n\n", "lines below 1"), (LONG, "ended lines below 0.12"), (f"{LONG}。", None),
    ("Short.\nShorter.\n" * 1, "short lines above 0.67"), (f"{LONG}.\nOther: {LONG}.\n{LONG}.", "repeated line chars above 0.01"),
    (f"{LONG}.\n\n\n\n\n\n", "breaks per word above 0.3"),
])  # fmt: skip
def test_rules(text, expected):
    assert reason(FineWebQuality(), text) == expected


@settings(deadline=None)
@given(naive.texts.filter(lambda text: not set(text) & set("\x1c\x1d\x1e\x1f\x00")))
def test_counts_are_those_of_a_loop(text):
    found = measures_of(FineWebQuality()(documents("other\nlines.", text)), 1)
    lines = [line for line in text.split("\n") if line.strip()]
    if lines:
        again = sum(map(len, naive.repeated(lines)))
        assert found["short_lines"] == pytest.approx(sum(len(line) <= 30 for line in lines) / len(lines))
        assert found["ended_lines"] == pytest.approx(sum(line.endswith((".", "?", "!")) for line in lines) / len(lines))
        assert found["repeated_line_chars"] == pytest.approx(again / len(text.replace("\n", "")))
        if tokens := naive.words(text):
            assert found["breaks_per_word"] == pytest.approx(text.count("\n") / len(tokens))


@pytest.mark.real
def test_decisions_are_datatroves_given_the_same_words(real_data, monkeypatch):
    pytest.importorskip("datatrove", reason="the peer is not installed")
    module = peers("fineweb_quality_filter")
    monkeypatch.setattr(module, "split_into_words", lambda text, language: naive.words(text))
    assert disagreements(FineWebQuality(), module.FineWebQualityFilter(), naive.real_documents(real_data)) == []
