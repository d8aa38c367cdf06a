"""Dirt: every label is true, and the detail says where and of what."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.tales import NEAR_JACCARD, Dirt, Tales, jaccard

TALES = Tales(seed=2)
RATES = {"exact_duplicate", "near_duplicate", "boilerplate", "mojibake", "foreign", "personal_data", "leaked_question"}
HEAVY = Dirt(**dict.fromkeys(RATES, 0.1))
CORPUS = list(HEAVY.plant(TALES, count=400))
BY_ID = {document.id: document for document in CORPUS}


def labelled(label):
    found = [document for document in CORPUS if document.label == label]
    assert len(found) > 15
    return found


def index(document):
    return int(document.id.rsplit("/", 1)[1])


def clean_text(document):
    return TALES.tale(index(document)).text


def test_the_same_dirt_at_any_page():
    assert [HEAVY.document(TALES, at) for at in (399, 17, 3)] == [CORPUS[399], CORPUS[17], CORPUS[3]]
    assert list(HEAVY.plant(TALES, count=5, start=30)) == CORPUS[30:35]
    assert [document.label for document in HEAVY.replace(seed=1).plant(TALES, count=400)] != [document.label for document in CORPUS]
    assert len(BY_ID) == len(CORPUS)


def test_rates_are_shares_of_all_documents():
    counts = Counter(Dirt(exact_duplicate=0.2, foreign=0.05).label(at) for at in range(4000))
    assert counts["exact_duplicate"] / 4000 == pytest.approx(0.2, abs=0.025)
    assert counts["foreign"] / 4000 == pytest.approx(0.05, abs=0.015)
    assert set(counts) == RATES | {"clean"}


def test_rates_above_one_together_are_refused():
    with pytest.raises(ConfigError, match="sum to"):
        Dirt(exact_duplicate=0.8, near_duplicate=0.8)


def test_nothing_but_duplicates_has_one_original():
    every = list(Dirt(exact_duplicate=1, **dict.fromkeys(RATES - {"exact_duplicate"}, 0)).plant(TALES, count=20))
    assert {document.text for document in every} == {TALES.tale(0).text}
    assert [document.label for document in every] == ["clean"] + ["exact_duplicate"] * 19


def test_clean_documents_are_the_tales_and_unlike_each_other():
    clean = labelled("clean")
    assert all(document.text == clean_text(document) for document in clean)
    assert max(jaccard(a.text, b.text) for a, b in pairwise(clean)) < NEAR_JACCARD[0] / 2


def test_an_exact_duplicate_is_byte_equal_to_an_earlier_clean_document():
    for document in labelled("exact_duplicate"):
        original = BY_ID[document.detail.of]
        assert original.label == "clean"
        assert index(original) < index(document)
        assert document.text.encode() == original.text.encode()


def test_a_near_duplicate_is_close_to_its_original_and_not_equal():
    low, high = NEAR_JACCARD
    for document in labelled("near_duplicate"):
        original = BY_ID[document.detail.of]
        assert original.label == "clean"
        assert low <= jaccard(document.text, original.text) <= high
        assert document.text != original.text
        assert document.detail.note == f"jaccard={jaccard(document.text, original.text):.3f}"


def test_boilerplate_lies_where_its_spans_say():
    seen = Counter()
    for document in labelled("boilerplate"):
        header, footer = document.detail.spans
        assert document.text[header.end : footer.start].strip() == clean_text(document)
        seen.update([document.text[: header.end], document.text[footer.start :]])
    assert min(seen.values()) >= 2  # what repeats across documents is what a filter can find


def test_mojibake_decodes_back():
    for document in labelled("mojibake"):
        mended = document.text.encode("cp1252").decode("utf-8")
        assert "â€" in document.text
        assert mended.replace("‘", '"').replace("’", '"') == clean_text(document) != document.text


def test_foreign_text_has_letters_or_words_of_its_language():
    words = {
        "de": {"und", "der", "dem", "nach", "wer", "am"}, "fr": {"et", "était", "la", "le", "du", "au"},
        "es": {"el", "la", "y", "quién", "los"},
        "it": {"il", "la", "al", "nel", "i", "chi"}, "nl": {"de", "het", "was", "en", "om"},
    }  # fmt: skip
    for document in labelled("foreign"):
        found = set(re.findall(r"\w+", document.text.lower()))
        assert len(found & words[document.detail.note]) >= 2, document
        assert not found & {"the", "asked"}
    assert {document.detail.note for document in labelled("foreign")} == set(words)


def test_personal_data_is_where_its_span_says():
    patterns = {
        "email": r"[a-z.]+\d+@example\.org", "phone": r"\+44 7700 900\d{3}",
        "ip_address": r"192\.0\.2\.\d{1,3}", "street_address": r"\d+ [A-Z]\w+ [A-Z]\w+",
    }  # fmt: skip
    for document in labelled("personal_data"):
        (span,) = document.detail.spans
        assert re.fullmatch(patterns[span.kind], document.text[span.start : span.end])
        before, after = document.text[: span.start], document.text[span.end :]
        clean = clean_text(document)
        # Around the sentence that was put in, the tale is whole.
        assert clean.startswith(before.rsplit(". ", 1)[0])
        assert clean.endswith(after.removeprefix(". "))
    assert {document.detail.spans[0].kind for document in labelled("personal_data")} == set(patterns)


def test_a_leak_is_a_held_out_question_with_its_answer():
    for document in labelled("leaked_question"):
        tale_id, number = document.detail.of.split("#")
        leaked = Tales(seed=2, split="held_out").tale(int(tale_id.rsplit("/", 1)[1]))
        assert leaked.id == tale_id
        question = leaked.questions[int(number)]
        (span,) = document.detail.spans
        leak = document.text[span.start : span.end]
        assert leak == f"{leaked.text}\nQuestion: {question.text}\nAnswer: {question.answer}"
        assert document.text[: span.start].strip() == clean_text(document)
