"""Pages, notes, tables, dumps and books among other files, also hostile ones."""

import bz2
import gzip
import io
import json
import re
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.text.readers import Files
from bloomery.text.readers.containers import front_matter
from bloomery.text.readers.markup import plain as plain_markup
from bloomery.text.readers.wikitext import plain
from tests.text.readers.warcs import record


def read(path, after=None, **fields):
    damage = []
    rows = [row for batch in Files(path=str(path), **fields).batches(after, damage.append) for row in batch.to_pylist()]
    return rows, damage


def only(path, data, **fields):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    rows, damage = read(path, **fields)
    return [row["text"] for row in rows], [json.loads(row["meta"] or "{}") for row in rows], [d.reason for d in damage]


def page(title, text, ns=0, extra=""):
    revision = f"<revision><timestamp>2020</timestamp><model>wikitext</model><text>{text}</text></revision>"
    return f"  <page><title>{title}</title><ns>{ns}</ns><id>7</id>{extra}{revision}</page>\n"


def dump(*pages):
    return f'<mediawiki xml:lang="en"><siteinfo><sitename>x</sitename></siteinfo>\n{"".join(pages)}</mediawiki>\n'


def epub(chapters, files=(), encoding="utf-8"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("META-INF/container.xml", '<container><rootfiles><rootfile full-path="o/p.opf"/></rootfiles></container>')
        items = "".join(f'<item id="c{i}" href="c%20{i}.xhtml" media-type="application/xhtml+xml"/>' for i in range(len(chapters)))
        spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
        about = "<dc:title>T</dc:title><dc:creator>A</dc:creator>"
        parts = f"<metadata>{about}</metadata><manifest>{items}</manifest><spine>{spine}</spine>"
        book.writestr("o/p.opf", f'<package xmlns:dc="d">{parts}</package>')
        for i, chapter in enumerate(chapters):
            book.writestr(f"o/c {i}.xhtml", chapter)
        for name, data in files:
            book.writestr(name, data)
    return out.getvalue()


def test_a_mixed_folder_just_works_and_reading_goes_on_behind_any(tmp_path):
    root = tmp_path / "m"
    root.mkdir()
    files = {
        "a.html": b"<p>page", "b.md": b"---\ntitle: T\n---\nnote", "c.csv": b"n,text\n1,one\n2,two\n", "d.tsv": b"text\tn\nthree\t3\n",
        "e.warc.gz": gzip.compress(record(b"r1")) + gzip.compress(record(b"r2")),
        "f.xml.bz2": bz2.compress(dump(page("A", "x"), page("B", "y")).encode()),
        "g.epub": epub(["<h1>H</h1><p>book</p>"]), "h.txt": b"text", "i.xml": b"<other/>",
        "j.jsonl": b'{"text": "row"}', "k.html.gz": gzip.compress(b"<p>z"),
    }  # fmt: skip
    for name, data in files.items():
        (root / name).write_bytes(data)
    rows, damage = read(root)
    assert damage == []
    assert [row["text"] for row in rows] == [
        "<p>page", "note", "one", "two", "three", "r1", "r2", "x", "y", "# H\n\nbook", "text", "<other/>", "row", "<p>z",
    ]  # fmt: skip
    assert len({row["id"] for row in rows}) == len(rows)
    for i, row in enumerate(rows):
        assert read(root, after=row["id"]) == (rows[i + 1 :], [])


def test_pages_are_markup_that_says_so(tmp_path):
    html = '<meta charset="windows-1251"><p>Привет'
    assert only(tmp_path / "a.html", html.encode("cp1251")) == ([html], [{"content_type": "text/html", "charset": "windows-1251"}], [])
    assert only(tmp_path / "b.htm", b"\xff\xfe<\0p\0>\0")[0] == ["<p>"]
    assert only(tmp_path / "c.html", b"a" * 2000, max_document_bytes=1000)[2][0].startswith("c.html is longer than max_document_bytes")


@pytest.mark.parametrize(("text", "meta", "rest"), [
    ('---\ntitle: "A: b"\ntags: [x, \'y\']\nlist:\n  - 1\n  - 2\n# c\n---\n\nBody\n',
     {"title": "A: b", "tags": ["x", "y"], "list": ["1", "2"]}, "Body\n"),
    ('+++\ntitle = "T"\ndate = 2020-01-02\n+++\nBody', {"title": "T", "date": "2020-01-02"}, "Body"),
    ("---\r\ntitle: T\r\n---\r\nBody", {"title": "T"}, "Body"),
    ("---\nA rule, not keys\n---\nBody", None, None), ("---\ntitle: never closed\n", None, None), ("Body\n---\na: b\n---\n", None, None),
    ("+++\nnot toml\n+++\nBody", None, None),
])  # fmt: skip
def test_front_matter_goes_into_meta(text, meta, rest):
    assert front_matter(text) == (meta, text if rest is None else rest)


def test_tables_are_read_row_by_row(tmp_path):
    texts, metas, _ = only(tmp_path / "a.csv", 'text,url\r\n"two\nlines, ""quoted""",u\r\n\r\n,v\r\nshort\r\n', meta_columns=("url",))
    assert texts == ['two\nlines, "quoted"', "", "short"]
    assert metas == [{"url": "u"}, {"url": "v"}, {"url": None}]
    assert only(tmp_path / "b.csv", "instruction,output\nQ,R\n")[0] == ["Q\n\nR"]
    assert only(tmp_path / "c.csv", b"text\n" + b"x" * 200_000 + b"\n")[0] == ["x" * 200_000]


@pytest.mark.parametrize(("data", "message"), [
    (b"a,b\n1,2\n", r"x\.csv#R1 has no column 'text'"), (b"text\n1,2\n", r"x\.csv, row 1 \(line 2\) has 2 cells, the header 1"),
    (b'text\n"open\n' + b"line\n" * 1000, r"the row up to line \d+ is longer than max_document_bytes=1000"),
    (b"text\n\xff\n", "line 2, is not utf-8"),
    (b'text\n"open\n', "line 2: not CSV"),
])  # fmt: skip
def test_tables_that_cannot_be_read_are_named(tmp_path, data, message):
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.csv", max_document_bytes=1000)
    (tmp_path / "y.txt").write_bytes(b"fine")
    rows, [damage] = read(tmp_path, on_bad_file="count")
    assert rows[-1]["text"] == "fine"
    assert damage.id.endswith("x.csv")
    assert re.search(message, damage.reason) or "max_document_bytes" in message


def test_dumps_give_articles_and_name_broken_pages(tmp_path):
    pages = [
        page("A", "'''Bold''' [[link|words]] &amp;amp; more"), page("R", "#REDIRECT [[A]]", extra='<redirect title="A"/>'),
        page("Talk:A", "talk", 1),
        page("Broken", "a</b>"), page("Long", "x" * 3000), page("B", "end"),
    ]  # fmt: skip
    texts, metas, reasons = only(tmp_path / "w-pages-articles.xml-p1p2.bz2", bz2.compress(dump(*pages).encode()), max_document_bytes=2000)
    assert texts == ["Bold words & more", "end"]
    assert metas[1] == {"title": "B", "page": "7", "namespace": 0, "date": "2020"}
    assert [reason.partition(" (")[0] for reason in reasons] == ["is not the XML of a page", "expands beyond max_document_bytes=2000"]
    assert only(tmp_path / "t.xml", dump(*pages), namespaces=(1,))[0] == ["talk"]


def test_a_cut_dump_is_read_to_its_last_whole_page(tmp_path):
    data = bz2.compress(dump(*(page(f"P{i}", f"text {i} " * 50) for i in range(20))).encode())
    texts, _, reasons = only(tmp_path / "x.xml", dump(page("A", "x"), page("B", "y"))[:-60])
    assert texts == ["x"]
    assert len(reasons) == 1
    with pytest.raises(DataError, match="ends early"):  # nothing could be unpacked that would say that it is a dump
        only(tmp_path / "x.xml.bz2", data[:-20])


def test_entities_of_a_dump_are_not_expanded(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "' + "x" * 1000 + '">' + "".join(f'<!ENTITY a{i} "{"&a;" * 100}">' for i in range(5)) + "]>"
    texts, _, reasons = only(tmp_path / "x.xml", bomb + dump(page("A", "&a4;"), page("B", "fine")))
    assert texts == ["fine"]
    assert reasons[0].startswith("is not the XML of a page (undefined entity")


@pytest.mark.parametrize(("markup", "text"), [
    ("a {{t|{{u}}|[[x]]}} b", "a b"), ("a{{unclosed b", "aunclosed b"), ("{{a\n{|\n| x {{y\n|}\nb}} c", "c"),
    ("x\n{| class=t\n! h\n|-\n| c || d\n{|\n|n\n|}\n|}\ny", "x\n\ny"), ("[[File:x.jpg|thumb|a [[b]] c]]d", "d"),
    ("[[Category:X]]e [[de:Y]]", "e"),
    ("[[a]]s [[b|c]] [http://x y z] [http://x] ''i'' '''b'''", "as c y z i b"), ("a<ref name=x>no</ref><ref y/>b<!-- c -->d", "abd"),
    ("== H ==\nt\n=== Empty ===\n== Next ==\nu", "## H\n\nt\n\n## Next\n\nu"), ("* a\n** b\n# c\n: d", "- a\n- b\n- c\nd"),
    ("<nowiki>[[x]]</nowiki> <math>y</math>z<br/>w", "[[x]] z\nw"), ("a (; , ) b __NOTOC__&nbsp;c", "a b c"),
    ("[[unclosed b\nc", "unclosed b\nc"),
    ("== only ==", ""), ("a ]] }}\n|}\nb", "a\n\nb"), ("<ref>open", "open"), ("[[a|[[b|c]]]]", "c"), ("[x] [1]", "[x] [1]"),
])  # fmt: skip
def test_wikitext_becomes_prose(markup, text):
    assert plain(markup) == text


TOKENS = ("{{", "}}", "{|", "|}", "[[", "]]", "<ref>", "</ref>", "<!--", "-->", "==", "[http://x", "File:")


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*"|a] \n", *TOKENS]), max_size=40))
def test_no_wikitext_is_an_error(tokens):
    text = plain("".join(tokens))
    assert text == text.strip()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("token", [
    "{{", "[[", "[[a|", "{|\n", "<ref>", "<REF>", "<!--", "\n==", "[http://x ", "<a ", "(", "'''", "]]", "\n{| {{", "= ", ":", "&", "[[File:",
])  # fmt: skip
def test_hostile_wikitext_takes_linear_time(token):
    plain(token * 30_000)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("token", ["<", "<p", "<p>", "<!--", "<script>", "&", "<h1>", "</", "<a b='"])
def test_hostile_markup_takes_linear_time(token):
    plain_markup(token * 50_000)


def test_epubs_are_read_in_order_with_headings(tmp_path):
    chapters = ["<html><head><title>no</title></head><body><h2>One</h2><p>a &amp; b<br/>c</p><script>x</script></body></html>", "<p>two"]
    texts, metas, _ = only(tmp_path / "a.epub", epub(chapters))
    assert texts == ["## One\n\na & b\n\nc\n\ntwo"]
    assert metas == [{"title": "T", "creator": "A"}]


def test_bad_epubs_are_damage(tmp_path):
    whole = epub(["<p>x"])
    bomb = epub(["<p>" + "x" * (8 << 20)])
    for data, reason in (
        (b"junk", "does not read as EPUB"), (whole[:200], "does not read as EPUB"), (bomb, "expands beyond max_document_bytes"),
        (whole[:-30], "does not"),
    ):  # fmt: skip
        _, _, [found] = only(tmp_path / "x.epub", data, max_document_bytes=1 << 20)
        assert reason in found


def test_pdfs_are_read_where_asked_for(tmp_path):
    pypdf = pytest.importorskip("pypdf")
    out = io.BytesIO()
    writer = pypdf.PdfWriter()
    writer.add_blank_page(72, 72)
    writer.add_metadata({"/Title": "T"})
    writer.write(out)
    assert only(tmp_path / "a.pdf", out.getvalue())[1] == [{"title": "T", "author": "", "pages": 1}]
    assert "does not read as PDF" in only(tmp_path / "b.pdf", b"%PDF-1.7 junk")[2][0]


@pytest.mark.real
def test_a_real_dump_becomes_prose(real_data):
    folder = real_data / "A_text" / "wikipedia_dump_sample"
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    rows, damage = read(folder, include=("*.bz2",))
    assert damage == []
    assert len(rows) == 111
    text = "\n".join(row["text"] for row in rows)
    assert len(text) > 3_000_000
    assert not re.findall(r"\{\{|\}\}|\[\[|\]\]|\{\||'''|<ref", text)
    assert any(line == "## Etymology and terminology" for line in rows[0]["text"].splitlines())


@pytest.mark.real
def test_real_pages_are_read(real_data):
    folder = real_data / "A_html" / "article_extraction_benchmark" / "html"
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    rows, damage = read(folder)
    assert damage == []
    assert len(rows) > 50
    assert sum(row["text"].count("\ufffd") for row in rows) < 50
