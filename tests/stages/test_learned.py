"""Stages that learn models of texts: the same files each time, and filters that judge by them."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.stages.learned import Classified, Examples, Perplexity, TrainClassifier, TrainEmbedder, TrainNgram
from bloomery.stages.learned.sample import sample
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import SemanticDuplicates
from bloomery.text.learned.embedder import Embedder
from bloomery.text.learned.ngram import NgramModel
from bloomery.text.readers import Files, StandardLibrary, TaleStories

STORIES = Prepare(source=TaleStories(count=150), name="stories")
CODE = Prepare(source=StandardLibrary(packages=("json", "html")), name="code")
NGRAM = TrainNgram(corpus=STORIES)
KINDS = TrainClassifier(
    examples=(Examples(label="story", corpus=STORIES), Examples(label="code", corpus=CODE)), buckets=1 << 14, char_ngrams=(2, 3), held_out=0.3,
    l2=1e-3,
)  # fmt: skip
EMBEDDER = TrainEmbedder(corpus=STORIES, dim=16)
EVERY = pytest.mark.parametrize("stage", [NGRAM, KINDS, EMBEDDER], ids=lambda s: s.kind())


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True)


def batch(*texts):
    return to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])


def judge(filter, context, *texts):
    operator = pickle.loads(pickle.dumps(filter.open(lambda stage: stage.run(context).path)))
    return operator(batch(*texts))


@EVERY
def test_two_runs_make_the_same_files(tmp_path, stage, context):
    again = RunContext(store=Store(tmp_path), quiet=True)
    one, two = (stage.run(c).manifest for c in (context, again))
    assert {name: f.sha256 for name, f in one.files.items()} == {name: f.sha256 for name, f in two.files.items()}
    assert one.summary == two.summary
    assert all(name.endswith((".json", ".npy")) for name in one.files)


@EVERY
def test_an_interrupted_run_begins_again_and_ends_in_the_same_bytes(tmp_path, stage, context, monkeypatch):
    again = RunContext(store=Store(tmp_path), quiet=True)
    kind = {"TrainNgram": "ngram.write_model", "TrainClassifier": "classifier.fit", "TrainEmbedder": "embedder.directions"}[stage.kind()]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"bloomery.stages.learned.{kind}", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        stage.run(again)
    left = again.store.path(stage.reference + ".partial") / "scratch"
    left.mkdir(parents=True, exist_ok=True)  # as after kill -9
    (left / "learn-99999.npz").write_bytes(b"rubbish")
    assert stage.run(again).manifest.files == stage.run(context).manifest.files


def test_perplexity_drops_rubbish_and_templates(context):
    filter = Perplexity(model=NGRAM)
    story = next(sample(STORIES.run(context), 1 << 30)).column("text")[0].as_py()
    rubbish = "zkq vvx qqw pzt xjx " * 10
    verdicts = judge(filter, context, story, rubbish, "")
    low, high, none = verdicts.measures[0].values.to_pylist()
    assert low < 50 < 1000 < high
    assert none is None
    assert verdicts.dropped.to_pylist() == [False] * 3
    assert judge(filter.replace(max_perplexity=1000.0), context, story, rubbish, "").dropped.to_pylist() == [False, True, False]
    strict = judge(filter.replace(min_perplexity=50.0), context, story, rubbish)
    assert strict.dropped.to_pylist() == [True, False]
    assert strict.reasons.to_pylist() == ["perplexity below 50", None]


def test_the_ngram_model_says_what_it_is_made_of(context):
    artifact = NGRAM.run(context)
    summary = artifact.manifest.summary
    model = NgramModel.load(artifact.path)
    assert summary["words"] == len(model.vocabulary)
    assert [o["kept"] for o in summary["orders"][1:]] == [len(k) for k in model.keys]
    assert summary["words_read"] > summary["orders"][2]["sequences"] > summary["words"]


def test_the_classifier_tells_kinds_apart_and_says_how_well(context):
    summary = KINDS.run(context).manifest.summary
    assert summary["labels"]["story"]["auc"] > 0.99
    assert summary["accuracy"] > 0.95
    assert 0 < summary["held_out"] < summary["examples"] / 2
    assert 0 <= summary["labels"]["code"]["calibration_error"] < 0.3
    texts = "Mia went to the garden and found a red ball.", "def f(self): return x"
    verdicts = judge(Classified(model=KINDS, label="story", min_score=0.5), context, *texts)
    assert verdicts.dropped.to_pylist() == [False, True]
    assert verdicts.reasons[1].as_py() == "story score below 0.5"
    scores = [judge(Classified(model=KINDS, label=label), context, "a b").measures[0].values[0].as_py() for label in ("story", "code")]
    assert sum(scores) == pytest.approx(1)
    assert judge(Classified(model=KINDS, label="code", max_score=0.5), context, "def f(self): return x").dropped.to_pylist() == [True]


def test_examples_can_be_chosen_by_their_meta(tmp_path, context):
    rows = [{"text": f"{'lovely day' if i % 2 else 'awful rain'} number {i}", "kind": i % 2, "more": None} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = Prepare(source=Files(path=str(tmp_path / "rows.jsonl"), meta_columns=("kind",)))
    stage = TrainClassifier(examples=tuple(Examples(label=f"kind{k}", corpus=corpus, where={"kind": k}) for k in (0, 1)), buckets=1 << 10)
    assert stage.run(context).manifest.summary["examples"] == 60
    scores = judge(Classified(model=stage, label="kind1"), context, "a lovely day", "an awful rain").measures[0].values.to_pylist()
    assert scores[0] > 0.6 > 0.4 > scores[1]
    nobody = stage.replace(examples=(stage.examples[0], stage.examples[1].replace(where={"kind": 7})))
    with pytest.raises(DataError, match="no examples of 'kind1'"):
        nobody.run(context)


def test_the_embedder_is_loaded_from_its_folder(context):
    artifact = EMBEDDER.run(context)
    embedder = Embedder.load(artifact.path)
    assert embedder.dim == artifact.manifest.summary["dim"] == 16
    texts = next(sample(STORIES.run(context), 1 << 30)).column("text")[:5]
    longer = pa.array([text.as_py() + " The end." for text in texts])
    products = embedder.embed(texts) @ embedder.embed(longer).T
    assert (products.argmax(1) == np.arange(5)).all()


def test_documents_are_compared_by_a_learnt_embedder(tmp_path, context):
    said = ["the miller ran to the mill", "to the mill the miller ran", "a lantern was in the barn"]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in said))
    filters = (SemanticDuplicates(embedder=EMBEDDER, min_cosine=0.999),)
    stage = Prepare(source=Files(path=str(tmp_path / "said.jsonl")), filters=filters)
    assert EMBEDDER in stage.inputs().values()
    for workers in (1, 2):
        here = RunContext(store=Store(tmp_path / f"store{workers}"), workers=workers, quiet=True)
        kept = [row["text"] for part in documents(stage.run(here)) for row in part.to_pylist()]
        assert kept == [said[0], said[2]]  # word order means nothing to it


def test_a_sample_is_even_and_of_about_the_size(context):
    corpus = STORIES.run(context)
    ids = [id for batch in sample(corpus, 1 << 30) for id in batch.column("id").to_pylist()]
    total = sum(len(t.as_py()) for batch in sample(corpus, 1 << 30) for t in batch.column("text"))
    some = [id for batch in sample(corpus, total // 3) for id in batch.column("id").to_pylist()]
    assert len(ids) == 150
    assert 30 < len(some) < 70
    assert set(some) < set(ids)
    assert min(map(ids.index, some)) < 30 < 120 < max(map(ids.index, some))


def test_nothing_to_learn_from_is_an_error(tmp_path, context):
    (tmp_path / "dots.txt").write_text("\u200b\u200b")
    corpus = Prepare(source=Files(path=str(tmp_path / "dots.txt")))
    with pytest.raises(DataError, match="no words"):
        TrainNgram(corpus=corpus).run(context)
    with pytest.raises(DataError, match="no word is in two documents"):
        TrainEmbedder(corpus=corpus).run(context)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainNgram(corpus=STORIES, min_counts=(2, 1)), r"TrainNgram\.min_counts"),
        (lambda: TrainNgram(corpus=STORIES, min_counts=(1,)), r"TrainNgram\.min_counts"),
        (lambda: TrainNgram(corpus=STORIES, order=6), r"TrainNgram\.order"),
        (lambda: Perplexity(model=NGRAM, max_perplexity=5.0, min_perplexity=10.0), r"Perplexity\.max_perplexity=5"),
        (lambda: TrainClassifier(examples=KINDS.examples[:1]), r"TrainClassifier\.examples"),
        (lambda: KINDS.replace(char_ngrams=(3, 2)), r"TrainClassifier\.char_ngrams"),
        (lambda: Classified(model=KINDS, label="poem"), r"Classified\.label='poem' is none .* story, code are"),
        (lambda: Classified(model=KINDS, label="code", min_score=0.5, max_score=0.4), r"Classified\.max_score=0\.4"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
