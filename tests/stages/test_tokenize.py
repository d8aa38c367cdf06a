"""Tokenize: every document encoded once and in order, masks as data, the same bytes after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bloomery.core.errors import ArtifactError, DataError
from bloomery.data.encodings import Chat
from bloomery.data.shards import TokenShards
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize, in_parts
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.store import Store, Workspace
from bloomery.text.documents import DOCUMENTS, Document, conversation, to_batch, write_parquet
from bloomery.text.filters import Normalise
from bloomery.text.readers import Files
from bloomery.text.tokenizer import Tokenizer

TEXTS = [
    "The bloom is hot.", "Añil, 鉄, <|end|> & 🔥", "", "one\n\ntwo", "iron " * 40, "slag",
    "charcoal and ore", "a", "tuyère", "  spaces  ", "12345", "end",
]


class Written(Stage):
    """Stands for `Prepare`: leaves four documents per file; every third document is a conversation, the last two are held out."""

    texts: tuple[str, ...] = tuple(TEXTS)
    """Of the documents."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        documents = [Document(f"d{i}", text, "test") for i, text in enumerate(self.texts)]
        for i in range(1, len(documents), 3):
            asked = [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": self.texts[i]}]
            documents[i] = conversation(f"d{i}", "test", asked)
        kept = documents[:-2] if len(documents) > 4 else documents
        for number, begin in enumerate(range(0, len(kept), 4)):
            self._write(workspace.path / f"documents-{number:05}.parquet", kept[begin : begin + 4])
        if kept is not documents:
            self._write(workspace.path / "held_out-00000.parquet", documents[-2:])
        return {}

    @staticmethod
    def _write(path: Path, documents: list[Document]) -> None:
        write_parquet(path, pa.Table.from_batches([to_batch(documents)], DOCUMENTS))


class Trained(Stage):
    """Stands for `TrainTokenizer`."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        Tokenizer.train(TEXTS, vocab_size=300).save(workspace.path / "tokenizer.json")
        return {}


def run(root: Path, **fields) -> tuple[TokenShards, Any, Tokenizer]:
    """The shards of a `Tokenize`, its artifact, and the tokenizer."""
    context = RunContext(store=Store(root), quiet=True)
    artifact = Tokenize(**{"corpus": Written(), "tokenizer": Trained(), **fields}).run(context)
    return TokenShards.open(artifact), artifact, Tokenizer.load(Trained().run(context).file("tokenizer.json"))


def test_documents_become_begin_text_end_in_order(tmp_path):
    shards, artifact, tokenizer = run(tmp_path)
    kept = [t if i % 3 != 1 else f"Say {i}.\n\n{t}" for i, t in enumerate(TEXTS[:-2])]
    assert [shards.id(i) for i in range(len(shards))] == [f"d{i}" for i in range(10)]
    for i, text in enumerate(kept):
        ids = shards.document(i).tolist()
        assert (ids[0], ids[-1]) == (tokenizer.begin, tokenizer.end)
        assert not set(ids[1:-1]) & set(range(6))
        assert tokenizer.decode(ids) == text
        assert shards.bytes_of[i] == len(text.encode())
    assert not shards.masked
    assert (shards.pad, shards.vocab_size) == (tokenizer.pad, tokenizer.vocab_size)
    summary = artifact.manifest.summary
    assert (summary["documents"], summary["tokens"], summary["skipped_documents"]) == (10, shards.tokens, 0)
    assert summary["bytes"] == sum(len(text.encode()) for text in kept)
    assert artifact.manifest.files["tokens-00001.bin"].counts == {"tokens": int(shards.lengths[4:8].sum())}


def test_the_held_out_split_holds_the_held_out_documents(tmp_path):
    shards, _, tokenizer = run(tmp_path, split="held_out")
    assert [shards.id(i) for i in range(len(shards))] == ["d10", "d11"]
    assert tokenizer.decode(shards.document(1).tolist()) == "end"


def test_conversations_learn_what_the_assistant_says_and_its_end(tmp_path):
    shards, artifact, tokenizer = run(tmp_path, encoding=Chat())
    assert [shards.id(i) for i in range(len(shards))] == ["d1", "d4", "d7"]
    for i, text in enumerate((TEXTS[1], TEXTS[4], TEXTS[7])):
        ids, mask = shards.document(i), shards.mask(i).astype(bool)
        learnt = ids[mask].tolist()
        assert learnt[-1] == tokenizer.end
        assert tokenizer.decode(learnt) == text
        assert int(np.sum(ids == tokenizer.begin)) == 1
        assert tokenizer.decode_markup(ids.tolist()).startswith("<|begin|><|user|>Say ")
    summary = artifact.manifest.summary
    assert summary["skipped_documents"] == 7
    assert summary["learnt"] == sum(int(shards.mask(i).sum()) for i in range(3)) < summary["tokens"]


def test_kill_in_the_middle_then_resume_leaves_the_same_bytes(tmp_path):
    _, whole, _ = run(tmp_path / "whole")
    run(tmp_path / "killed", encoding=Chat())  # the inputs are there; the stage itself is not
    script = (
        "import os, sys, pathlib\n"
        "from bloomery.data.encodings import Plain\n"
        "from tests.stages.test_tokenize import run\n"
        "encode, calls = Plain.encode, []\n"
        "def killed(self, documents, tokenizer):\n"
        "    for i, document in enumerate(encode(self, documents, tokenizer)):\n"
        "        calls.append(i)\n"
        "        if len(calls) == 7:\n"
        "            os.kill(os.getpid(), 9)\n"
        "        yield document\n"
        "Plain.encode = killed\n"
        "run(pathlib.Path(sys.argv[1]))\n"
    )
    root = Path(__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], cwd=root, capture_output=True, timeout=120)
    assert child.returncode == -9, child.stderr.decode()
    [partial] = (tmp_path / "killed" / "Tokenize").glob("*.partial")
    assert (partial / "documents-00000.arrow").exists()
    assert not (partial / "documents-00001.arrow").exists()
    first = (partial / "tokens-00000.bin").stat()
    _, resumed, _ = run(tmp_path / "killed")
    assert {name: record.sha256 for name, record in resumed.manifest.files.items()} == {n: r.sha256 for n, r in whole.manifest.files.items()}
    assert resumed.manifest.summary == whole.manifest.summary
    assert (resumed.path / "tokens-00000.bin").stat().st_ino == first.st_ino  # went on, did not begin again


def test_a_prepared_folder_is_trained_on_from_either_split(tmp_path):
    folder = tmp_path / "novels"
    folder.mkdir()
    texts = {f"{i:02}.txt": f"Chapter {i}. " + "The bloom is hot; the slag runs. " * (i + 1) for i in range(40)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    corpus = Prepare(source=Files(path=str(folder)), filters=(Normalise(),), held_out=0.2, shard_bytes=4000)
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=300)
    found = {}
    for split in ("train", "held_out"):
        shards, _, _ = run(tmp_path / "store", corpus=corpus, tokenizer=tokenizer, split=split)
        backend = Tokenizer.load(tokenizer.run(RunContext(store=Store(tmp_path / "store"), quiet=True)).file("tokenizer.json"))
        found[split] = {shards.id(i): backend.decode(shards.document(i).tolist()).strip() for i in range(len(shards))}
    assert found["train"]
    assert found["held_out"]
    assert not found["train"].keys() & found["held_out"].keys()
    assert sorted((found["train"] | found["held_out"]).values()) == sorted(text.strip() for text in texts.values())


def test_a_corpus_without_conversations_is_refused_under_chat(tmp_path):
    with pytest.raises(DataError, match=r"nothing to learn in 1 documents under Chat; use Plain\(\)"):
        run(tmp_path, corpus=Written(texts=("one",)), encoding=Chat())


def test_a_missing_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="no documents in split='held_out'"):
        run(tmp_path, corpus=Written(texts=("one",)), split="held_out")


def test_a_conversation_out_of_order_is_refused_by_its_id(tmp_path):
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    good = conversation("good", "t", [{"role": "user", "content": "a"}])
    bad = conversation("posts#7", "t", [{"role": "assistant", "content": "a"}])
    with pytest.raises(DataError, match="document 'posts#7': messages\\[0\\]"):
        list(Chat().encode(to_batch([good, bad]), tokenizer))


def test_changed_documents_are_found_before_they_are_encoded(tmp_path):
    context = RunContext(store=Store(tmp_path), quiet=True)
    path = Written().run(context).path / "documents-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"documents-00001\.parquet does not have the checksum"):
        run(tmp_path)


@pytest.mark.parametrize("size", [1, 30, 1000])
def test_parts_hold_all_documents_in_order_within_their_size(size):
    batch = to_batch([Document(f"d{i}", text, "t") for i, text in enumerate(TEXTS)])
    parts = list(in_parts(batch, size))
    assert [name for part in parts for name in part.column("id").to_pylist()] == [f"d{i}" for i in range(len(TEXTS))]
    for part in parts:
        texts = part.column("text").to_pylist()
        assert sum(len(t.encode()) for t in texts) <= size or len([t for t in texts if t]) == 1
    assert (len(parts) == 1) == (size == 1000)


def test_two_workers_leave_the_same_bytes(tmp_path):
    _, alone, _ = run(tmp_path / "alone", encoding=Chat())
    stage = Tokenize(corpus=Written(), tokenizer=Trained(), encoding=Chat())
    together = stage.run(RunContext(store=Store(tmp_path / "together"), quiet=True, workers=2))
    assert len([name for name in together.manifest.files if name.endswith(".arrow")]) == 3
    assert {n: r.sha256 for n, r in together.manifest.files.items()} == {n: r.sha256 for n, r in alone.manifest.files.items()}
    assert together.manifest.summary == alone.manifest.summary
