"""Ensembles of trained members: over seeds and folds, for labels and for next tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Fit, TellLabels
from bloomery.data.encodings import Chat
from bloomery.data.folds import Fold
from bloomery.data.labelled import Choices
from bloomery.models import LlamaConfig, MultipleChoiceConfig, read_model
from bloomery.nn import LastPoolingConfig
from bloomery.objectives import HeadCrossEntropy
from bloomery.optim import AdamW, Embeddings, Everything
from bloomery.stages.ensemble import Ensemble
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.examine import Examine
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.soup import Soup
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store, lineage, read_json
from bloomery.text.readers import Files, Rows, TaleConversations
from bloomery.text.tales import Tales

MODEL = LlamaConfig(vocab_size=320, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=64)
WORDS = ("stone", "river", "table", "cloud", "happy", "gloomy")
TEST = Fold(number=0, of=4)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Prepare:
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("rows") / "which.jsonl"
    rows = []
    for number in range(120):
        right = int(rng.integers(2))
        texts = [f"{rng.choice(WORDS[:4])} {WORDS[4] if i == right else WORDS[5]}" for i in range(2)]
        rows.append({"prompt": f"which of {number}", "A": texts[0], "B": texts[1], "answer": "AB"[right]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Prepare(name="which", source=Files(path=str(path), rows=Rows(form="columns")), filters=())


@pytest.fixture(scope="module")
def tokenizer(corpus) -> TrainTokenizer:
    return TrainTokenizer(corpora=(corpus,), vocab_size=300)


def rows(corpus, tokenizer, name, *folds) -> Tokenize:
    encoding = Choices(head="which", choices=("A", "B"), count=2, max_tokens=32, folds=folds)
    return Tokenize(name=name, corpus=corpus, tokenizer=tokenizer, encoding=encoding)


def member(corpus, tokenizer, number, init=None, *folds, **changes) -> Train:
    head = MultipleChoiceConfig(name="which", n_choices=2, pooling=LastPoolingConfig())
    learnt = rows(corpus, tokenizer, f"learnt_{number}", TEST.replace(side="others"), *folds)
    return Train(
        name=f"member_{number}", tokenizer=tokenizer, init=HeadsOn(init=init or Scratch(model=MODEL), heads=(head,)),
        sources=(Share(tokens=learnt),), packing=Fit(), task=TellLabels(classes=("which",)), objective=HeadCrossEntropy(head="which"),
        max_seq_len=64, batch_tokens=256, steps=3, optimizer=AdamW(learning_rate=1e-2), seed=number, **changes,
    )  # fmt: skip


def told(context, model, test) -> dict[str, np.ndarray]:
    lines = (Examine(name=model.name, model=model, rows=test).run(context).path / "predictions.jsonl").read_text().splitlines()
    return {line["id"]: np.array(line["scores"]) for line in map(json.loads, lines)}


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_members_of_several_folds_are_examined_as_one_by_their_mean(context, corpus, tokenizer, mean):
    members = tuple(member(corpus, tokenizer, k, None, Fold(number=k, of=3, side="others", seed=1)) for k in range(3))
    together, test = Ensemble(name=mean, members=members, mean=mean), rows(corpus, tokenizer, "test", TEST)
    each, found = [told(context, one, test) for one in members], told(context, together, test)
    for id, scores in found.items():
        own = [one[id] for one in each]
        odds = [np.exp(one) / np.exp(one).sum() for one in own]
        naive = sum(own) / 3 if mean == "logits" else np.log(sum(odds) / 3)
        assert scores == pytest.approx(naive, abs=1e-5)
    assert len(found) == len(each[0]) > 10


def test_one_alone_is_examined_as_it_is(context, corpus, tokenizer):
    test, one = rows(corpus, tokenizer, "test", TEST), member(corpus, tokenizer, 0)
    own, alone = told(context, one, test), told(context, Ensemble(name="alone", members=(one,)), test)
    assert all((own[id] == alone[id]).all() for id in own)


def test_what_members_took_from_one_base_and_left_is_kept_once(context, corpus, tokenizer):
    text = Tokenize(name="text", corpus=corpus, tokenizer=tokenizer)
    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=MODEL), sources=(Share(tokens=text),), max_seq_len=64, batch_tokens=256, steps=2,
    )  # fmt: skip
    frozen = Everything() - Embeddings()
    members = tuple(member(corpus, tokenizer, k, Continue(base=base), trainable=frozen) for k in (5, 6))
    artifact = Ensemble(name="shared", members=members).run(context)
    assert read_json(artifact.path / "ensemble.json")["shared"] == ["base.embedding.weight"]
    one = read_model(members[0].run(context).path / "model")[1]
    assert artifact.manifest.summary["parameters"] == 2 * sum(p.numel() for p in one.parameters()) - one.base.embedding.weight.numel()
    tree = lineage(artifact.reference, context.store)
    assert all(stage.reference in str(tree) for stage in (*members, base))


def test_answers_are_written_by_an_ensemble(context, corpus, tokenizer):
    talks = Prepare(name="talks", source=TaleConversations(tales=Tales(size="tiny"), count=4, questions=2))
    words = Tokenize(name="talks", corpus=talks, tokenizer=tokenizer, encoding=Chat())
    decoder = MODEL.replace(max_seq_len=1024)

    def talker(number: int) -> Train:
        return Train(
            name=f"talker_{number}", tokenizer=tokenizer, init=Scratch(model=decoder), sources=(Share(tokens=words),), packing=Fit(),
            max_seq_len=512, batch_tokens=512, steps=1, seed=number,
        )  # fmt: skip

    one = talker(0)
    asked = {"questions": talks, "max_new_tokens": 3}
    alone = Evaluate(name="one", model=one, **asked).run(context)
    same = Evaluate(name="twice", model=Ensemble(name="twice", members=(one, one)), **asked).run(context)
    assert (same.path / "answers.jsonl").read_text() == (alone.path / "answers.jsonl").read_text()
    assert Evaluate(name="two", model=Ensemble(name="two", members=(one, talker(1))), **asked).run(context).manifest.summary["asked"] == 8


def test_members_of_other_tokenizers_and_going_on_with_several_are_refused(corpus, tokenizer):
    one, other = member(corpus, tokenizer, 0), member(corpus, tokenizer.replace(vocab_size=290), 1)
    with pytest.raises(ConfigError, match="only models of one tokenizer speak of the same tokens"):
        Ensemble(members=(one, other))
    with pytest.raises(ConfigError, match=r"several models, which are not trained as one; .* a Soup of them"):
        Continue(base=Ensemble(members=(one,)))
    assert Soup(models=(one, member(corpus, tokenizer, 1))).architecture == Ensemble(members=(one,)).architecture.members[0]
