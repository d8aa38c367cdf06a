"""The engine: parts that depend on nothing but the source, and workers that may die."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ResourceError
from bloomery.text.documents import Document, to_batch
from bloomery.text.engine import Processes
from bloomery.text.engine.refine import parts
from bloomery.text.engine.tables import read_arrow, read_table, write_arrow


@settings(deadline=None)
@given(st.lists(st.text(max_size=9), min_size=1, max_size=20), st.integers(1, 30), st.lists(st.integers(1, 5), min_size=1))
def test_parts_do_not_depend_on_the_batches(texts, part_bytes, cuts):
    batch = to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])
    starts = [sum(cuts[:i]) % (batch.num_rows + 1) for i in range(len(cuts))]
    edges = sorted({0, batch.num_rows, *starts})
    pieces = [batch.slice(a, b - a) for a, b in pairwise(edges)]
    ids = [[i for b in part for i in b["id"].to_pylist()] for part in parts(iter([batch]), part_bytes)]
    assert [[i for b in part for i in b["id"].to_pylist()] for part in parts(iter(pieces), part_bytes)] == ids
    assert [i for part in ids for i in part] == batch["id"].to_pylist()
    sizes = [sum(len(texts[int(i[1:])].encode()) for i in part) for part in ids]
    assert all(size >= part_bytes for size in sizes[:-1])


def square(x: int) -> int:
    return x * x


def die_once(folder: str, x: int) -> int:
    mark = Path(folder) / f"{x}"
    if x == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die(x: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


class OnceDead:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, x: int) -> int:
        return die_once(self.folder, x)


def slow(x: int) -> int:
    Path(os.environ["SEEN"]).joinpath(str(os.getpid())).touch()
    time.sleep(60)
    return x


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    assert list(Processes(workers).map(square, range(20))) == [x * x for x in range(20)]


def test_tasks_are_drawn_only_a_little_ahead():
    drawn = []

    def tasks():
        for x in range(50):
            drawn.append(x)
            yield x

    results = Processes(2).map(square, tasks())
    next(results)
    assert len(drawn) <= 6
    results.close()


def test_a_worker_that_dies_is_replaced_and_its_work_done_anew(tmp_path):
    assert list(Processes(2).map(OnceDead(str(tmp_path)), range(12))) == list(range(12))
    assert (tmp_path / "5").exists()


def test_work_that_kills_every_worker_is_an_error():
    with pytest.raises(ResourceError, match="use fewer workers"):
        list(Processes(2).map(die, range(4)))


def test_workers_go_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\nfrom bloomery.text.engine import Processes\nfrom tests.text.engine.test_engine import slow\n"
        "if __name__ == '__main__':\n    list(Processes(2).map(slow, range(4)))\n"
    )
    seen = tmp_path / "seen"
    seen.mkdir()
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"SEEN": str(seen), "PYTHONPATH": str(Path(__file__).parents[3])})
    deadline = time.monotonic() + 60
    while len(list(seen.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in seen.iterdir()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_files_between_passes_read_by_batch_and_by_column(tmp_path):
    batches = [pa.record_batch({"row": [0, 1], "text": ["a", "b"]}), pa.record_batch({"row": [2], "text": ["c"]})]
    write_arrow(tmp_path / "x", batches[0].schema, batches)
    assert [batch.num_rows for batch in read_arrow(tmp_path / "x")] == [2, 1]
    assert read_table(tmp_path / "x", ["text"]).to_pydict() == {"text": ["a", "b", "c"]}
    write_arrow(tmp_path / "none", batches[0].schema, [])
    assert read_table(tmp_path / "none").schema == batches[0].schema
