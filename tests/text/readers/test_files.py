"""Files of any kind, read as documents with stable ids; and what is said about those that cannot be."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.identity import content_key
from bloomery.text.documents import DOCUMENTS
from bloomery.text.readers import Files
from bloomery.text.readers.streams import pieces

COMPRESS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def read(reader, after=None):
    return [row for batch in reader.batches(after) for row in batch.to_pylist()]


def texts(reader):
    return [row["text"] for row in read(reader)]


@pytest.fixture
def folder(tmp_path):
    """A folder with every kind of file."""
    root = tmp_path / "mixed"
    (root / "deep").mkdir(parents=True)
    (root / "b.txt").write_text("second")
    (root / "a.md").write_text("first")
    (root / "deep" / "c.jsonl").write_text('{"text": "third"}\n\n{"text": "fourth"}\n')
    (root / "deep" / "d.json").write_text('[{"text": "fifth"}, {"text": "sixth"}]')
    pq.write_table(pa.table({"text": ["seventh", None, "eighth"], "n": [1, 2, 3]}), root / "e.parquet", row_group_size=2)
    (root / "f.jsonl.gz").write_bytes(gzip.compress(b'{"text": "ninth"}'))
    (root / ".hidden.txt").write_text("never")
    (root / "picture.png").write_bytes(b"\x89PNG\xff")
    return root


def test_a_folder_is_read_in_the_order_of_names_with_stable_ids(folder):
    rows = read(Files(path=str(folder)))
    assert [(row["id"], row["text"]) for row in rows] == [
        ("mixed/a.md", "first"), ("mixed/b.txt", "second"), ("mixed/deep/c.jsonl#L1", "third"), ("mixed/deep/c.jsonl#L3", "fourth"),
        ("mixed/deep/d.json#R1", "fifth"), ("mixed/deep/d.json#R2", "sixth"), ("mixed/e.parquet#R1", "seventh"), ("mixed/e.parquet#R2", ""),
        ("mixed/e.parquet#R3", "eighth"), ("mixed/f.jsonl.gz#L1", "ninth"),
    ]
    assert rows[2]["source"] == "mixed/deep/c.jsonl"


def test_batches_have_the_schema_of_documents(folder):
    assert all(batch.schema == DOCUMENTS for batch in Files(path=str(folder)).batches())


def test_reading_goes_on_behind_any_document(folder):
    reader = Files(path=str(folder))
    rows = read(reader)
    for i, row in enumerate(rows):
        assert read(reader, after=row["id"]) == rows[i + 1 :]


def test_include_chooses_by_pattern(folder):
    assert texts(Files(path=str(folder), include=("*.txt", "deep/*.json"))) == ["second", "fifth", "sixth"]


def test_a_glob_and_a_single_file(folder):
    assert texts(Files(path=f"{folder}/*.md")) == ["first"]
    assert [row["id"] for row in read(Files(path=str(folder / "b.txt")))] == ["b.txt"]


def test_any_fsspec_place_is_read():
    with fsspec.open("memory://shelf/x/one.txt", "w") as file:
        file.write("from memory")
    reader = Files(path="memory://shelf")
    assert [(row["id"], row["text"]) for row in read(reader)] == [("shelf/x/one.txt", "from memory")]
    before = content_key(reader)
    with fsspec.open("memory://shelf/x/one.txt", "w") as file:
        file.write("changed")
    assert content_key(reader) != before


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read_as_they_are(tmp_path, suffix):
    data = "".join(json.dumps({"text": f"line {i} é"}) + "\n" for i in range(3000)).encode()
    half = data.index(b"\n", len(data) // 2) + 1
    (tmp_path / f"x.jsonl{suffix}").write_bytes(COMPRESS[suffix](data[:half]) + COMPRESS[suffix](data[half:]))  # two members
    assert texts(Files(path=str(tmp_path / f"x.jsonl{suffix}"))) == [f"line {i} é" for i in range(3000)]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data[: len(data) // 2], lambda data: b"not compressed"])
def test_truncated_and_damaged_compression_is_named(tmp_path, suffix, spoil):
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(spoil(COMPRESS[suffix](b'{"text": "a"}\n' + os.urandom(20000).hex().encode())))
    with pytest.raises(DataError, match=rf"x\.jsonl\{suffix}.*(ends early|is damaged)"):
        list(Files(path=str(path), text_column="text").batches())


@settings(max_examples=200)
@given(
    parts=st.lists(st.sampled_from([b"", b"a", b"-", b"x-", b"--a", b"\n", b"xyz"]), max_size=8),
    size=st.integers(1, 5),
    separator=st.sampled_from([b"\n", b"--", b"-x-"]),
)
def test_pieces_do_not_depend_on_the_chunks(parts, size, separator):
    data = separator.join(parts)
    stream = iter([data[i : i + size] for i in range(0, len(data), size)])
    expected = data.split(separator)
    assert list(pieces(stream, separator, 1000, lambda n: DataError(str(n)))) == (expected if expected[-1] else expected[:-1])


def test_a_separator_cuts_a_file_into_documents(tmp_path):
    (tmp_path / "x.txt").write_text("one\n<|endoftext|>two<|endoftext|>three")
    reader = Files(path=str(tmp_path / "x.txt"), separator="<|endoftext|>")
    assert [(r["id"], r["text"]) for r in read(reader)] == [("x.txt#D1", "one\n"), ("x.txt#D2", "two"), ("x.txt#D3", "three")]
    assert [r["text"] for r in read(reader, after="x.txt#D2")] == ["three"]


def test_byte_order_marks_go_and_encodings_are_obeyed(tmp_path):
    for name, data in {"a.txt": b"\xef\xbb\xbfbom", "b.jsonl": b'\xef\xbb\xbf{"text": "bom"}'}.items():
        (tmp_path / name).write_bytes(data)
        assert texts(Files(path=str(tmp_path / name))) == ["bom"]
    (tmp_path / "c.txt").write_text("naïve – é", encoding="cp1252")
    assert texts(Files(path=str(tmp_path / "c.txt"), encoding="cp1252")) == ["naïve – é"]


def test_nuls_and_lone_surrogates_do_not_break_arrow(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a\\u0000b"}\n{"text": "c\\ud800d"}\n{"messages": [{"role": "user", "content": "e\\udfff"}]}\n')
    assert texts(Files(path=str(tmp_path / "x.jsonl"))) == ["a\x00b", "c\ufffdd", "e\ufffd"]


U, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "R"}


@pytest.mark.parametrize("row", [
    {"messages": [U, A]}, {"messages": json.dumps([U, A])}, {"prompt": "Q", "completion": "R"}, {"prompt": [U], "completion": [A]},
    {"instruction": "Q", "output": "R"}, {"instruction": "Q", "input": "", "output": "R"}, {"text": [U, A]},
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_usual_forms_of_conversation(tmp_path, row, suffix):
    path = tmp_path / f"x{suffix}"
    pq.write_table(pa.Table.from_pylist([row]), path) if suffix == ".parquet" else path.write_text(json.dumps(row))
    [document] = read(Files(path=str(path)))
    assert document["messages"] == [U, A]
    assert document["text"] == "Q\n\nR"


def test_alpacas_input_follows_the_instruction(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"instruction": "Add", "input": "1 2", "output": "3"}))
    [document] = read(Files(path=str(tmp_path / "x.jsonl")))
    assert document["messages"][0]["content"] == "Add\n\n1 2"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_columns_are_kept_where_asked(tmp_path, suffix):
    path, row = tmp_path / f"x{suffix}", {"body": "hello", "url": "u", "n": 3}
    pq.write_table(pa.Table.from_pylist([row]), path) if suffix == ".parquet" else path.write_text(json.dumps(row))
    [document] = read(Files(path=str(path), text_column="body", meta_columns=("url", "n")))
    assert (document["text"], json.loads(document["meta"])) == ("hello", {"url": "u", "n": 3})


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(("files", "path", "fields", "message"), [
    ({"novels/emma.txt": b"x"}, "novel", {}, r"does not exist; did you mean '.*novels'"),
    ({"novels/emma.txt": b"x"}, "novels/ema.txt", {}, r"did you mean '.*emma\.txt'"),
    ({"novels/emma.txt": b"x"}, "q/r/s", {}, r"holds no 'q'"),
    ({"novels/emma.txt": b"x"}, "novels/*.md", {}, r"matches no file"),
    ({"d/.hidden": b"x"}, "d", {}, r"folder without files"),
    ({"d/x.png": b"x"}, "d", {}, r"none has a suffix that is read by itself; it has \.png"),
    ({"d/x.txt": b"x"}, "d", {"include": ("*.md",)}, r"none matches include=\('\*\.md',\)"),
    ({"x.txt": b""}, "x.txt", {}, r"the file is empty"),
    ({"d/x.txt": b"", "d/y.txt": b""}, "d", {}, r"every file is empty"),
    ({"x.txt": b"abc\xe9d"}, "x.txt", {}, r"x\.txt is not utf-8 at byte 3 \(0xe9\); try Files\(encoding='latin-1'\)"),
    ({"x.txt": b"\x93abc"}, "x.txt", {}, r"at byte 0 \(0x93\); try Files\(encoding='cp1252'\)"),
    ({"x.txt": "abc".encode("utf-16")}, "x.txt", {}, r"try Files\(encoding='utf-16'\)"),
    ({"x.jsonl": b'{"text": "a"}\n{"text": "\xe9"}'}, "x.jsonl", {}, r"x\.jsonl, line 2, is not utf-8 at byte 24"),
    ({"x.jsonl": b'{"text": "a"}\n{"text": \n'}, "x.jsonl", {}, r"x\.jsonl, line 2: not JSON"),
    ({"x.jsonl": b"[" * 100_000}, "x.jsonl", {}, r"x\.jsonl, line 1: not JSON"),
    ({"x.jsonl": b'{"body": "a", "n": 1}'}, "x.jsonl", {}, r"x\.jsonl#L1 has no column 'text'; it has 'body', 'n'"),
    ({"x.jsonl": b'{"text": 3}'}, "x.jsonl", {}, r"column 'text' holds int, not text"),
    ({"x.jsonl": b"[1]"}, "x.jsonl", {}, r"x\.jsonl#L1 is list, not an object"),
    ({"x.jsonl": b'{"messages": [{"role": "assistant", "content": "x"}]}'}, "x.jsonl", {}, r"x\.jsonl#L1: messages\[0\]\.role='assistant'"),
    ({"x.jsonl": b'{"messages": "oops"}'}, "x.jsonl", {}, r"x\.jsonl#L1"),
    ({"x.jsonl": b'{"instruction": 3, "output": "x"}'}, "x.jsonl", {}, r"x\.jsonl#L1"),
    ({"x.json": b'{"text": "a"}\n{"text": "b"}'}, "x.json", {}, r"rename it to \.jsonl"),
    ({"x.jsonl": b'{"messages": {"role": "user"}}'}, "x.jsonl", {}, r"x\.jsonl#L1: messages=.* is not a list"),
    ({"x.jsonl": '{"text": "a"}'.encode("utf-16")}, "x.jsonl", {"encoding": "utf-16"}, r"x\.jsonl is read line by line"),
    ({"x.parquet": b"PAR1 no"}, "x.parquet", {}, r"x\.parquet does not read as Parquet"),
    ({"x.txt": b"a" * 2000}, "x.txt", {"max_document_bytes": 1000}, r"longer than max_document_bytes=1000"),
    ({"x.jsonl": b'{"text": "a"}\n' + b"b" * 2000}, "x.jsonl", {"max_document_bytes": 1000}, r"x\.jsonl, line 2 is longer than max_document_b"),
])  # fmt: skip
def test_what_cannot_be_read_is_named_with_a_remedy(tmp_path, files, path, fields, message):
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as error:
        read(Files(path=str(tmp_path / path), **fields))
    assert "\n" not in str(error.value)


def test_truncated_parquet_and_long_rows_are_named(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b" * 2000, "c"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet, row 2 is longer"):
        read(Files(path=str(tmp_path / "x.parquet"), max_document_bytes=1000))
    with pytest.raises(DataError, match=r"no column 'body'; it has 'text'"):
        read(Files(path=str(tmp_path / "x.parquet"), text_column="body"))
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="does not read as Parquet"):
        read(Files(path=str(tmp_path / "x.parquet")))


def test_a_link_to_nothing_is_named(tmp_path):
    write(tmp_path / "d/a.txt", b"x")
    (tmp_path / "d/b.txt").symlink_to(tmp_path / "nowhere")
    for use in (read, content_key):
        with pytest.raises(DataError, match=r"b\.txt is gone, or is a link to nothing"):
            use(Files(path=str(tmp_path / "d")))


def test_pipes_are_not_waited_for(tmp_path):
    write(tmp_path / "d/a.txt", b"x")
    os.mkfifo(tmp_path / "d/b.txt")
    assert texts(Files(path=str(tmp_path / "d"))) == ["x"]


@pytest.mark.parametrize("name", ["a#1.txt", "a[1].txt", "a b*.txt", os.fsdecode(b"\xff.txt")])
def test_odd_names_are_names(tmp_path, name):
    write(tmp_path / "d" / name, b"one--two")
    for path in (tmp_path / "d", tmp_path / "d" / name):
        reader = Files(path=str(path), separator="--")
        rows = read(reader)
        assert [row["text"] for row in rows] == ["one", "two"]
        assert read(reader, after=rows[0]["id"]) == rows[1:]
        assert content_key(reader)


def test_one_empty_file_among_many_is_no_error(tmp_path):
    write(tmp_path / "d/a.txt", b"")
    write(tmp_path / "d/b.txt", b"x")
    assert texts(Files(path=str(tmp_path / "d"))) == ["", "x"]


@pytest.mark.parametrize(("encoding", "remedy"), [("utf8x", "utf-8"), ("latin_l", "latin-1")])
def test_an_unknown_encoding_is_refused_at_once(encoding, remedy):
    with pytest.raises(ConfigError, match=f"is not a codec; '{remedy}' is"):
        Files(path="x", encoding=encoding)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ConfigError, match="cannot be reached"):
        read(Files(path="nowhere://x"))


def test_a_gigabyte_in_one_line_is_refused_with_bounded_memory(tmp_path):
    with open(tmp_path / "x.jsonl", "wb") as file:
        file.truncate(1 << 30)  # zeros, no newline
    code = f"""
import pathlib, re, resource
from bloomery.core.errors import DataError
from bloomery.text.readers import Files
resource.setrlimit(resource.RLIMIT_AS, (2 << 30,) * 2)
try:
    list(Files(path={str(tmp_path / "x.jsonl")!r}).batches())
except DataError as error:
    print(error)
peak = re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]  # ru_maxrss would count the parent before exec
print(int(peak) >> 10, "MiB")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "line 1 is longer than max_document_bytes=67108864 (64 MiB)" in done.stdout, done.stderr
    assert int(done.stdout.split()[-2]) < 400


def test_a_zip_bomb_is_refused_with_bounded_memory(tmp_path):
    (tmp_path / "x.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(bytes(300 << 20)))
    with pytest.raises(DataError, match="longer than max_document_bytes"):
        read(Files(path=str(tmp_path / "x.txt.zst"), max_document_bytes=1 << 20))


def test_the_key_follows_contents_and_names_but_not_the_place(tmp_path):
    for place in ("one", "two"):
        write(tmp_path / place / "set/a.txt", b"same")
    key = content_key(Files(path=str(tmp_path / "one/set")))
    assert content_key(Files(path=str(tmp_path / "two/set"))) == key
    write(tmp_path / "two/set/a.txt", b"sane")
    assert content_key(Files(path=str(tmp_path / "two/set"))) != key
    write(tmp_path / "one/set/b.txt", b"")
    assert content_key(Files(path=str(tmp_path / "one/set"))) != key
    assert content_key(Files(path=str(tmp_path / "one/set"), include=("a.txt",))) != key  # a field that is not default counts


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=20))
def test_any_texts_survive_jsonl_with_unique_ids(tmp_path, values):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": value}) + "\n" for value in values))
    rows = read(Files(path=str(tmp_path / "x.jsonl")))
    assert [row["text"] for row in rows] == values
    assert len({row["id"] for row in rows}) == len(values)


@pytest.mark.real
@pytest.mark.parametrize("folder", ["english_novels_100", "german_novels_68", "lingua_testdata_75lang", "tinyshakespeare"])
def test_real_folders_are_read(real_data, folder):
    path = real_data / "A_text" / folder
    if not path.exists():
        pytest.skip(f"needs {path}")
    rows = read(Files(path=str(path)))
    assert len(rows) == len({row["id"] for row in rows})
    assert sum(len(row["text"]) for row in rows) > 100_000
    assert not any(row["text"].startswith("\ufeff") for row in rows)
