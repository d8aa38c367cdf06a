"""Lists of words: toxicity and bias."""

import csv

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.filters import Bias, Toxicity
from tests.text.filters.naive import documents, measures_of
from tests.text.filters.test_gopher import reason


@pytest.mark.parametrize(("text", "expected"), [
    ("What a lovely day in Scunthorpe.", None), ("You SHIT!", "listed share above 0.02"), ("", None), ("shit " + "word " * 60, None),
    ("You piece, of shit " + "word " * 20, "listed share above 0.02"),
])  # fmt: skip
def test_listed_words(text, expected):
    assert reason(Toxicity(), text) == expected


def test_phrases_count_all_their_words_and_are_shown():
    verdicts = Toxicity()(documents("He is a Son of a Bitch, é."))
    assert measures_of(verdicts) == {"listed_share": 4 / 8, "listed_words": 4.0}
    assert verdicts.spans.to_pylist() == [[{"start": 8, "end": 22}, {"start": 17, "end": 22}]]


def test_a_list_of_ones_own(tmp_path):
    words = tmp_path / "list.txt"
    words.write_text("grue\ndark room\n\n悪い\n", encoding="utf-8")
    filter = Toxicity(words=words, max_share=None, max_listed=0)
    verdicts = filter(documents("A Grue!", "a dark\nroom", "gruesome dark", "それは悪いです", "shit"))
    assert verdicts.dropped.to_pylist() == [True, True, False, True, False]


def test_a_list_counts_by_its_contents_and_not_its_place(tmp_path):
    for name, contents in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(contents)
    a, b, c = (Toxicity(words=tmp_path / name).identity() for name in "abc")
    assert a == b != c


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no file"):
        Toxicity(words=tmp_path / "none")


@pytest.mark.parametrize(("text", "expected"), [
    ("Immigrants are lazy.", "contempt above 0.005"), ("Immigrants came. He was lazy.", None),
    ("All women are, as I said, very stupid.", "contempt above 0.005"),
    ("Women wrote of laws that were bad, of towns and of the seas, and long after of lazy cats.", None), ("", None),
])  # fmt: skip
def test_bias_needs_a_group_and_contempt_in_one_sentence(text, expected):
    assert reason(Bias(), text) == expected


def test_contempt_in_the_next_document_does_not_count():
    assert not any(Bias()(documents("They are women", "lazy cats", "immigrants")).dropped.to_pylist())


def test_pronouns_are_on_record():
    assert measures_of(Bias()(documents("She saw him and her.")))["female_pronouns"] == pytest.approx(2 / 3)


@pytest.mark.real
def test_offensive_posts_are_told_from_others(real_data):
    with open(real_data / "E_quality" / "hate_offensive" / "labeled_data.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    dropped = Toxicity()(documents(*(row["tweet"] for row in rows))).dropped.to_pylist()
    marks = {c: [d for d, row in zip(dropped, rows, strict=True) if row["class"] == c] for c in "012"}
    share = {c: sum(found) / len(found) for c, found in marks.items()}
    assert share["1"] >= 0.9  # offensive
    assert share["0"] >= 0.75  # hateful
    assert share["2"] <= 0.05  # neither
