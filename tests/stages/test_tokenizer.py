"""TrainTokenizer: a tokenizer.json from prepared documents, the same each time."""

import pytest

from bloomery.core.errors import ConfigError
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenizer import TrainTokenizer, load_tokenizer, texts
from bloomery.store import Store
from bloomery.text.readers import StandardLibrary, TaleStories

STORIES = Prepare(source=TaleStories(count=200), name="stories")
CODE = Prepare(source=StandardLibrary(packages=("json",)), name="code")


def context(tmp_path, name="store"):
    return RunContext(store=Store(tmp_path / name), quiet=True)


def test_it_learns_from_all_its_corpora_and_says_how_well(tmp_path):
    artifact = TrainTokenizer(corpora=(STORIES, CODE), vocab_size=1000).run(context(tmp_path))
    tokenizer = load_tokenizer(artifact)
    assert tokenizer.vocab_size == artifact.manifest.summary["vocab_size"] == 1000
    assert {b" the", b" self"} <= set(tokenizer.token_bytes)
    assert artifact.manifest.summary["bytes_per_token"].keys() == {STORIES.reference, CODE.reference}
    assert all(2 < value < 8 for value in artifact.manifest.summary["bytes_per_token"].values())


def test_two_runs_make_the_same_file(tmp_path):
    stage = TrainTokenizer(corpora=(STORIES,), vocab_size=500)
    one, two = (stage.run(context(tmp_path, name)).manifest.files for name in ("one", "two"))
    assert one["tokenizer.json"].sha256 == two["tokenizer.json"].sha256


def test_the_sample_is_shared_evenly(tmp_path):
    artifact = TrainTokenizer(corpora=(STORIES, CODE), vocab_size=400, sample_bytes=20_000).run(context(tmp_path))
    assert artifact.manifest.summary["sample_bytes"] == pytest.approx(20_000, abs=8)
    assert sum(len(t.encode()) for t in texts(STORIES.run(context(tmp_path)), 10_000)) == pytest.approx(10_000, abs=4)


def test_a_small_corpus_yields_what_it_can(tmp_path):
    artifact = TrainTokenizer(corpora=(Prepare(source=TaleStories(count=1)),), vocab_size=4000).run(context(tmp_path))
    assert 262 < artifact.manifest.summary["vocab_size"] < 4000


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"TrainTokenizer\.corpora"):
        TrainTokenizer(corpora=())
    with pytest.raises(ConfigError, match=r"TrainTokenizer\.vocab_size=100"):
        TrainTokenizer(corpora=(STORIES,), vocab_size=100)
