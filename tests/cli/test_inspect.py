"""`bloomery inspect`: what it prints of a corpus, that no text can command the terminal, and how mistakes are told."""

import re
from pathlib import Path

import pytest
from tests.cli.test_main import bloomery
from tests.stages.record.corpora import DecontaminateNumbers, record_of


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    record_of(folder)
    return folder


def test_it_shows_the_funnel_and_some_dropped_documents(here):
    text = bloomery(here, "inspect", "Prepare/main", "--n", "4")
    assert re.search(r"Length +█+ +202 +\d+", text)
    assert "4 of 97 dropped documents" in text
    assert text.count("╭─") == 4
    assert bloomery(here, "inspect", "Prepare/main", "--n", "4") == text
    assert bloomery(here, "inspect", "Prepare/main", "--n", "4", "--seed", "1") != text


def test_it_shows_what_was_asked_for_alone(here):
    text = bloomery(here, "inspect", "main", "--filter", "Length", "--reason", "below", "--n", "2")
    assert "2 of 20 dropped documents" in text
    assert text.count("Length: chars below 20 (") == 2
    assert "bytes less" not in text


def test_words_are_searched_in_what_was_dropped_and_what_was_kept_and_marked(here):
    text = bloomery(here, "inspect", "main", "--search", "NUMBER 11,")
    assert "no dropped document fits" in text
    assert "1 of 1 documents kept" in text or "1 of 1 documents held out" in text
    assert "«number 11,»" in text


@pytest.mark.parametrize("arguments", [("--n", "1000"), ("--search", "alert"), ("--pairs", "--n", "1000"), ("--id", "rows.jsonl#L201")])
def test_no_text_commands_the_terminal(here, arguments):
    text = bloomery(here, "inspect", "main", *arguments)
    assert "[bold red]markup[/]" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_another_threshold_is_tried(here):
    text = bloomery(here, "inspect", "main", "--what-if", "Length.chars>=60")
    assert "at least 20 and at most 200 → at least 60 and at most 200" in text
    assert re.search(r"\d+ more would go; \d+ of them are in the corpus now", text)
    assert "nothing would change" in bloomery(here, "inspect", "main", "--what-if", "Length.chars>=20")


def test_a_document_tells_its_story(here):
    text = bloomery(here, "inspect", "main", "--id", "rows.jsonl#L1")
    assert "drop        Length: chars below 20 (6 against 20)" in text
    assert "not reached ExactDuplicates" in text
    assert "dropped, in dropped-00000.parquet" in text


def test_pairs_stand_side_by_side(here):
    text = bloomery(here, "inspect", "main", "--pairs", "--n", "1")
    assert re.search(r"╭─ dropped rows\.jsonl#L\d+ ─+╮ +╭─ (kept|held out) rows\.jsonl#L\d+", text)


def test_test_items_that_were_met_are_told_with_their_documents(here, tmp_path):
    assert "no test item was met" in bloomery(here, "inspect", "main", "--leaks")
    record_of(tmp_path, filters=(DecontaminateNumbers(),))
    text = bloomery(tmp_path, "inspect", "main", "--leaks")
    assert re.search(r"1 dropped +0 rewritten  holds test item 'number 13,'\n +rows.jsonl#L14", text)
    assert "«number " in bloomery(tmp_path, "inspect", "main")


def test_page_and_card_are_written(here):
    text = bloomery(here, "inspect", "main", "--html", "pages/data.html", "--card", "pages/README.md")
    assert "pages/data.html" in text
    assert "bytes less" not in text
    assert (here / "pages/data.html").read_text().startswith("<!doctype html>")
    assert (here / "pages/README.md").read_text().startswith("---\n")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("none",), "holds no artifact 'none'", 4),
        (("main", "--filter", "Lenght"), "did you mean 'Length'?", 2),
        (("main", "--what-if", "Length.chars"), "write MEASURE>=NUMBER", 2),
        (("main", "--id", "emma"), "ids look like", 3),
        (("main", "--n", "0"), "--n", 2),
    ],
)
def test_mistakes_are_told_in_one_sentence(here, arguments, words, code):
    assert words in bloomery(here, "inspect", *arguments, code=code)


def test_help_has_examples_and_needs_nothing_heavy(here):
    text = bloomery(here, "inspect", "--help")
    assert "bloomery inspect Prepare/web --what-if 'Gopher.words>=30'" in text
