"""Mixings in a training: told by the plan before it runs, kept in the artifact, traced from there; in the key only where they are used."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Curriculum, Given, Proportions, Ratio, Stretch, Temperature, UniMax
from bloomery.models import LlamaConfig
from bloomery.recipe import Recipe, plan
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.trace import documents_of_step, train_source
from bloomery.stages.train import Share, Train
from bloomery.store import Store
from bloomery.text.readers import TaleStories

TALES = Prepare(source=TaleStories(count=40))
FEW = Prepare(name="few", source=TaleStories(count=4, first=100))
TOKENIZER = TrainTokenizer(corpora=(TALES,), vocab_size=280)
WEB = Tokenize(name="web", corpus=TALES, tokenizer=TOKENIZER)
LAW = Tokenize(name="law", corpus=FEW, tokenizer=TOKENIZER)
MODEL = LlamaConfig(vocab_size=280, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=64)
HALVES = Curriculum(stretches=(
    Stretch(share=0.5, mixing=Proportions(of={"web": 3, "law": 1})), Stretch(share=0.5, mixing=Proportions(of={"law": 1})),
))  # fmt: skip


def training(**changes) -> Train:
    fields = {
        "tokenizer": TOKENIZER, "init": Scratch(model=MODEL), "sources": (Share(tokens=WEB), Share(tokens=LAW)), "max_seq_len": 32,
        "batch_tokens": 128, "steps": 6,
    }  # fmt: skip
    return Train(**fields | changes)


def told(stage: Train, store: Store) -> list[str]:
    """What the plan says of a training."""
    return list(plan(Recipe(name="r", wanted=(stage,)), store)[-1].preview)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    context = RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True)
    assert told(training(), context.store) == [
        "web: unknown until tokenized; its share of 768 tokens is known when all are",
        "law: unknown until tokenized; its share of 768 tokens is known when all are",
    ]
    WEB.run(context)
    first, second = told(training(), context.store)
    assert first.endswith("tokens an epoch; its share of 768 tokens is known when all are")
    assert second.startswith("law: unknown until tokenized")
    LAW.run(context)
    return context


def test_the_plan_tells_what_each_source_gives(context):
    web, law = told(training(sources=(Share(tokens=WEB, proportion=3), Share(tokens=LAW))), context.store)
    assert web.startswith("web: 75.0% of the rows, 576 tokens, 0.")
    assert law.startswith("law: 25.0% of the rows, 192 tokens, 0.")
    assert law.endswith("epochs of 4 documents")
    *_, first, second = told(training(mixing=HALVES), context.store)
    assert (first, second) == ("tokens 0 to 384: web 75.0%, law 25.0%", "tokens 384 to 768: law 100.0%")


def test_a_training_keeps_its_mixture_and_is_traced_by_it(context):
    stage = training(mixing=HALVES)
    artifact = stage.run(context)
    assert artifact.manifest.summary["mixture"] == [[0, {"web": 3, "law": 1}], [12, {"law": 1}]]
    again = train_source(artifact)
    here = stage._source({share.tokens.name: again.sources[share.tokens.name].shards for share in stage.sources})
    assert torch.equal(again.batch(0, 24).tokens, here.batch(0, 24).tokens)
    assert [{span.source for span in documents_of_step(artifact, step)} for step in (1, 4)] == [{"web", "law"}, {"law"}]


def test_no_source_is_passed_over_more_often_than_it_may(context):
    epochs = 1.5
    capped = training(sources=(Share(tokens=WEB), Share(tokens=LAW, max_epochs=epochs)), steps=60)
    law = next(line for line in told(capped, context.store) if line.startswith("law"))
    assert 1.3 < float(law.split(" tokens, ")[1].split()[0]) <= epochs
    everywhere = told(training(mixing=UniMax(max_epochs=epochs), steps=60), context.store)
    assert all(float(line.split(" tokens, ")[1].split()[0]) <= epochs for line in everywhere)
    with pytest.raises(ConfigError, match="within their max_epochs, and 20000 are wanted"):
        told(training(mixing=UniMax(max_epochs=epochs), steps=5000), context.store)


def test_larger_corpora_weigh_less_as_temperature_rises(context):
    shares = [float(told(training(mixing=Temperature(temperature=t)), context.store)[0].split()[1].rstrip("%")) for t in (1, 2, 50)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(50, abs=3)


def test_a_mixing_counts_in_the_key_only_where_it_is_used():
    assert training().key == training(mixing=Given()).key
    bounded = (Share(tokens=WEB, max_epochs=2), Share(tokens=LAW))
    changes = ({}, {"mixing": Temperature()}, {"mixing": UniMax()}, {"mixing": HALVES}, {"sources": bounded})
    assert len({training(**change).key for change in changes}) == 5


@pytest.mark.parametrize(("changes", "why"), [
    ({"mixing": Proportions(of={"law": 1, "wine": 1})}, "names 'wine', which is no source; they are web, law"),
    ({"mixing": Ratio(of={"domain": 1, "general": 2})}, "does not name the groups"),
    ({"sources": (Share(tokens=WEB, group="general"), Share(tokens=LAW, group="domain")), "mixing": Ratio(of={"domain": 1})}, "does not name"),
])  # fmt: skip
def test_mixings_that_do_not_fit_their_sources_are_refused_when_built(changes, why):
    with pytest.raises(ConfigError, match=why):
        training(**changes)


@pytest.mark.parametrize("old", [1 / 5, 1 / 10])
def test_replay_is_counted_in_tokens(context, old):
    """Whatever the lengths of documents, and at every point of the run, old tokens to new ones are as the ratio says, within a row."""
    sources = (Share(tokens=WEB, group="new"), Share(tokens=LAW, group="old"))
    stage = training(sources=sources, mixing=Ratio(of={"new": 1, "old": old}), batch_tokens=352, steps=40)
    source = stage.source(Inputs({tokens.reference: context.store.open(tokens.reference) for tokens in (WEB, LAW)}))
    for rows in (30, 77, stage.total_rows):
        count = dict.fromkeys(("web", "law"), 0)
        for span in source.documents(0, rows):
            count[span.source] += span.stop - span.start
        assert sum(count.values()) == rows * 32
        assert abs(count["law"] - old * count["web"]) <= 32 * (1 + old)
