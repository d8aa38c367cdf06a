"""Templates and machine translation, by example; and that human text passes."""

import pytest

from bloomery.text.filters import Suspicion
from bloomery.text.tales import Tales
from tests.text.filters import naive
from tests.text.filters.naive import documents, measures_of
from tests.text.filters.test_gopher import reason

TOWNS = ("Leeds", "York", "Bath", "Hull", "Derby", "Milton Keynes")
LETTER = "Dear [your name], welcome to {{company}} in ${city}. "
CLUMSY = "He went to of the house the and saw a the dog of with the man. The is nice of is a day into of the the work is are made. "


@pytest.mark.parametrize(("text", "expected"), [
    (LETTER, "placeholders above 2"),
    ("".join(f"Find the best plumbers in {town} for your home today. " for town in TOWNS), "same frame above 0.3"),
    ("This page was machine translated from German.", "notices above 0"), ("Dieser Text wurde automatisch übersetzt.", "notices above 0"),
    (CLUMSY, "clashes above 0.02"), ("He studied machine translation, and what is lost in it.", None), ("", None),
])  # fmt: skip
def test_rules(text, expected):
    assert reason(Suspicion(), text) == expected


def test_frames_count_from_five_long_sentences_on():
    four = "".join(f"Find the best plumbers in {town} for your home today. " for town in TOWNS[:4])
    assert measures_of(Suspicion()(documents(four, four + "Yes, do. " * 9)))["same_frame"] is None
    fifth = four + "And here is one that has another frame altogether."
    assert measures_of(Suspicion()(documents(fifth)))["same_frame"] == pytest.approx(3 / 5)


def test_spans_show_the_clashes():
    (spans,) = Suspicion()(documents("It was one of into the other.")).spans.to_pylist()
    assert spans == [{"start": 11, "end": 18}]


def test_tales_pass():
    texts = [Tales().tale(i).text for i in range(200)]
    assert not any(Suspicion(max_same_frame=None)(documents(*texts)).dropped.to_pylist())


@pytest.mark.real
def test_human_text_passes(real_data):
    verdicts = Suspicion()(documents(*naive.real_documents(real_data)))
    assert sum(verdicts.dropped.to_pylist()) <= 0.01 * verdicts.batch.num_rows
