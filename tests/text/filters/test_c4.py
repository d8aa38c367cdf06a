"""C4's rules: by example, and beside datatrove's."""

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.documents import conversation, to_batch
from bloomery.text.filters import C4Quality
from tests.text.filters import naive
from tests.text.filters.naive import documents
from tests.text.filters.test_gopher import peers

FIVE = "One is here now. Two is here now. Three is here now. Four is here now. Five is here now."
ANY = C4Quality(min_sentences=None)


def rewritten(text, filter=ANY):
    verdicts = filter(documents(text))
    return verdicts.reasons[0].as_py() if verdicts.dropped[0].as_py() else verdicts.batch["text"][0].as_py()


@pytest.mark.parametrize(("line", "stays"), [
    ("This line stays.", True), ('She said "it stays"', True), ("This is a menu", False), ("It goes on...", False), ("Too short.", False),
    ("Please enable JavaScript to read.", False), ("We use cookies on this page.", False), ("Read our Privacy Policy for more.", False),
    ("An overlong " + "x" * 1001 + " word here.", False), ("An overlong " + "x" * 1000 + " word here.", True), ("", False),
])  # fmt: skip
def test_lines(line, stays):
    left = f"{line}\n" if stays else ""
    assert rewritten(f"A first line stays.\n{line}\nA last line stays.") == f"A first line stays.\n{left}A last line stays."


def test_marks_of_citations_go_and_nested_ones_take_their_line_along():
    text = "  He was born there.[12][edit]  \nShe was not.[citation needed]\nThis is [[1]2] odd."
    assert rewritten(text) == "He was born there.\nShe was not."


@pytest.mark.parametrize(("text", "expected"), [
    (FIVE, FIVE), (FIVE + "\nThis is lorem ipsum dolor.", "lorem ipsum above 0"), (FIVE + "\nThis has a { in it.", "curly brackets above 0"),
    (FIVE + "\nmenu {", FIVE), (FIVE.removesuffix(" Five is here now."), "sentences below 5"), ("", "sentences below 5"),
    ("Mr. J. Smith met Dr. Who there. And then. And so on to three.", "sentences below 5"),
])  # fmt: skip
def test_pages(text, expected):
    assert rewritten(text, C4Quality()) == expected


def test_conversations_are_judged_and_keep_their_lines():
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": FIVE}]
    verdicts = C4Quality()(to_batch([conversation("a", "s", talk), conversation("b", "s", talk[:1])]))
    assert verdicts.reasons.to_pylist() == [None, "sentences below 5"]
    assert verdicts.batch["text"][0].as_py() == "hello\n\n" + FIVE


def test_line_ends_are_single_characters():
    with pytest.raises(ConfigError, match="single characters"):
        C4Quality(line_ends=("...",))


@pytest.mark.real
def test_decisions_and_texts_are_datatroves_but_for_blanks_and_abbreviations(real_data):
    pytest.importorskip("datatrove", reason="the peer is not installed")
    pytest.importorskip("spacy", reason="the peer parts sentences by it")
    from datatrove.data import Document

    texts = naive.real_documents(real_data)
    peer, verdicts = peers("c4_filters").C4QualityFilter(), C4Quality()(documents(*texts))
    apart, other = [], []
    for i, text in enumerate(texts):
        theirs = Document(text=text, id="x")
        kept = peer.filter(theirs) is True
        if kept == verdicts.dropped[i].as_py():
            apart.append((i, {m.name: m.values[i].as_py() for m in verdicts.measures}))
        elif kept and verdicts.batch["text"][i].as_py() != theirs.text:
            other.append((i, set(verdicts.batch["text"][i].as_py().split("\n")) ^ set(theirs.text.split("\n"))))
    # which points end a sentence is a matter of taste near the bound
    assert len(apart) <= 0.02 * len(texts), apart
    assert all(3 <= found["sentences"] <= 7 for _, found in apart), apart
    assert len(other) <= 0.02 * len(texts), other
