"""Pages to main text: what is taken, what is said of it, and hostile pages in bounded time."""

import gzip
import json

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import ExtractHtml
from bloomery.text.filters.extract import outline

pytest.importorskip("trafilatura")

BODY = "".join(f"<p>Paragraph {i} tells of a fox, which ran over the hill, and of the rain that fell on it all day long.</p>" for i in range(8))
PAGE = f"""<!doctype html><html><head><title> The
fox </title><meta name="author" content="A. Writer"><script>var x = "<p>no</p>";</script></head><body>
<nav><a href="/">Home</a> <a href="/about">About</a></nav><article><h1>The fox</h1>{BODY}</article>
<footer><a href="/privacy">Privacy policy</a> All rights reserved</footer></body></html>"""


def judged(*pages, content_type="text/html", **fields):
    meta = json.dumps({"content_type": content_type})
    return ExtractHtml(**fields)(to_batch([Document(f"d{i}", page, "s", None, meta) for i, page in enumerate(pages)]))


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "application/xhtml+xml"])
def test_a_page_becomes_its_main_text(content_type):
    verdicts = judged(PAGE, content_type=content_type)
    (text,) = verdicts.batch["text"].to_pylist()
    assert "Paragraph 0" in text
    assert "Paragraph 7" in text
    assert not any(word in text for word in ("Home", "Privacy", "<p>", "var x"))
    assert json.loads(verdicts.batch["meta"][0].as_py()) == {"content_type": "text/plain", "title": "The fox", "author": "A. Writer"}
    assert verdicts.reasons.to_pylist() == ["main text of a page"]


def test_other_documents_pass_by():
    batch = to_batch([Document("a", PAGE, "s"), Document("b", PAGE, "s", None, '{"content_type": "text/plain", "url": "x.html"}')])
    assert ExtractHtml()(batch).batch.equals(batch)


@pytest.mark.parametrize("page", ["", "<html><body></body></html>", "<!--" * 1000, "<script>" + "x" * 1000, "<" * 1000, '<div a="'])
def test_pages_without_text_are_dropped(page):
    verdicts = judged(page)
    assert verdicts.dropped.to_pylist() == [True]
    assert verdicts.reasons.to_pylist() == ["no main text"]
    assert verdicts.batch["text"].to_pylist() == [page]


def test_pages_that_are_too_large_or_too_deep_go_unread():
    verdicts = judged(PAGE, "<p>" + "x" * 5000, "<div>" * 200 + BODY, max_bytes=4000, max_depth=100)
    assert verdicts.reasons.to_pylist() == ["main text of a page", "html bytes above 4000", "html depth above 100"]
    assert verdicts.table("f").to_pylist()[2]["value"] == 200


def test_what_one_extractor_loses_the_other_rescues(monkeypatch):
    monkeypatch.setattr("bloomery.text.filters.extract._trafilatura", lambda html: "Paragraph 0 tells of a fox.")
    assert judged(PAGE, rescue=1e6).batch["text"].to_pylist() == ["Paragraph 0 tells of a fox."]
    assert "Paragraph 7" in judged(PAGE, rescue=2.0).batch["text"][0].as_py()


def test_pages_of_many_tags_are_read_by_the_fast_extractor():
    (text,) = judged("<p>word</p>" * 20_000, max_tags=1000).batch["text"].to_pylist()
    assert text.count("word") == 20_000


@pytest.mark.parametrize(("html", "tags", "depth"), [
    ("", 0, 0), ("<p>a<p>b", 2, 0), ("<div><b>x</b></div>", 2, 2), ("<br>" * 9, 9, 0), ("<div></x>" * 5, 5, 5), ("</div>" * 5 + "<div>", 1, 1),
    ("<DIV></div><div>", 2, 1), ("<ul><li>a<ul><li>b</ul></ul>", 4, 2), ("< div><3", 0, 0),
])  # fmt: skip
def test_the_outline_of_a_page(html, tags, depth):
    assert outline(html.encode()) == (tags, depth)


def test_the_same_page_gives_the_same_text_whatever_came_before():
    alone = judged(PAGE).batch["text"][0]
    assert judged(PAGE, PAGE, PAGE).batch["text"].to_pylist() == [alone.as_py()] * 3


def test_fields_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"ExtractHtml\.rescue=0\.5 is below 1"):
        ExtractHtml(rescue=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("page", [
    "<div>" * 300_000 + "x", "<b><i>" * 100_000, "<table><tr><td>" * 100_000, "<p>x" * 300_000, "&#xFFFFFF;&bogus;&" * 100_000,
    '<a b="' * 100_000,
    "<p>\x00" * 30_000, "<select>" + "<option>x" * 20_000, "<p>" + "x" * 100_000_000,
])  # fmt: skip
def test_hostile_pages_get_a_verdict(page):
    assert judged(page).reasons.null_count == 0


@pytest.mark.real
def test_gold_articles_are_found(real_data):
    folder = real_data / "A_html/article_extraction_benchmark"
    gold = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    files = sorted((folder / "html").glob("*.html.gz"))[:20]
    texts = judged(*(gzip.decompress(path.read_bytes()).decode("utf-8") for path in files)).batch["text"].to_pylist()
    for path, text in zip(files, texts, strict=True):
        words = set(gold[path.name.removesuffix(".html.gz")]["articleBody"].split())
        assert len(words & set(text.split())) >= 0.8 * len(words)
