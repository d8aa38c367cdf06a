"""The page, the card and the pieces they are made of: whatever stands in a document, it is shown and does nothing."""

import json
import re
import time
from html.parser import HTMLParser

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bloomery.stages.record import card, differences, excerpt, html_page, inert, leaks, page_of
from bloomery.stages.record.html import as_data
from bloomery.text.filters import Length
from tests.stages.record.corpora import HOSTILE, DecontaminateNumbers, record_of


class Outline(HTMLParser):
    """Tags, attributes and scripts of a page, as a browser would see them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.scripts, self.open = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("script", "style"):
            self.open.append(tag)
            self.scripts.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.scripts[-1][2] += data
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def html(record):
    return html_page(page_of(record, n=300))


def test_hostile_texts_are_shown_and_do_nothing(html):
    seen = Outline(html)
    assert [tag for tag, _, _ in seen.scripts] == ["style", "script", "script"]
    assert "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "style")]
    assert all(value.startswith("#") for name, value in seen.attributes if name == "href")
    text = "".join(seen.text)
    assert "</script><script>alert(1)</script>" in text
    assert "[bold red]markup[/]" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)


def test_the_policy_allows_this_script_and_style_and_nothing_else(html):
    import base64
    import hashlib

    seen = Outline(html)
    policy = next(value for name, value in seen.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'")
    for tag, attributes, content in seen.scripts:
        if attributes.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_the_page_asks_for_nothing_from_elsewhere(html):
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"</?[a-z]+>", "", html.replace("http://www.w3.org", ""))), "an address"
    assert "@import" not in html
    assert "url(" not in html


def test_the_page_holds_every_filter_and_its_documents(record, html):
    text = "".join(Outline(html).text)
    for flow in record.funnel:
        assert flow.filter in text
    for found in record.dropped(1000, 0)[0]:
        assert found.id in text
    assert "chars below 20" in text
    assert "(6 against 20)" in text
    assert "Duplicates" in text
    assert "Test items met" not in text  # none was


def test_data_within_a_script_element_cannot_end_it(html):
    assert "<" not in as_data({"x": HOSTILE, "y": "<!--<script>"})
    assert json.loads(as_data({"x": HOSTILE})) == {"x": HOSTILE}
    (data,) = [content for _, attributes, content in Outline(html).scripts if attributes.get("type") == "application/json"]
    assert json.loads(data)[0]["reached"] == 202


def test_the_same_record_makes_the_same_page(record, html):
    assert html_page(page_of(record, n=300)) == html


def test_test_items_that_were_met_are_listed_and_marked_in_their_documents(tmp_path):
    record = record_of(tmp_path, filters=(DecontaminateNumbers(),))
    found = leaks(record)
    went = record.funnel[0].documents_in - record.funnel[0].documents_out
    assert sum(leak.dropped for leak in found) == went > 10
    assert all(re.fullmatch(r"holds test item 'number \d*3,'", leak.item) and leak.ids for leak in found)
    page = html_page(page_of(record))
    assert "Test items met" in page
    assert re.search(r"<mark>number \d*3,</mark>", page)
    assert f"- {len(found)} test items were met; {went} documents were dropped" in card(record)


def test_a_corpus_without_filters_has_a_page_and_a_card(tmp_path):
    record = record_of(tmp_path, filters=())
    assert "No filter stood here" in html_page(page_of(record))
    assert "No filter stood here" in card(record)


def test_a_corpus_that_keeps_no_dropped_texts_has_a_page(tmp_path):
    assert "chars from 20 to 200" in html_page(page_of(record_of(tmp_path, keep_dropped=0.0)))


def test_the_cards_head_is_yaml_that_the_hub_knows(record):
    text = card(record)
    _, head, body = text.split("---\n", 2)
    plain = yaml.safe_load(head)
    assert plain["language"] == ["de", "en"]
    assert plain["license"] == "cc0-1.0"
    assert plain["size_categories"] == ["n<1K"]
    assert [f["split"] for f in plain["configs"][0]["data_files"]] == ["train", "validation"]
    assert body.lstrip().startswith("# main")


def test_the_card_says_what_was_removed_and_why(record):
    text = card(record)
    dropped = sum(flow.documents_in - flow.documents_out for flow in record.funnel)
    assert f"dropped: {dropped} documents" in text
    assert "| Length | chars below 20 | 20 |" in text
    assert re.search(r"\| ExactDuplicates \| duplicate \| \d+ \|", text)
    assert "chars from 20 to 200" in text
    assert "Unicode Standard Annex 15" in text
    assert "not compared with any test set" in text
    assert record.artifact.reference in text
    assert f"{record.summary['documents_read']:,} documents read" in text


def test_a_sample_on_the_card_cannot_leave_its_fence(tmp_path):
    text = card(record_of(tmp_path, filters=(Length(),)), n=1000)
    at = text.index("alert(2)")
    fence = re.findall(r"^(`{3,})text$", text[:at], re.MULTILINE)[-1]
    assert len(fence) == 4  # the text has three
    assert text[at:].index(f"\n{fence}\n") > text[at:].index("# heading")
    assert "\x1b" not in text


@given(st.text())
def test_inert_text_has_no_control_characters_and_the_same_length(text):
    quiet = inert(text)
    assert len(quiet) == len(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", quiet)
    assert inert(quiet) == quiet


spans = st.lists(st.tuples(st.integers(-3, 900), st.integers(-3, 900)), max_size=6)


@given(st.text("ab c\n", max_size=900), spans, st.integers(1, 400))
def test_an_excerpt_is_made_of_the_text_and_stays_short(text, spans, chars):
    pieces = excerpt(text, spans, chars)
    shown = [piece for piece in pieces if piece.kind != "gap"]
    assert sum(len(piece.text) for piece in shown) <= max(chars, 1)
    at = 0
    for piece in shown:
        at = text.index(piece.text, at)  # in order
    if len(text) <= chars:
        assert "".join(piece.text for piece in shown) == text


def test_an_excerpt_shows_the_span_wherever_it_is():
    pieces = excerpt("x" * 5000 + "HERE" + "y" * 5000, [(5000, 5004)], 300)
    assert [piece.text for piece in pieces if piece.kind == "mark"] == ["HERE"]
    assert pieces[0].kind == pieces[-1].kind == "gap"


words = st.lists(st.sampled_from(["a", "b", "cc", "\n"]), max_size=40).map(" ".join)


@given(words, words)
def test_differences_put_together_are_the_texts(one, other):
    for pieces, text in zip(differences(one, other), (one, other), strict=True):
        assert "".join(piece.text for piece in pieces) == text


def test_differences_mark_the_words_that_differ():
    one, other = differences("the quick brown fox", "the slow brown fox")
    assert [piece.text.strip() for piece in one if piece.kind == "mark"] == ["quick"]
    assert [piece.text.strip() for piece in other if piece.kind == "mark"] == ["slow"]
    assert not [piece for side in differences("same\ntext", "same  text") for piece in side if piece.kind == "mark"]


@pytest.mark.parametrize("text", ["a " * 500_000, "ab" * 1_000_000, " ".join(f"{i % 7}" for i in range(100_000))])
def test_differences_of_hostile_texts_take_no_time(text):
    start = time.process_time()
    differences(text, "b " + text[::-1])
    assert time.process_time() - start < 5
