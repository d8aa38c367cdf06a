"""Prepare: every document accounted for, and the same bytes however often the work was interrupted."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.stages.prepare import Prepare, documents, shards
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.documents import DOCUMENTS
from bloomery.text.engine.passes import Pass
from bloomery.text.filters import VERDICTS, ExactDuplicates, Length, Normalise
from bloomery.text.readers import Files, TaleConversations, TaleStories
from bloomery.text.tales import Dirt


@pytest.fixture
def corpus(tmp_path):
    """Three thousand rows: some empty, some alike, some with DOS newlines."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("a", "b", "c"):
        lines = [f"row {i % 700} of {name if i % 3 else 'all'}" + ("\r\n" if i % 10 == 0 else "") if i % 50 else "" for i in range(1000)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return folder


def context(tmp_path, name="store"):
    return RunContext(store=Store(tmp_path / name), quiet=True)


def rows(batches):
    return [row for batch in batches for row in batch.to_pylist()]


def files_of(artifact):
    return {name: record.sha256 for name, record in artifact.manifest.files.items()}


def test_every_document_is_kept_held_out_or_has_a_verdict(corpus, tmp_path):
    stage = Prepare(source=Files(path=str(corpus)), held_out=0.1, shard_bytes=10_000)
    artifact = stage.run(context(tmp_path))
    kept, aside = rows(documents(artifact)), rows(documents(artifact, "held_out"))
    verdicts = pq.read_table(artifact.file("verdicts.parquet"))
    assert verdicts.schema == VERDICTS
    dropped = [v["id"] for v in verdicts.to_pylist() if v["action"] == "drop"]
    read = [row["id"] for row in rows(stage.source.batches())]
    assert sorted([*(d["id"] for d in kept), *(d["id"] for d in aside), *dropped]) == sorted(read)
    assert [d["id"] for d in kept] == [i for i in read if i in {d["id"] for d in kept}]  # source order
    assert 0.05 < len(aside) / (len(kept) + len(aside)) < 0.15
    assert not any("\r" in d["text"] or not d["text"] for d in kept)
    summary = artifact.manifest.summary
    assert (summary["documents"], summary["held_out_documents"], summary["documents_read"]) == (len(kept), len(aside), 3000)
    assert summary["bytes"] == sum(len(d["text"].encode()) for d in kept)
    assert [f["documents_in"] - f["documents_out"] for f in summary["funnel"]] == [0, 60, len(dropped) - 60]
    assert len(shards(artifact)) > 3
    assert sum(record.counts["rows"] for name, record in artifact.manifest.files.items() if name.startswith("documents-")) == len(kept)


def test_duplicates_are_found_across_shards_and_files(corpus, tmp_path):
    artifact = Prepare(source=Files(path=str(corpus)), shard_bytes=5_000).run(context(tmp_path))
    texts = [" ".join(d["text"].split()) for d in rows(documents(artifact))]
    assert len(texts) == len(set(texts))
    reasons = pq.read_table(artifact.file("verdicts.parquet")).to_pylist()
    assert any(v["id"].startswith("rows/c") and v["reason"].startswith("duplicate of rows/a") for v in reasons)


def test_what_is_held_out_depends_on_the_id_alone(corpus, tmp_path):
    whole = Prepare(source=Files(path=str(corpus)), held_out=0.2, filters=()).run(context(tmp_path))
    (corpus / "a.jsonl").unlink()
    part = Prepare(source=Files(path=str(corpus)), held_out=0.2, filters=(), shard_bytes=9_000).run(context(tmp_path))
    ids = {d["id"] for d in rows(documents(whole, "held_out"))}
    assert {d["id"] for d in rows(documents(part, "held_out"))} == {i for i in ids if not i.startswith("rows/a")}


def test_two_runs_make_the_same_bytes(corpus, tmp_path):
    stage = Prepare(source=Files(path=str(corpus)), held_out=0.1, shard_bytes=10_000)
    assert files_of(stage.run(context(tmp_path, "one"))) == files_of(stage.run(context(tmp_path, "two")))


def test_a_changed_file_makes_another_key_and_a_moved_folder_does_not(corpus, tmp_path):
    before = Prepare(source=Files(path=str(corpus))).key
    moved = tmp_path / "elsewhere" / "rows"
    moved.parent.mkdir()
    corpus.rename(moved)
    assert Prepare(source=Files(path=str(moved))).key == before
    (moved / "a.jsonl").write_text('{"text": "other"}')
    assert Prepare(source=Files(path=str(moved))).key != before


@pytest.mark.parametrize("stop", [0, 1, 3, 8, 13])
def test_going_on_after_an_error_equals_an_undisturbed_run(corpus, tmp_path, stop, monkeypatch):
    stage = Prepare(source=Files(path=str(corpus)), held_out=0.1, shard_bytes=5_000)
    undisturbed = stage.run(context(tmp_path, "one"))
    made, make = [], Pass.__call__

    def breaks(self, part):
        if len(made) == stop:
            raise RuntimeError("power cut")
        return counts(self, part)

    def counts(self, part):
        made.append((self.number, part.number))
        return make(self, part)

    monkeypatch.setattr(Pass, "__call__", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        stage.run(context(tmp_path, "two"))
    monkeypatch.setattr(Pass, "__call__", counts)
    resumed = stage.run(context(tmp_path, "two"))
    assert len(set(made)) == len(made) > stop  # what was finished is not made again
    assert files_of(resumed) == files_of(undisturbed)
    assert resumed.manifest.summary == undisturbed.manifest.summary


@pytest.mark.parametrize(("workers", "files_before_the_kill"), [
    (1, 3), (2, 10), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((1, 30), (1, 90), (2, 80))),
])  # fmt: skip
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(corpus, tmp_path, workers, files_before_the_kill):
    stage = Prepare(source=Files(path=str(corpus)), held_out=0.1, shard_bytes=4_000)
    code = f"""
from pathlib import Path
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.readers import Files
if __name__ == "__main__":
    stage = Prepare(source=Files(path={str(corpus)!r}), held_out=0.1, shard_bytes=4_000)
    stage.run(RunContext(store=Store(Path({str(tmp_path / "two")!r})), workers={workers}, quiet=True))
"""
    script = tmp_path / "prepare.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)])
    partial = tmp_path / "two" / f"{stage.reference}.partial"
    deadline = time.monotonic() + 60
    made = set()
    while len(made) < files_before_the_kill and process.poll() is None and time.monotonic() < deadline:
        made |= {path.name for path in partial.rglob("*") if path.is_file()}
    process.send_signal(signal.SIGKILL)
    if process.wait() == 0:
        pytest.skip("it had ended before it was killed: this machine is too quick for the test")
    assert partial.exists()
    resumed = stage.run(context(tmp_path, "two"))
    resumed.verify()
    assert files_of(resumed) == files_of(stage.run(context(tmp_path, "one")))


def test_stopped_while_clearing_away_it_goes_on_to_the_same_bytes(corpus, tmp_path, monkeypatch):
    stage = Prepare(source=Files(path=str(corpus)), shard_bytes=10_000)
    undisturbed = stage.run(context(tmp_path, "one"))

    def half(path, **_):
        for file in sorted(path.glob("*.*"))[::2]:
            file.unlink()
        raise RuntimeError("power cut")

    monkeypatch.setattr("bloomery.text.engine.refine.shutil.rmtree", lambda path, **_: half(path) if path.name != "scratch" else None)
    with pytest.raises(RuntimeError, match="power cut"):
        stage.run(context(tmp_path, "two"))
    monkeypatch.undo()
    assert files_of(stage.run(context(tmp_path, "two"))) == files_of(undisturbed)


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_workers_makes_the_same_bytes(corpus, tmp_path, workers):
    filters = (Normalise(), Length(min_chars=2), ExactDuplicates(), Length(max_chars=14), ExactDuplicates())
    stage = Prepare(source=Files(path=str(corpus)), filters=filters, held_out=0.1, keep_dropped=0.5, shard_bytes=7_000)
    alone = stage.run(context(tmp_path, "one"))
    together = stage.run(dataclasses.replace(context(tmp_path, "two"), workers=workers))
    assert files_of(together) == files_of(alone)
    assert together.manifest.summary == alone.manifest.summary


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes(corpus, tmp_path):
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    stage = Prepare(source=Files(path=str(corpus)), held_out=0.1, shard_bytes=7_000)
    alone = stage.run(context(tmp_path, "one"))
    assert files_of(stage.run(dataclasses.replace(context(tmp_path, "two"), cluster="local"))) == files_of(alone)


def test_what_is_known_already_is_not_new(corpus, tmp_path):
    here = context(tmp_path)
    old = Prepare(name="old", source=Files(path=str(corpus), include=("a.jsonl",)))
    new = Prepare(name="new", source=Files(path=str(corpus), include=("b.jsonl",)), known=(old,), shard_bytes=5_000)
    seen = {row["text"].strip() for row in rows(documents(old.run(here)))}
    kept = {row["text"].strip() for row in rows(documents(new.run(here)))}
    every = {row["text"].strip() for row in rows(new.source.batches()) if row["text"].strip()}
    assert kept == every - seen
    reasons = [v["reason"] for v in pq.read_table(new.run(here).file("verdicts.parquet")).to_pylist() if v["filter"] == "ExactDuplicates"]
    assert any("/a.jsonl#" in reason for reason in reasons)  # the document that was there first is named


def test_what_went_is_kept_on_record_as_its_filter_found_it(corpus, tmp_path):
    artifact = Prepare(source=Files(path=str(corpus)), shard_bytes=10_000).run(context(tmp_path))
    verdicts = {v["id"]: v for v in pq.read_table(artifact.file("verdicts.parquet")).to_pylist() if v["action"] == "drop"}
    names = [name for name in artifact.manifest.files if name.startswith("dropped-")]
    dropped = [row for name in sorted(names) for row in pq.read_table(artifact.file(name)).to_pylist()]
    assert {row["id"]: row["filter"] for row in dropped} == {id: v["filter"] for id, v in verdicts.items()}
    assert not any("\r" in row["text"] for row in dropped)  # Normalise had been there
    less = Prepare(source=Files(path=str(corpus)), keep_dropped=0.0).run(context(tmp_path))
    assert not [name for name in less.manifest.files if name.startswith("dropped-")]


def test_what_was_measured_is_on_record_for_every_document_that_got_there(corpus, tmp_path):
    filters = (Length(max_chars=14), ExactDuplicates(), Length(min_chars=9))
    artifact = Prepare(source=Files(path=str(corpus)), filters=filters, shard_bytes=10_000).run(context(tmp_path))
    names = sorted(name for name in artifact.manifest.files if name.startswith("measures-"))
    measured = [row for name in names for row in pq.read_table(artifact.file(name)).to_pylist()]
    read = rows(Files(path=str(corpus)).batches())
    assert [row["id"] for row in measured] == [row["id"] for row in read]
    assert [row["Length[0].chars"] for row in measured] == [len(row["text"].strip()) for row in read]
    went = {v["id"]: v["filter"] for v in pq.read_table(artifact.file("verdicts.parquet")).to_pylist()}
    for row in measured:
        assert (row["Length[2].chars"] is None) == (went.get(row["id"]) in ("Length[0]", "ExactDuplicates"))
    assert artifact.manifest.summary["bounds"] == {"Length[0].chars": [1, 14], "Length[2].chars": [9, None]}


def test_nothing_left_is_an_error_with_the_funnel(corpus, tmp_path):
    with pytest.raises(DataError, match=r"no document is left.*Length dropped 3000 of 3000"):
        Prepare(source=Files(path=str(corpus)), filters=(Length(min_chars=1000),)).run(context(tmp_path))


def test_a_source_without_documents_is_an_error(tmp_path):
    (tmp_path / "x.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no document; give a source with text"):
        Prepare(source=Files(path=str(tmp_path / "x.jsonl"))).run(context(tmp_path))


def test_no_held_out_shards_unless_asked(corpus, tmp_path):
    artifact = Prepare(source=Files(path=str(corpus))).run(context(tmp_path))
    with pytest.raises(DataError, match="holds no held_out shards; prepare it with held_out"):
        shards(artifact, "held_out")


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_is_refused(corpus, share):
    with pytest.raises(ConfigError, match=r"Prepare\.held_out"):
        Prepare(source=Files(path=str(corpus)), held_out=share)


def test_a_torn_shard_is_noticed(corpus, tmp_path):
    artifact = Prepare(source=Files(path=str(corpus))).run(context(tmp_path))
    path = shards(artifact)[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="another length"):
        shards(artifact)


def test_conversations_keep_their_messages(tmp_path):
    artifact = Prepare(source=TaleConversations(count=20, questions=2)).run(context(tmp_path))
    kept = rows(documents(artifact))
    assert len(kept) == 20
    assert all([m["role"] for m in d["messages"]] == ["user", "assistant"] * 2 for d in kept)
    assert next(documents(artifact)).schema == DOCUMENTS


def test_planted_duplicates_are_all_found(tmp_path):
    source = TaleStories(count=400, dirt=Dirt(exact_duplicate=0.2))
    artifact = Prepare(source=source, filters=(ExactDuplicates(),)).run(context(tmp_path))
    planted = {row["id"] for row in rows(source.batches()) if json.loads(row["meta"])["label"] == "exact_duplicate"}
    dropped = {v["id"] for v in pq.read_table(artifact.file("verdicts.parquet")).to_pylist()}
    assert planted
    assert planted <= dropped


@pytest.mark.real
def test_real_novels_are_prepared(real_data, tmp_path):
    path = real_data / "A_text" / "english_novels_100"
    if not path.exists():
        pytest.skip(f"needs {path}")
    artifact = Prepare(source=Files(path=str(path)), shard_bytes=8 << 20).run(context(tmp_path))
    kept = rows(documents(artifact, columns=("text",)))
    assert len(kept) > 40
    assert not any("\r" in d["text"] or d["text"].startswith("\ufeff") for d in kept)
