"""Input that is too long, too much, too deep or no text: bounded time and memory, and a word that says what it is."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import DataError
from bloomery.text.readers import Files

CODE = """
import pathlib, re, sys
from bloomery.core.errors import DataError
from bloomery.text.readers import Files
rows = damage = 0
def told(d):
    global damage
    damage += 1
try:
    for batch in Files(path=sys.argv[1], **eval(sys.argv[2])).batches(on_damage=told):
        rows += batch.num_rows
except DataError as error:
    print(error)
print(rows, damage, int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) >> 10)
"""


def child(path, **fields):
    """Rows, damage, peak MiB and what was said of reading in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CODE, str(path), repr(fields)], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    return *map(int, last.split()), " ".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.html", "x.csv", "x.md", "x.warc"])
def test_a_document_of_100_mb_is_named_or_read_with_bounded_memory(tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        for _ in range(100):
            file.write(b"a" * (1 << 20))
    rows, damage, peak, said = child(tmp_path / name)
    assert rows == 0
    assert damage or "max_document_bytes" in said
    assert peak < 500
    if name == "x.txt":
        rows, _, peak, _ = child(tmp_path / name, max_document_bytes=200 << 20)
        assert rows == 1
        assert peak < 1000


@pytest.mark.parametrize("name", ["x.txt", "x.html", "x.warc.gz", "x.epub", "x.xml", "x.csv", "x.jsonl", "x.parquet"])
def test_files_of_no_bytes_are_no_error_beside_others(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "y.txt").write_text("fine")
    assert [text for batch in Files(path=str(tmp_path)).batches() for text in batch.column("text").to_pylist() if text] == ["fine"]


@pytest.mark.parametrize("name", [
    "x.html", "x.warc.gz", "x.warc", "x.arc", "x.epub", "x.pdf", "x.txt", "x.csv", "x.parquet", "x.jsonl", "x.xml.bz2",
])  # fmt: skip
def test_binary_junk_is_named_and_the_rest_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89\0" + os.urandom(100_000))
    (tmp_path / "y.txt").write_text("fine")
    damage = []
    reader = Files(path=str(tmp_path), include=("*",), on_bad_file="count")
    texts = [text for batch in reader.batches(on_damage=damage.append) for text in batch.column("text").to_pylist()]
    assert texts[-1] == "fine"
    assert damage or name == "x.html"
    assert all(name in d.id and d.reason for d in damage)


@pytest.mark.parametrize("deep", ["[" * 200_000, '{"a":' * 200_000, '{"text": ' + "[" * 200_000])
def test_json_that_nests_too_deep_is_named(tmp_path, deep):
    (tmp_path / "x.jsonl").write_text(deep)
    with pytest.raises(DataError, match=r"x\.jsonl, line 1: not JSON"):
        list(Files(path=str(tmp_path / "x.jsonl")).batches())


@pytest.mark.slow
def test_a_million_tiny_documents_take_little_memory(tmp_path):
    with open(tmp_path / "x.jsonl", "w") as file:
        file.writelines(json.dumps({"text": f"document {i}"}) + "\n" for i in range(1_000_000))
    rows, _, peak, _ = child(tmp_path / "x.jsonl")
    assert rows == 1_000_000
    assert peak < 400


@pytest.mark.parametrize("text_column", ["text", "body"])
def test_batches_of_parquet_are_bounded_by_bytes(tmp_path, text_column):
    table = pa.table({text_column: [chr(97 + i) * (1 << 20) for i in range(20)]})
    pq.write_table(table, tmp_path / "x.parquet", compression="none", use_dictionary=False)
    sizes = [batch.nbytes for batch in Files(path=str(tmp_path / "x.parquet"), text_column=text_column).batches()]
    assert max(sizes) < 10 << 20
    assert sum(sizes) > 20 << 20
