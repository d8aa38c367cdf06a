"""Web archives: every record up to the last good one, and a name for everything that is broken."""

import gzip
import json
import zlib
from collections import Counter

import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.text.readers import Files
from bloomery.text.readers.unpacked import MAGIC
from tests.text.readers.warcs import record, warc_gz

BODIES = [f"body {i} ".encode() * (i * 40 + 1) for i in range(6)]
TEXTS = [body.decode() for body in BODIES]
ABCDE = gzip.compress(b"abcde", mtime=0)
QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


JUNK = st.binary(max_size=60).filter(lambda data: not any(magic in data for magic in MAGIC.values()) and data.strip(b"\r\n\0"))


def read(path, after=None, **fields):
    """The rows of an archive, and its damage."""
    damage = []
    rows = [row for batch in Files(path=str(path), **fields).batches(after, damage.append) for row in batch.to_pylist()]
    return rows, damage


def texts(path, data, **fields):
    path.write_bytes(data)
    rows, damage = read(path, **fields)
    assert len({row["id"] for row in rows}) == len(rows)
    return [row["text"] for row in rows], damage


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "a.warc.gz"


def lz4(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"": lambda data: data, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress, ".lz4": lz4}


@pytest.mark.parametrize("per_record", [True, False])
@pytest.mark.parametrize("suffix", PACK)
def test_records_are_read_however_they_are_packed_and_reading_goes_on_behind_any(tmp_path, suffix, per_record):
    path = tmp_path / f"a.warc{suffix}"
    records = [record(body) for body in BODIES]
    data = b"".join(map(PACK[suffix], records)) if per_record else PACK[suffix](b"".join(records))
    assert texts(path, data) == (TEXTS, [])
    rows, _ = read(path)
    for i, row in enumerate(rows):
        assert read(path, after=row["id"]) == (rows[i + 1 :], [])


def test_pages_say_where_they_are_from(archive):
    archive.write_bytes(gzip.compress(record("é".encode("cp1252"), http="Content-Type: text/html; charset=ISO-8859-1", url="http://é.org/")))
    [row], _ = read(archive)
    assert row["text"] == "é"
    meta = {"url": "http://é.org/", "date": "2020-01-02T03:04:05Z", "content_type": "text/html", "charset": "cp1252", "status": 200}
    assert (row["id"], row["source"], json.loads(row["meta"])) == ("a.warc.gz#0", "a.warc.gz", meta)


def test_only_pages_are_documents(archive):
    kinds = [record(b"x", kind) for kind in ("warcinfo", "request", "metadata", "revisit", "conversion", "resource")]
    image = record(b"\x89PNG", http="Content-Type: image/png")
    assert texts(archive, b"".join(map(gzip.compress, [*kinds, image, record(b"y")]))) == (["x", "x", "y"], [])
    css = b"".join(map(gzip.compress, [record(b"a {}", http="Content-Type: text/css"), record(b"y")]))
    assert texts(archive, css, content_types=("text/css",)) == (["a {}"], [])


@pytest.mark.parametrize(("http", "body"), [
    ("Transfer-Encoding: chunked", b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), ("Transfer-Encoding: chunked", b"abcde"),
    ("Content-Encoding: gzip", ABCDE), ("Content-Encoding: gzip", b"abcde"),
    ("Content-Encoding: deflate", zlib.compress(b"abcde")), ("Content-Encoding: deflate", zlib.compress(b"abcde")[2:-4]),
    ("Content-Encoding: zstd", zstandard.ZstdCompressor().compress(b"abcde")), ("Content-Encoding: br", b"abcde"),
    ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", b"%x\r\n%s\r\n0\r\n\r\n" % (len(ABCDE), ABCDE)),
])  # fmt: skip
def test_bodies_are_unpacked_where_they_are_packed(archive, http, body):
    assert texts(archive, gzip.compress(record(body, http=f"Content-Type: text/plain\r\n{http}"))) == (["abcde"], [])


@pytest.mark.parametrize(("said", "body", "text"), [
    ("text/html", "<meta charset=shift_jis>日本語".encode("cp932"), "<meta charset=shift_jis>日本語"),
    ("text/html; charset=euc-kr", "한국어".encode("cp949"), "한국어"),
    ("text/html; charset=nonsense", "naïve".encode(), "naïve"),
    ("text/html", "Съешь же ещё этих мягких французских булок, да выпей чаю. ".encode("cp1251") * 5,
     "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 5),
    ("text/html; charset=utf-8", b"\xef\xbb\xbfa\xff", "a\ufffd"), ("text/html; charset=utf-8", "naïve".encode("cp1252"), "na\ufffdve"),
    ("text/html; charset=utf-16", "a é".encode("utf-16-le"), "a é"), ("text/html; charset=punycode", b"ab-c", "ab-c"),
    ("", b"<!doctype html><p>x", "<!doctype html><p>x"), ("application/octet-stream", b"words", "words"),
])  # fmt: skip
def test_characters_are_decoded_and_never_an_error(archive, said, body, text):
    assert texts(archive, gzip.compress(record(body, http=f"Content-Type: {said}"))) == ([text], [])


@QUIET
@given(at=st.floats(0, 1), flip=st.integers(1, 255))
def test_a_flipped_byte_costs_its_record_at_most_and_is_named(archive, at, flip):
    data, starts = warc_gz(BODIES)
    position = min(int(at * len(data)), len(data) - 1)
    spoilt = bytearray(data)
    spoilt[position] ^= flip
    found, damage = texts(archive, bytes(spoilt))
    hit = max(i for i, start in enumerate(starts) if start <= position)
    assert [text for text in found if text != TEXTS[hit]] == [text for i, text in enumerate(TEXTS) if i != hit]
    assert found == TEXTS or [d.id for d in damage] == [f"a.warc.gz#{starts[hit]}"]


@QUIET
@given(at=st.floats(0, 1))
def test_a_cut_archive_is_read_up_to_its_last_whole_record(archive, at):
    data, starts = warc_gz(BODIES)
    end = max(1, int(at * len(data)))
    found, damage = texts(archive, data[:end])
    whole = sum(start <= end for start in starts[1:])
    assert found == TEXTS[:whole]
    assert [d.id for d in damage] == ([] if end in starts else [f"a.warc.gz#{starts[whole]}"])


@QUIET
@given(junk=st.lists(JUNK, min_size=7, max_size=7), plain=st.booleans())
def test_garbage_between_records_is_named_and_passed_over(tmp_path, junk, plain):
    records = [record(body) if plain else gzip.compress(record(body)) for body in BODIES]
    data = junk[0] + b"\n" + b"".join(r + j + b"\n" for r, j in zip(records, junk[1:], strict=True))
    found, damage = texts(tmp_path / ("b.warc" if plain else "b.warc.gz"), data)
    assert found == TEXTS
    assert len(damage) == 7
    assert all(d.bytes for d in damage)


@pytest.mark.parametrize(("length", "reason"), [
    (10, "its Content-Length of 10 does not lead to the next record"), (9_999, "is cut off: "), (200, "its Content-Length of 200 does not"),
    (1 << 40, "expands beyond max_document_bytes"), ("x", "its length 'x' is not a number"), ("-1", "its length '-1' is not a number"),
])  # fmt: skip
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_a_wrong_length_costs_its_record_only(archive, length, reason, pack):
    records = [record(body) for body in BODIES]
    records[2] = record(BODIES[2], length=length)
    found, [damage] = texts(archive, b"".join(map(pack, records)))
    assert found == [text for text in TEXTS if text != TEXTS[2]]
    assert damage.reason.startswith(reason)


@pytest.mark.parametrize(("head", "reason"), [
    (b"WARC/1.0\r\nWARC-Type: response\r\n\r\nabc\r\n\r\n", "it has no Content-Length"),
    (b"WARC/1.0\r\n" + b"x: y\r\n" * 60_000, "its header does not end"), (b"WARK/1.0\r\n\r\n", "no record begins here"),
])  # fmt: skip
def test_a_bad_header_costs_its_record_only(archive, head, reason):
    found, [damage] = texts(archive, b"".join(map(gzip.compress, [record(b"a"), head, record(b"b")])))
    assert found == ["a", "b"]
    assert damage.reason == reason


def test_a_record_may_lie_across_members(archive):
    data = b"".join(record(body) for body in BODIES)
    cut = b"".join(gzip.compress(data[i : i + 100]) for i in range(0, len(data), 100))
    assert texts(archive, cut) == (TEXTS, [])


def test_damage_is_told_between_the_documents_around_it(archive):
    data, starts = warc_gz(BODIES)
    archive.write_bytes(data[: starts[2]] + b"junk" + data[starts[2] :])
    seen: list[str] = []

    def told(damage):
        seen.append(damage.reason)

    for batch in Files(path=str(archive)).batches(on_damage=told):
        seen += batch.column("text").to_pylist()
    assert seen == [*TEXTS[:2], "no gzip member begins here", *TEXTS[2:]]


def test_damage_is_never_silent(archive):
    archive.write_bytes(warc_gz(BODIES)[0][:-3])
    with pytest.warns(UserWarning, match=r"a\.warc\.gz#\d+: its compressed data is cut off"):
        list(Files(path=str(archive)).batches())


def test_a_bomb_in_a_record_is_damage_and_what_follows_is_read(archive):
    bomb = gzip.compress(record(bytes(40 << 20)))
    body = gzip.compress(record(gzip.compress(bytes(40 << 20)), http="Content-Type: text/plain\r\nContent-Encoding: gzip"))
    found, damage = texts(archive, gzip.compress(record(b"a")) + bomb + body + gzip.compress(record(b"b")), max_document_bytes=1 << 20)
    assert found == ["a", "b"]
    assert [d.reason.removeprefix("its body ") for d in damage] == ["expands beyond max_document_bytes=1048576 (1 MiB)"] * 2


def test_arcs_are_read(tmp_path):
    def arc(url, body, length=None):
        return f"{url} 1.2.3.4 20140102030405 text/html {len(body) if length is None else length}\n".encode() + body + b"\n"

    head = arc("filedesc://x", b"1 0 X\nURL IP-address Archive-date Content-type Archive-length\n")
    pages = [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>%d" % i for i in range(4)]
    records = [arc("http://x.org/a b", page) for page in pages]
    records[1] = arc("http://x.org/", pages[1], 7)
    found, [damage] = texts(tmp_path / "x.arc", head + b"".join(records))
    assert found == ["<p>0", "<p>2", "<p>3"]
    assert damage.reason == "its Content-Length of 7 does not lead to the next record"
    rows, _ = read(tmp_path / "x.arc")
    assert json.loads(rows[0]["meta"])["date"] == "2014-01-02T03:04:05Z"
    assert texts(tmp_path / "x.arc.gz", b"".join(map(gzip.compress, [head, *records]))) == (found, [damage.__class__(
        f"x.arc.gz#{len(gzip.compress(head)) + len(gzip.compress(records[0]))}", damage.reason, damage.bytes)])  # fmt: skip


EXPECTED = {  # documents and damage; records as warcio's own tests and fastwarc count them, where these get through
    "commoncrawl_whirlwind/whirlwind.warc": (1, []), "commoncrawl_whirlwind/whirlwind.warc.gz": (1, []),
    "commoncrawl_whirlwind/whirlwind.warc.wat": (0, []), "commoncrawl_whirlwind/whirlwind.warc.wat.gz": (0, []),
    "commoncrawl_whirlwind/whirlwind.warc.wet": (1, []), "commoncrawl_whirlwind/whirlwind.warc.wet.gz": (1, []),
    "resiliparse/block-sized-records.warc": (0, []), "resiliparse/block-sized-records.warc.gz": (0, []),
    "resiliparse/block-sized-records.warc.lz4": (0, []),
    "resiliparse/clipped.warc.gz": (0, ["its compressed data is cut off"]), "resiliparse/clueweb-quirk.warc.gz": (29, []),
    "resiliparse/warcfile.warc": (16, []), "resiliparse/warcfile.warc.gz": (16, []), "resiliparse/warcfile.warc.lz4": (16, []),
    "warcio_tests/bad.arc": (1, ["its length '-1' is not a number"] * 2 + ["its length 'abc' is not a number"]),
    "warcio_tests/example-bad-non-chunked.warc.gz": (1, []), "warcio_tests/example-bad.warc.gz.bad": (2, []),
    "warcio_tests/example-digest.warc": (0, []), "warcio_tests/example-iana.org-chunked.warc": (1, []),
    "warcio_tests/example-resource.warc.gz": (1, []), "warcio_tests/example-space-in-target-uri.warc.gz": (0, []),
    "warcio_tests/example-space-in-url.arc": (0, ["is cut off: 1579 of its 1591 bytes are there"]),
    "warcio_tests/example-trunc.warc": (0, ["its Content-Length of 973 does not lead to the next record"]),
    "warcio_tests/example-wget-bad-target-uri.warc.gz": (3, []), "warcio_tests/example-wrong-chunks.warc.gz": (1, []),
    "warcio_tests/example.arc": (1, []), "warcio_tests/example.arc.gz": (1, []), "warcio_tests/example.warc": (1, []),
    "warcio_tests/example.warc.gz": (1, []), "warcio_tests/post-test.warc.gz": (0, []),
}  # fmt: skip


@pytest.mark.real
def test_every_real_archive_is_read_to_its_last_good_record(real_data):
    root = real_data / "A_warc"
    if not root.exists():
        pytest.skip(f"needs {root}")
    found = {}
    for path in sorted(root.glob("*/*.*arc*")):
        rows, damage = read(path, include=("*",))
        found[str(path.relative_to(root))] = (len(rows), [d.reason for d in damage])
        for i, row in enumerate(rows):
            assert read(path, after=row["id"])[0] == rows[i + 1 :]
    assert {name: found[name] for name in EXPECTED if name in found} == {name: EXPECTED[name] for name in EXPECTED if name in found}
    assert all(documents or damage or name in EXPECTED for name, (documents, damage) in found.items())


@pytest.mark.real
def test_real_archives_hold_the_records_that_fastwarc_finds(real_data):
    warc = pytest.importorskip("fastwarc.warc")
    from bloomery.text.readers.archives import Record, Warc, records
    from bloomery.text.readers.unpacked import Unpacked

    kinds = frozenset(("warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation"))
    damaged = {"clipped.warc.gz", "example-trunc.warc", *(f"block-sized-records.warc{packed}" for packed in PACK)}
    for path in sorted((real_data / "A_warc").glob("*/*.warc*")):
        if path.name in damaged:
            continue
        with open(path, "rb") as file:
            found = records(Unpacked(file, path.name, Warc().is_start), Warc(), path.name, 1 << 26, kinds)
            ours = Counter(r.kind for r in found if isinstance(r, Record))
        theirs = Counter(str(record.record_type).rpartition(".")[2] for record in warc.ArchiveIterator(str(path), parse_http=False))
        assert ours == theirs, path
