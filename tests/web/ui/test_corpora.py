"""What is told of corpora: the figures of the record, what was dropped and why, other thresholds; hostile texts as they are."""

from __future__ import annotations

from urllib.parse import urlencode

from bloomery.stages.record import Record, what_if
from tests.web.ui.filled import SAME
from tests.web.ui.places import ask


def told(address, path, **asked):
    status, said, _ = ask(address, f"/api/{path}?{urlencode(asked)}")
    assert status == 200, said
    return said


def test_a_corpus_is_its_funnel_and_how_its_measures_are_spread(address, corpora, looked_at):
    said = told(address, "corpus", ref=corpora["shelf"])
    record = Record(looked_at.open(corpora["shelf"]))
    assert [(one["filter"], one["came"] - one["left"]) for one in said["funnel"]] == [
        (flow.filter, flow.documents_in - flow.documents_out) for flow in record.funnel
    ]  # fmt: skip
    assert [one["dropped"] for one in said["funnel"]] == [0, 2, 1, 1]
    (chars,) = said["measures"]
    assert (chars["measure"], chars["bounds"], sum(chars["bars"])) == ("Length.chars", [40, 400], 38)
    assert said["repeats"] is True
    assert [(leak["dropped"], leak["ids"]) for leak in said["leaks"]] == [(1, ["shelf#L37"])]


def test_shares_of_a_mixture_add_up(address, corpora):
    (training,) = told(address, "corpus", ref=corpora["shelf"])["mixtures"]
    assert training == {"reference": "Train/talker-3", "phases": [{"from": 0, "shares": {"talks": 0.25, "shelf": 0.75}}]}


def test_what_was_dropped_is_told_with_rule_value_and_threshold(address, corpora):
    said = told(address, "documents", ref=corpora["shelf"], filter="Length")
    assert {one["id"] for one in said["documents"]} == {"shelf#L30", "shelf#L31"}
    short = next(one for one in said["documents"] if one["id"] == "shelf#L30")
    assert (short["why"]["reason"], short["why"]["value"], short["why"]["threshold"]) == ("chars below 40", 4, 40)
    long = next(one for one in said["documents"] if one["id"] == "shelf#L31")
    assert sum(len(text) for text, _ in long["pieces"]) < 1000  # of a line of a million signs
    (leak,) = told(address, "documents", ref=corpora["shelf"], filter="DecontaminateSums")["documents"]
    assert [text for text, kind in leak["pieces"] if kind == "mark"] == ["2 + 3"]


def test_words_are_found_and_marked_among_what_stayed(address, corpora):
    said = told(address, "documents", ref=corpora["shelf"], kind="documents", search="DOCUMENT 7")
    assert said["total"] in (0, 1)  # it may be held out
    said = told(address, "documents", ref=corpora["shelf"], kind="documents", search="wHiLe")
    assert said["total"] > 20
    assert all(["while", "mark"] in one["pieces"] for one in said["documents"])


def test_texts_that_mean_harm_are_told_as_text_without_signs_that_do_something(address, corpora):
    for kind in ("documents", "held_out", "dropped"):
        said = told(address, "documents", ref=corpora["shelf"], kind=kind, search="script")
        texts = "".join(text for one in said["documents"] for text, _ in one["pieces"])
        assert "\x1b" not in texts
        assert "\u202e" not in texts


def test_repetitions_stand_beside_what_they_repeat(address, corpora):
    (pair,) = told(address, "pairs", ref=corpora["shelf"])["pairs"]
    assert (pair["id"], pair["of"]) == ("shelf#L35", "shelf#L34")
    assert "".join(text for text, _ in pair["sides"][0]) == SAME


def test_another_threshold_is_worked_out_from_what_was_measured(address, corpora, looked_at):
    said = told(address, "margin", ref=corpora["shelf"], measure="Length.chars", low="56", high="400")
    record = Record(looked_at.open(corpora["shelf"]))
    found = what_if(record, "Length.chars", (56.0, 400.0))
    assert (said["lost"], said["released"], said["lost_kept"]) == (found.lost, found.released, found.lost_kept)
    assert found.lost > 10
    histogram = told(address, "corpus", ref=corpora["shelf"])["measures"][0]
    place = next(i for i, edge in enumerate(histogram["edges"]) if edge >= 56)
    top = histogram["edges"].index(400)
    now, then = (histogram["upto"][top] - below for below in (histogram["below"][histogram["edges"].index(40)], histogram["below"][place]))
    assert now - then == found.lost  # what the slider of the page says without asking


def test_a_document_has_a_story(address, corpora):
    said = told(address, "story", ref=corpora["shelf"], id="shelf#L35")
    assert [(one["filter"], one["what"]) for one in said["steps"]] == [
        ("Normalise", "kept"), ("Length", "kept"), ("ExactDuplicates", "drop"), ("DecontaminateSums", "not reached"),
    ]  # fmt: skip
