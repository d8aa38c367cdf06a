"""The recipe of the refinery: what was planted is found, and raw things of all kinds come out as clean text."""

import gzip
import json

import pytest
from bench.dirt import score
from recipes.refinery import refinery

from bloomery.stages.prepare import documents
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.tales import Tales


@pytest.mark.parametrize("seed", [3, 11])
def test_planted_dirt_is_found_and_clean_documents_stay(seed):
    by = score(count=1500, seed=seed)
    found = {label: 1 - takers["-"] / takers.total() for label, takers in by.items()}
    assert found.pop("clean") <= 0.01
    assert found.pop("exact_duplicate") >= 0.99
    assert min(found.values()) >= 0.95, found


def test_a_mixed_folder_comes_out_as_clean_text(tmp_path):
    pytest.importorskip("trafilatura", reason="the extra 'web' is not installed")
    raw = tmp_path / "raw"
    raw.mkdir()
    prose = [f"{Tales().tale(2 * i).text} {Tales().tale(2 * i + 1).text} That was all." for i in range(7)]
    page = "<html><head><title>T</title></head><body><nav>Home | About</nav><article>{}</article><footer>All rights reserved</footer></body>"
    (raw / "page.html").write_text(page.format("".join(f"<p>{text}</p>" for text in prose[:2])))
    with gzip.open(raw / "rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in [*prose[2:6], prose[3], "too short"])
    (raw / "notes.txt").write_text(prose[6].replace("the ", "the\u200b ") + "\r\n")
    (raw / "german.txt").write_text("Der Müller und seine Nachbarn trafen sich am Fluss, um über das Wetter und das Brot zu reden. " * 4)
    (raw / "tests").mkdir()
    (tmp_path / "exam.jsonl").write_text(json.dumps({"text": prose[5]}) + "\n")
    (corpus,) = refinery(source=str(raw), tests=str(tmp_path / "exam.jsonl")).wanted
    artifact = corpus.run(RunContext(store=Store(tmp_path / "store"), quiet=True))
    left = {row["id"]: row["text"] for batch in documents(artifact) for row in batch.to_pylist()}
    assert set(left) == {"raw/page.html", "raw/notes.txt", *(f"raw/rows.jsonl.gz#L{line}" for line in (1, 2, 3))}
    assert "Home" not in left["raw/page.html"]
    assert prose[0] in left["raw/page.html"]
    assert left["raw/notes.txt"].strip() == prose[6]
