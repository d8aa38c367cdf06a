"""TrainTokenizer: a tokenizer.json from prepared documents, the same each time."""

import json

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import CompareTokenizers, LoadTokenizer, TrainTokenizer, load_tokenizer, texts
from bloomery.store import Store
from bloomery.text.readers import StandardLibrary, TaleStories
from bloomery.text.tokenizer import ByteBPE, Bytes, Gpt4, Words

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
    with pytest.raises(ConfigError, match=r"TrainTokenizer\.vocab_size=100 cannot hold .* 262 is the least"):
        TrainTokenizer(corpora=(STORIES,), vocab_size=100)
    with pytest.raises(ConfigError, match=r"TrainTokenizer\.vocab_size=4096 is more than Bytes has tokens for; 263 is the most"):
        TrainTokenizer(corpora=(STORIES,), model=Bytes(), roles=("tool",))
    with pytest.raises(ConfigError, match=r"TrainTokenizer\.roles=\('end',\) names 'end' twice"):
        TrainTokenizer(corpora=(STORIES,), roles=("end",))
    with pytest.raises(ConfigError, match=r"CompareTokenizers\.tokenizers=\(\) names nothing"):
        CompareTokenizers(corpora=(STORIES,), tokenizers=())


def test_the_default_model_is_no_part_of_the_identity():
    stage = TrainTokenizer(corpora=(STORIES,))
    assert stage.key == TrainTokenizer(corpora=(STORIES,), model=ByteBPE(split=Gpt4(max_digits=3))).key
    assert stage.key != TrainTokenizer(corpora=(STORIES,), model=ByteBPE(split=Gpt4(max_digits=1))).key


def test_a_model_of_another_kind_says_what_it_loses(tmp_path):
    artifact = TrainTokenizer(corpora=(STORIES,), vocab_size=500, model=Words(), roles=("tool",)).run(context(tmp_path))
    assert artifact.manifest.summary["loses"] == ["which white space stood between words", "what is outside the vocabulary"]
    assert load_tokenizer(artifact).roles["tool"] == 6


def test_a_loaded_tokenizer_serves_as_a_trained_one_does(tmp_path, capsys):
    trained = load_tokenizer(TrainTokenizer(corpora=(STORIES,), vocab_size=500).run(context(tmp_path)))
    plain = json.loads(trained._json.replace("<|pad|>", "<|filler|>"))
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tokenizer.json").write_text(json.dumps(plain))
    stage, moved = LoadTokenizer(path=str(tmp_path / "here")), LoadTokenizer(path=str(tmp_path / "there" / "tokenizer.json"))
    assert stage.key == moved.key
    artifact = stage.run(RunContext(store=Store(tmp_path / "store")))
    said = capsys.readouterr().out
    assert "begin is <|begin|>, end is <|end|>" in said
    assert "<|pad|> are added as ids 500 to 500" in said
    loaded = load_tokenizer(artifact)
    assert (loaded.pad, loaded.vocab_size, stage.vocab_size) == (500, 501, 501)
    assert loaded.encode("The farmer went home.") == trained.encode("The farmer went home.")
    assert Tokenize(corpus=STORIES, tokenizer=stage).run(context(tmp_path)).manifest.summary["vocab_size"] == 501
    plain["added_tokens"][0]["lstrip"] = True
    (tmp_path / "there" / "tokenizer.json").write_text(json.dumps(plain))
    assert LoadTokenizer(path=str(tmp_path / "there")).key != stage.key
    with pytest.raises(DataError, match="does not exist; give a tokenizer's file"):
        _ = LoadTokenizer(path=str(tmp_path / "nowhere")).key


def test_tokenizers_are_compared_on_the_same_documents(tmp_path):
    coarse, fine = (TrainTokenizer(name=name, corpora=(STORIES,), vocab_size=size) for name, size in (("coarse", 300), ("fine", 900)))
    artifact = CompareTokenizers(corpora=(STORIES, CODE), tokenizers=(coarse, fine), sample_bytes=40_000).run(context(tmp_path))
    found = json.loads(artifact.file("fertility.json").read_text())
    assert found["overall"]["coarse"]["tokens_per_word"] > found["overall"]["fine"]["tokens_per_word"] > 1
    assert artifact.file("fertility.txt").read_text().splitlines()[1].split() == ["coarse", "fine"]
    sizes = [row["size"]["bytes"] for row in found["languages"].values()]
    assert 40_000 <= sum(sizes) < 120_000
