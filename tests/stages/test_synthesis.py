"""Synthetic rows: what is written is kept, where it came from is known, and each check drops what it is there for."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from bloomery.core.errors import ConfigError, DataError, ResourceError
from bloomery.generate import Access, OneOf, Random
from bloomery.models import read_model
from bloomery.nn import SequenceLayout
from bloomery.stages.init import Scratch
from bloomery.stages.left_by import LeftBy
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.stages.synthesis import Answered, Endpoint, Judged, Likelihood, Ours, Synthesize, generator
from bloomery.stages.synthesis.compared import TaleTruth
from bloomery.stages.synthesis.judges import plainly
from bloomery.store import Store
from bloomery.text.chat import ChatTemplate
from bloomery.text.filters import Asked, Length, ReadDrafts
from bloomery.text.instructions import FewShot
from bloomery.text.readers import Files, TaleConversations, TaleStories
from bloomery.text.tales import Tales
from bloomery.text.tokenizer import Tokenizer
from tests.stages.oracle import ROOT, Running
from tests.stages.test_train import MODEL, training

BOOK = Tales(size="tiny")
SEEDS = Prepare(name="seeds", source=TaleConversations(tales=BOOK, count=8, questions=2))
ABOUT = Prepare(name="about", source=TaleStories(tales=BOOK, first=100, count=9))
SMALL = training(name="small", steps=1, init=Scratch(model=MODEL.replace(vocab_size=300, max_seq_len=2048)))
LICENCE = "made for a test; nobody may mind"
QUICK = Access(wait_s=0.01, timeout_s=0.5, at_once=3)
SLOW_TEST = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, access=QUICK)


def by_us(**changes) -> Synthesize:
    fields = {"name": "ours", "seeds": SEEDS, "about": ABOUT, "generator": Ours(model=SMALL, max_new_tokens=8), "count": 20, "licence": LICENCE}
    return Synthesize(**fields | changes)


def by_endpoint(url: str, **changes) -> Synthesize:
    return by_us(**{"name": "theirs", "generator": Endpoint(url=url, model="oracle"), "count": 40} | changes)


def rows(artifact) -> list[dict]:
    return [row for batch in documents(artifact) for row in batch.to_pylist()]


def bytes_of(artifact) -> dict[str, str]:
    return {name: record.sha256 for name, record in artifact.manifest.files.items()}


def elsewhere(context: RunContext, folder: Path) -> RunContext:
    return RunContext(store=Store(folder), quiet=True, access=context.access)


def test_each_draft_says_what_it_was_made_of(context):
    artifact = by_us().run(context)
    drafts = rows(artifact)
    assert len(drafts) == 20
    known = {row["id"] for row in rows(SEEDS.run(context))}
    texts = {row["id"]: row["text"] for row in rows(ABOUT.run(context))}
    for row in drafts:
        meta = json.loads(row["meta"])
        assert len(meta["seeds"]) == 3
        assert {seed.partition("#")[0] for seed in meta["seeds"]} <= known
        assert meta["generator"] == SMALL.reference
        assert meta["licence"] == LICENCE
        assert meta["prompt"][-1]["content"].startswith(texts[meta["about"]])
        assert meta["passage"] == texts[meta["about"]]
    assert artifact.manifest.summary["licence"] == artifact.manifest.fields["licence"] == LICENCE
    assert len({json.loads(row["meta"])["sampling_seed"] for row in drafts}) == 20


def test_our_drafts_are_the_same_whatever_was_there_already(context, tmp_path, monkeypatch):
    stage, whole = by_us(), by_us().run(context)
    monkeypatch.setattr(generator, "AT_ONCE", 6)
    there = elsewhere(context, tmp_path)
    for needed in stage.inputs().values():
        needed.run(there)
    partial = there.store.workspace(stage.reference).path / "written.jsonl"
    lines = whole.file("written.jsonl").read_text().splitlines(keepends=True)
    partial.write_text(lines[8] + lines[3] + lines[0] + lines[12][:20])  # out of order, and torn at the end
    assert bytes_of(stage.run(there)) == bytes_of(whole)


def test_faults_are_waited_out_and_every_prompt_is_answered_once(context, tmp_path):
    with Running(tmp_path / "log", "429,cut,garbage,500", key="s3cret") as oracle:
        there = RunContext(store=context.store, quiet=True, access=Access(key="s3cret", wait_s=0.01, timeout_s=5.0, at_once=4))
        artifact = by_endpoint(oracle.url, count=12).run(there)
        asked = Counter(oracle.asked())
    prompts = {digest for digest, _ in asked}
    assert all(asked[digest, said] == 1 for digest in prompts for said in ("429", "cut", "garbage", "500", "200"))
    assert artifact.manifest.summary["asked_again"] == 4 * 12
    for path in context.store.root.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), f"the key is in {path}"


def test_a_late_answer_is_asked_for_again(context, tmp_path):
    with Running(tmp_path / "log", "slow") as oracle:
        artifact = by_endpoint(oracle.url, name="late", count=2).run(context)
    assert artifact.manifest.summary["asked_again"] == 2


def test_a_server_that_stays_away_ends_it_and_what_was_said_stays(context, tmp_path):
    with Running(tmp_path / "log", "500,500,500,500,500,500") as oracle, pytest.raises(ResourceError, match="answers 500 \\(later\\), 6 times"):
        by_endpoint(oracle.url, name="away", count=2).run(context)
    with Running(tmp_path / "log2", key="right") as oracle:
        stage = by_endpoint(oracle.url, name="locked", count=2)
        wrong = RunContext(store=context.store, quiet=True, access=Access(key="wrong0"))
        with pytest.raises(ConfigError, match="--key-file") as told:
            stage.run(wrong)
        assert "wrong0" not in str(told.value)
    with pytest.raises(ConfigError, match="in the clear"):
        by_endpoint("http://example.org/v1", name="clear", count=2).run(wrong)
    with pytest.raises(ConfigError, match="no address"):
        Endpoint(url="example.org", model="m")


def test_a_prompt_that_is_refused_is_on_record_and_the_others_go_on(context, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "short enough"}\n{"text": "this is too long"}\n')
    about = Prepare(name="two", source=Files(path=str(tmp_path / "texts.jsonl")))
    with Running(tmp_path / "log") as oracle:
        drafted = by_endpoint(oracle.url, name="refused", about=about, count=10)
        drafted.run(context)
    read = Prepare(name="of_refused", source=LeftBy(stage=drafted), filters=(ReadDrafts(),)).run(context)
    gone = {row["reason"]: row for row in pq.read_table(read.file("verdicts.parquet")).to_pylist() if row["action"] == "drop"}
    assert "refused: 400 (too many tokens)" in gone
    assert rows(read)


START = """
import sys
from pathlib import Path
from bloomery.generate import Access
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from tests.stages.test_synthesis import by_endpoint
by_endpoint(sys.argv[2]).run(RunContext(store=Store(Path(sys.argv[1])), quiet=True, access=Access(at_once=2, wait_s=0.01)))
"""


@SLOW_TEST
def test_killed_in_the_middle_nothing_is_asked_twice_that_was_answered(context, tmp_path):
    with Running(tmp_path / "log", delay_s=0.05) as oracle:
        stage, store = by_endpoint(oracle.url), tmp_path / "store"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-c", START, str(store), oracle.url]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        journal = store / f"{stage.reference}.partial/written.jsonl"
        while not journal.exists() or journal.read_bytes().count(b"\n") < 12:
            assert process.poll() is None, "it was done before it was killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        acknowledged = [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
        before = Counter(digest for digest, _ in oracle.asked())
        artifact = stage.run(elsewhere(context, store))
        after = Counter(digest for digest, _ in oracle.asked())
        undisturbed = stage.run(elsewhere(context, tmp_path / "undisturbed"))
    assert bytes_of(artifact) == bytes_of(undisturbed)
    assert len(acknowledged) >= 12
    lines = {line["number"]: line for line in map(json.loads, artifact.file("written.jsonl").read_text().splitlines())}
    assert all(lines[line["number"]] == line for line in acknowledged)
    repeated = {digest for digest in before if after[digest] > before[digest]}
    assert len(before) - len(repeated) >= len(acknowledged), "what was acknowledged has been asked again"
    assert len(repeated) <= 2  # under way when it was killed


def test_checks_drop_what_they_are_for_and_the_record_can_be_read(context, tmp_path):
    with Running(tmp_path / "log") as oracle:
        drafted = by_endpoint(oracle.url, name="checked", about=None, prompt=FewShot(shots=1), count=60)
        drafted.run(context)
    # without texts there are no more prompts than seeds, and the oracle says the same to the same prompt
    filters = (ReadDrafts(), Length(min_chars=10), Asked())
    checked = Prepare(name="checks", source=LeftBy(stage=drafted), known=(SEEDS,), filters=filters)
    artifact = checked.run(context)
    kept, gone = rows(artifact), pq.read_table(artifact.file("dropped-00000.parquet")).to_pylist()
    assert len(kept) + len(gone) == 60
    assert 0 < len(kept) <= 16
    assert len({row["messages"][0]["content"] for row in kept}) == len(kept)
    assert all(row["messages"][1]["content"].startswith("It is ") for row in kept)
    reasons = Counter(row["reason"].split(" of ")[0] for row in pq.read_table(artifact.file("verdicts.parquet")).to_pylist())
    assert reasons["duplicate"] > 0
    assert all(json.loads(row["meta"])["licence"] == LICENCE for row in kept)


def test_a_question_that_a_seed_asks_goes(context, tmp_path):
    seed = rows(SEEDS.run(context))[0]["messages"]
    (tmp_path / "drafts.jsonl").write_text("".join(
        json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Another answer."}]}) + "\n"
        for asked in (seed[0]["content"].upper(), "\n\n".join(m["content"] for m in seed if m["role"] == "user"), "Something new?")
    ))  # fmt: skip
    found = Prepare(source=Files(path=str(tmp_path / "drafts.jsonl")), known=(SEEDS,), filters=(Asked(),)).run(context)
    assert [row["messages"][0]["content"] for row in rows(found)] == [seed[0]["content"].upper(), "Something new?"]


def test_a_row_stays_if_the_second_model_answers_as_it_does(context, tmp_path):
    asked = [f"Is it {i}?" for i in range(6)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"instruction": text, "output": "?"}) + "\n" for text in asked))
    first = Prepare(name="first", source=Files(path=str(tmp_path / "a.jsonl")))
    by = Ours(model=SMALL, max_new_tokens=6)
    told = Answered(name="first", corpus=first, by=by).run(context)
    answers = [answers[0] for answers in pq.read_table(told.file("judgements-00000.parquet"))["answers"].to_pylist()]
    mine = [answer if i % 2 and plainly(answer) else "certainly not" for i, answer in enumerate(answers)]
    assert {answer == "certainly not" for answer in mine} == {True, False}
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"instruction": t, "output": a}) + "\n" for t, a in zip(asked, mine, strict=True)))
    second = Prepare(name="second", source=Files(path=str(tmp_path / "b.jsonl")), filters=())
    kept = Prepare(name="kept", source=LeftBy(stage=second), filters=(Judged(by=Answered(corpus=second, by=by)),)).run(context)
    assert [row["messages"][1]["content"] for row in rows(kept)] == [answer for answer in mine if answer != "certainly not"]
    measures = pq.read_table(kept.file("measures-00000.parquet")).to_pydict()
    assert measures["Judged.answered_alike"] == [float(answer != "certainly not") for answer in mine]


def test_what_is_written_is_held_to_what_rules_allow(context):
    by = Ours(model=SMALL, rules=(OneOf(texts=("yes, often", "no")),), max_new_tokens=24)
    assert {row["text"] for row in rows(by_us(name="held", generator=by, count=6).run(context))} <= {"yes, often", "no"}


def test_likelihood_is_that_of_the_answer_token_by_token(context):
    table = pq.read_table(Likelihood(corpus=SEEDS, by=SMALL).run(context).file("judgements-00000.parquet")).to_pylist()
    trained = SMALL.run(context)
    model = read_model(trained.path / "model")[1].eval()
    tokenizer = Tokenizer.load(trained.path / "tokenizer/tokenizer.json")
    for row, found in zip(rows(SEEDS.run(context)), table, strict=True):
        ids, mask = ChatTemplate().render(row["messages"], tokenizer)
        last = len(tokenizer.encode(row["messages"][-1]["content"])) + 1
        assert all(mask[-last:])
        with torch.no_grad():
            logprobs = model(torch.tensor([ids]), SequenceLayout.rows(1, len(ids)))[0].log_softmax(-1)
        naive = sum(float(logprobs[i - 1, ids[i]]) for i in range(len(ids) - last, len(ids))) / last
        assert found["value"] == pytest.approx(torch.tensor(naive).exp().item(), rel=1e-4)


def test_the_truth_of_tales_tells_right_rows_from_wrong_ones(context, tmp_path):
    tale = BOOK.tale(100)
    question = tale.questions[0]
    lines = [(question.text, question.answer), (question.text, "They say nothing"), ("Who was Shakespeare?", "They say nothing")]
    (tmp_path / "rows.jsonl").write_text("".join(
        json.dumps({"instruction": f"{tale.text}\n\n{q}", "output": a, "about": tale.id}) + "\n" for q, a in lines
    ))  # fmt: skip
    corpus = Prepare(name="rows", source=Files(path=str(tmp_path / "rows.jsonl"), meta_columns=("about",)))
    told = TaleTruth(corpus=corpus, tales=BOOK).run(context).manifest.summary
    assert (told["rows"], told["can_be_asked"], told["right"]) == (3, 2, 1)
    for index in range(30):
        tale = BOOK.tale(index)
        assert all(BOOK.answers(index)[q.text] == q.answer for q in tale.questions)


def test_a_sample_is_of_the_size_of_another_corpus_and_refuses_to_be_read_alone(context):
    few = Prepare(name="few", source=TaleStories(tales=BOOK, count=4))
    sampled = Prepare(name="sampled", source=LeftBy(stage=ABOUT, as_many_as=few), filters=()).run(context)
    assert len(rows(sampled)) == 4
    assert {row["id"] for row in rows(sampled)} <= {row["id"] for row in rows(ABOUT.run(context))}
    with pytest.raises(DataError, match="only a stage has at hand"):
        next(LeftBy(stage=ABOUT).batches())


def test_a_generator_without_a_template_goes_on_with_text(context):
    artifact = by_us(name="base", generator=Ours(model=SMALL, template=None, sampler=Random(top_k=5), max_new_tokens=8), count=3).run(context)
    assert all("\n\n" not in row["text"] for row in rows(artifact))
    assert artifact.manifest.inputs["generator.model"] == SMALL.reference
