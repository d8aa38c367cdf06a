"""Characters that mean nothing, drawn lines, and the lines that web pages put around their texts."""

import re

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import Boilerplate, Symbols
from bloomery.text.filters.boilerplate import LINE, LOOSE
from bloomery.text.tales.dirt import FOOTERS, HEADERS, Dirt
from bloomery.text.tales.tales import Tales


def judged(filter, *texts):
    return filter(to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)]))


@pytest.mark.parametrize(("before", "after"), [
    ("co\u00adop\u200b\u2060!", "coop!"), ("a\ue000b\U000f0000c", "abc"), ("\u202eabc\u202c", "abc"), ("a\ufffdb", "ab"),
    ("a\n* * * * * * * * * * *\nb", "a\nb"), ("==========\nTitle\n----------", "Title\n"), ("a\n***\nb", "a\n***\nb"),
    ("| --------- | ------ |", "| --------- | ------ |"), ("=========x", "=========x"),
    ("می\u200cخواهم", "می\u200cخواهم"), ("👩\u200d🌾", "👩\u200d🌾"),
])  # fmt: skip
def test_symbols(before, after):
    assert judged(Symbols(), before).batch["text"].to_pylist() == [after]


def test_what_symbols_removes_can_be_chosen():
    filter = Symbols(remove=("soft_hyphens",), symbol_line_chars=None)
    assert judged(filter, "a\u00adb\u200b\n==========").batch["text"].to_pylist() == ["ab\u200b\n=========="]
    with pytest.raises(ConfigError, match="so nothing would change"):
        Symbols(remove=(), symbol_line_chars=None)


@pytest.mark.parametrize("line", [
    *HEADERS, *FOOTERS, "Home | About us | Contact", "Startseite › Nachrichten › Impressum", "© 2019 The Example Company Ltd.",
    "Copyright (c) 2020 by Someone", "Read more: What the fox said", "12 comments", "You may also like", "Follow us on Twitter and Facebook!",
    "Tous droits réservés.", "Back to top", "Print this page",
])  # fmt: skip
def test_lines_of_boilerplate_go(line):
    verdicts = judged(Boilerplate(), f"{line}\n\nOnce there was a fox.\nIt ran.\n\n{line}")
    assert verdicts.batch["text"].to_pylist() == ["Once there was a fox.\nIt ran."]
    assert verdicts.reasons.to_pylist() == ["boilerplate"]


@pytest.mark.parametrize("line", [
    "Share the bread among you.", "She was home | about to leave.", "Home is where the heart is.", "He read more than anyone.",
    "All rights are reserved for those who wait, she said, and laughed.", "| a | b | c |", "Once the cookies were baked, they ate them.",
    "Register the change, then click here or there.", "Comments are useful in code.", "They related the tale.", "a / b / c",
    "I have 3 likes and a dislike.", "Sign in the box below the letters.", "You are here, she said.",
])  # fmt: skip
def test_sentences_that_look_like_it_stay(line):
    assert judged(Boilerplate(), f"First.\n{line}\nLast.").reasons.to_pylist() == [None]


def test_pages_of_nothing_else_are_dropped_and_conversations_stay():
    talk = [{"role": "user", "content": "Read more"}, {"role": "assistant", "content": "Share this story"}]
    verdicts = Boilerplate()(to_batch([Document("a", "Read more\n\nBack to top", "s"), conversation("b", "s", talk)]))
    assert verdicts.reasons.to_pylist() == ["nothing but boilerplate", None]
    assert verdicts.dropped.to_pylist() == [True, False]


def test_planted_boilerplate_is_found_whole_and_clean_tales_stay():
    planted = list(Dirt(boilerplate=0.2).plant(Tales(), 300))
    texts = judged(Boilerplate(), *(d.text for d in planted)).batch["text"].to_pylist()
    for document, text in zip(planted, texts, strict=True):
        header, footer = document.detail.spans if document.label == "boilerplate" else (None, None)
        assert text == (document.text[header.end : footer.start].strip() if header and footer else document.text)


def test_the_quick_pattern_misses_nothing():
    lines = [*HEADERS, *FOOTERS, "Home > Blog > 2019", "9 replies"]
    for line in lines:
        assert re.search(LINE.replace("\\z", "\\Z"), line)
        assert re.search(LOOSE.replace("\\z", "\\Z"), line)


def test_hostile_lines_take_no_time():
    verdicts = judged(Boilerplate(), "|" * 1_000_000, "home |" * 200_000, "share this " * 100_000)
    assert verdicts.reasons.null_count == 3
