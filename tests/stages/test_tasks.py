"""From labelled rows in a file to a trained head and a measured score: classes, tags, choices, numbers, on encoders and decoders."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import BothWays, Cut, Fit, MaskedTokens, TellLabels
from bloomery.data.alike import Likeness, Matches
from bloomery.data.encodings import Plain
from bloomery.data.labelled import Choices, Classes, Numbers, Tags
from bloomery.evals.metrics import mean_average_precision
from bloomery.models import AdaptedConfig, BertConfig, LlamaConfig, TaskConfig, read_model
from bloomery.models.heads import (
    MultipleChoiceConfig,
    RegressionConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TokenClassificationConfig,
)
from bloomery.nn import LastPoolingConfig, MeanPoolingConfig
from bloomery.nn.adapters import LoRA
from bloomery.objectives import CausalLM, CoSENT, CosineSquaredError, HeadCrossEntropy, HeadSquaredError, InfoNCE
from bloomery.optim import AdamW, Constant, Embeddings, Everything, Geometric, Heads
from bloomery.stages.examine import Examine
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.store import Store, read_json
from bloomery.text.readers import Files, Rows

SIZES = {"vocab_size": 320, "d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 64}
LLAMA, BERT = LlamaConfig(d_ff=64, **SIZES), BertConfig(d_ff=64, **SIZES)
LAST = LastPoolingConfig()
GLAD, SAD, NEUTRAL = ("happy", "merry", "bright"), ("gloomy", "bitter", "bleak"), ("stone", "river", "table", "cloud", "door", "lamp")


def words(rng, n=5) -> list[str]:
    return [str(word) for word in rng.choice(NEUTRAL, n)]


def mood_rows(rng, n):
    """Which mood one word among neutral ones is of, and how strongly it is felt: 1 for each such word."""
    for _ in range(n):
        label, text = int(rng.integers(2)), words(rng)
        text[int(rng.integers(5))] = str(rng.choice((SAD, GLAD)[label]))
        yield {"text": " ".join(text), "label": ("sad", "glad")[label], "score": 2.0 * label - 1}


def tag_rows(rng, n):
    for _ in range(n):
        text = [str(rng.choice(GLAD)) if rng.random() < 0.3 else word for word in words(rng)]
        yield {"words": text, "tags": ["B-JOY" if word in GLAD else "O" for word in text]}


def choice_rows(rng, n):
    """The right choice is the only merry one."""
    for _ in range(n):
        right = int(rng.integers(3))
        texts = [[*words(rng, 2), str(rng.choice(GLAD if i == right else SAD))] for i in range(3)]
        yield {"prompt": "which one", **{name: " ".join(text) for name, text in zip("ABC", texts, strict=True)}, "answer": "ABC"[right]}


TOPICS = (
    ("sun", "gold"), ("moon", "pale"), ("rain", "wet"), ("snow", "white"), ("wind", "loud"), ("frost", "ice"), ("storm", "wild"),
    ("mist", "grey"),
)  # fmt: skip


def match_rows(rng, n):
    """A text about two topics, the two other words for them, and those for two others."""
    for _ in range(n):
        first, second, *others = (TOPICS[i] for i in rng.permutation(len(TOPICS))[:4])
        said = {key: sorted(topic[1] for topic in topics) for key, topics in (("positive", (first, second)), ("wrong", others))}
        text = [*words(rng, 3), first[0], second[0]]
        yield {"anchor": " ".join(rng.permutation(text)), **{key: " ".join(value) for key, value in said.items()}}


def alike_rows(rng, n):
    """Two texts that are as alike, from 0 to 5, as the moods in them are."""
    for _ in range(n):
        one, other = rng.integers(2, size=2)
        texts = [" ".join([*words(rng, 3), str(rng.choice((SAD, GLAD)[mood]))]) for mood in (one, other)]
        yield {"text": texts[0], "pair": texts[1], "score": 5.0 * (one == other)}


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")

    def corpus(name, rows, seed, n):
        made = list(rows(np.random.default_rng(seed), n))
        if name.startswith("mood"):
            with (folder / f"{name}.csv").open("w", newline="") as file:
                table = csv.DictWriter(file, list(made[0]))
                table.writeheader()
                table.writerows(made)
            path = folder / f"{name}.csv"
        else:
            path = folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in made))
        return Prepare(name=name, source=Files(path=str(path), rows=Rows(form="columns")), filters=())

    kinds = {"mood": mood_rows, "tag": tag_rows, "which": choice_rows, "match": match_rows, "alike": alike_rows}
    return {name: (corpus(name, rows, 0, 400), corpus(f"{name}_test", rows, 1, 100)) for name, rows in kinds.items()}


@pytest.fixture(scope="module")
def tokenizer(corpora):
    return TrainTokenizer(corpora=tuple(train for train, _ in corpora.values()), vocab_size=300)


def tokens(corpora, tokenizer, kind, encoding, part=0) -> Tokenize:
    return Tokenize(name=f"{encoding.head}_{'test' if part else 'train'}", corpus=corpora[kind][part], tokenizer=tokenizer, encoding=encoding)


def trained(corpora, tokenizer, kind, encoding, base, head, objective=None, **changes) -> Train:
    number, named = isinstance(encoding, Numbers), {encoding.tells: (encoding.head,)}
    task = TellLabels(**named) if base.reads_forward else TellLabels(**named, then=BothWays())
    objective = objective or (HeadSquaredError(head=encoding.head) if number else HeadCrossEntropy(head=encoding.head))
    fields = {
        "name": encoding.head, "tokenizer": tokenizer, "init": HeadsOn(init=Scratch(model=base), heads=(head,)), "task": task,
        "sources": (Share(tokens=tokens(corpora, tokenizer, kind, encoding)),), "packing": Fit(), "objective": objective, "max_seq_len": 64,
        "batch_tokens": 512, "steps": 100, "optimizer": AdamW(learning_rate=3e-3), "schedule": Constant(warmup=5),
    }  # fmt: skip
    return Train(**fields | changes)


def results(context, examined) -> dict:
    return read_json(examined.run(context).path / "results.json")


MOOD = Classes(head="mood", classes=("sad", "glad"), max_tokens=32)


@pytest.mark.parametrize("base", [LLAMA, BERT], ids=["decoder", "encoder"])
def test_a_class_is_learnt_by_decoders_and_encoders(context, corpora, tokenizer, base):
    pooling = LAST if base.reads_forward else MeanPoolingConfig()
    head = SequenceClassificationConfig(name="mood", n_labels=2, pooling=pooling)
    train = trained(corpora, tokenizer, "mood", MOOD, base, head, name=base.kind().lower())
    found = results(context, Examine(model=train, rows=tokens(corpora, tokenizer, "mood", MOOD, 1)))
    assert found["labels"] == 100
    assert found["accuracy"] > 0.95
    assert found["f1_macro"] > 0.95
    assert set(found["f1"]) == {"sad", "glad"}


def test_an_adapter_and_a_head_beside_it_learn_a_class_and_are_trained_further(context, corpora, tokenizer):
    head = SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST)
    changes = {"adapter": LoRA(rank=4, whole=("heads",)), "optimizer": AdamW(learning_rate=1e-2), "steps": 40}
    low = trained(corpora, tokenizer, "mood", MOOD, LLAMA, head, name="low", **changes)
    further = low.then(name="further", steps=10)
    assert further.learner == AdaptedConfig(base=low.architecture, adapter=low.adapter)
    found = results(context, Examine(model=further, rows=tokens(corpora, tokenizer, "mood", MOOD, 1)))
    assert found["accuracy"] > 0.95


def test_scores_are_those_of_each_row_alone(context, corpora, tokenizer):
    """Packing, padding and order of the examination leave no trace."""
    head = SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST)
    train, rows = trained(corpora, tokenizer, "mood", MOOD, LLAMA, head, name="llamaconfig"), tokens(corpora, tokenizer, "mood", MOOD, 1)
    artifact = Examine(model=train, rows=rows).run(context)
    from bloomery.data import TokenShards
    from bloomery.nn.layout import SequenceLayout

    shards, (_, model) = TokenShards.open(context.store.open(rows.reference)), read_model(train.run(context).path / "model")
    lines = [json.loads(line) for line in (artifact.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [shards.id(d) for d in range(100)]
    for d, line in enumerate(lines[:20]):
        alone = torch.tensor(shards.document(d).astype(np.int64))[None]
        scores = model.scores(alone, SequenceLayout.packed(torch.ones_like(alone)))["mood"][0, 0]
        assert line["scores"] == pytest.approx(scores.tolist(), abs=1e-4)
        assert line["expected"] == ("sad", "glad")[int(shards.labels(d)[0])]
        assert line["predicted"] == ("sad", "glad")[int(scores.argmax())]


def test_tags_of_words_are_learnt(context, corpora, tokenizer):
    encoding = Tags(head="tag", classes=("O", "B-JOY"), max_tokens=48)
    head = TokenClassificationConfig(name="tag", n_labels=2)
    train = trained(corpora, tokenizer, "tag", encoding, BERT, head)
    found = results(context, Examine(model=train, rows=tokens(corpora, tokenizer, "tag", encoding, 1)))
    assert found["labels"] == 500
    assert found["accuracy"] > 0.95
    assert found["spans_f1"] > 0.95


def test_the_right_choice_is_learnt_in_rows_longer_than_the_model(context, corpora, tokenizer):
    encoding = Choices(head="which", choices=("A", "B", "C"), count=3, max_tokens=32)
    head = MultipleChoiceConfig(name="which", n_choices=3, pooling=MeanPoolingConfig())
    base = BERT.replace(max_seq_len=32)
    train = trained(corpora, tokenizer, "which", encoding, base, head, max_seq_len=96, batch_tokens=960)
    artifact = Examine(model=train, rows=tokens(corpora, tokenizer, "which", encoding, 1)).run(context)
    found, lines = read_json(artifact.path / "results.json"), (artifact.path / "predictions.jsonl").read_text().splitlines()
    assert found["accuracy"] > 0.9
    told = [json.loads(line) for line in lines]
    wanted = np.array(["ABC".index(line["expected"]) for line in told])
    assert found["map_at_3"] == pytest.approx(mean_average_precision(np.array([line["scores"] for line in told]), wanted, 3))
    assert found["map_at_3"] >= found["accuracy"]


def test_numbers_are_learnt(context, corpora, tokenizer):
    encoding = Numbers(head="score", max_tokens=32)
    train = trained(corpora, tokenizer, "mood", encoding, LLAMA, RegressionConfig(name="score", pooling=LAST))
    found = results(context, Examine(model=train, rows=tokens(corpora, tokenizer, "mood", encoding, 1)))
    assert found["pearson"] > 0.9
    assert found["spearman"] > 0.8
    assert found["squared_error"] < 0.3


def similarity(base) -> SimilarityConfig:
    return SimilarityConfig(name="near", pooling=LAST if base.reads_forward else MeanPoolingConfig())


@pytest.mark.parametrize("base", [LLAMA, BERT], ids=["decoder", "encoder"])
def test_texts_that_belong_together_are_found_among_all(context, corpora, tokenizer, base):
    encoding = Matches(head="near", negatives=("wrong",), max_tokens=40)
    train = trained(
        corpora, tokenizer, "match", encoding, base.replace(max_seq_len=40), similarity(base), name=f"match_{base.kind().lower()}",
        objective=InfoNCE(head="near"), max_seq_len=256, batch_tokens=1024,
    )  # fmt: skip
    artifact = Examine(model=train, rows=tokens(corpora, tokenizer, "match", encoding, 1)).run(context)
    found, lines = read_json(artifact.path / "results.json"), (artifact.path / "predictions.jsonl").read_text().splitlines()
    assert found["labels"] == len(lines) == 100
    assert found["candidates"] == 28  # each two of eight
    assert found["accuracy"] > 0.8
    assert found["accuracy"] <= found["mrr"] <= 1
    assert found["accuracy_among_own"] > 0.9
    told = [json.loads(line) for line in lines]
    assert found["mrr"] == pytest.approx(np.mean([1 / line["rank"] for line in told]))
    assert all((line["nearest"] == line["expected"]) == (line["rank"] == 1) for line in told)


@pytest.mark.parametrize("objective", [
    pytest.param(CoSENT(head="near"), marks=pytest.mark.slow), CosineSquaredError(head="near"),
], ids=lambda one: one.kind())  # fmt: skip
def test_how_alike_texts_are_is_learnt(context, corpora, tokenizer, objective):
    encoding = Likeness(head="near", most=5.0, max_tokens=32)
    train = trained(
        corpora, tokenizer, "alike", encoding, BERT, similarity(BERT), name=objective.kind().lower(), objective=objective,
        max_seq_len=256, batch_tokens=1024,
    )  # fmt: skip
    found = results(context, Examine(model=train, rows=tokens(corpora, tokenizer, "alike", encoding, 1)))
    assert found["pearson"] > 0.9
    assert found["spearman"] > 0.8


def test_the_head_first_and_then_the_rest_on_what_pre_training_left(context, corpora, tokenizer):
    plain = Tokenize(name="plain", corpus=corpora["mood"][0], tokenizer=tokenizer, encoding=Plain())
    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=LLAMA), sources=(Share(tokens=plain),), max_seq_len=64, batch_tokens=512, steps=10,
    )  # fmt: skip
    head = SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST)
    held_out = tokens(corpora, tokenizer, "mood", MOOD, 1)
    first = trained(
        corpora, tokenizer, "mood", MOOD, LLAMA, head, name="head_first", init=HeadsOn(init=Continue(base=base), heads=(head,)),
        trainable=Heads(), steps=20, watch=Watch(held_out=(held_out,)),
    )  # fmt: skip
    layered = AdamW(learning_rate=3e-3, layer_rates=Geometric(decay=0.8))
    rest = first.then(name="rest", trainable=Everything() - Embeddings(), steps=80, optimizer=layered)
    artifact = rest.run(context)
    (_, before), (config, after) = (read_model(one.path / "model") for one in (base.run(context), artifact))
    (_, between) = read_model(context.store.open(rest.init.base.reference).path / "model")
    assert isinstance(config, TaskConfig)
    theirs = dict(before.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in between.base.named_parameters())
    assert torch.equal(after.base.embedding.weight, theirs["embedding.weight"])
    assert not torch.equal(after.base.blocks[0].mixer.qkv.weight, theirs["blocks.0.mixer.qkv.weight"])
    assert results(context, Examine(model=rest, rows=held_out))["accuracy"] > 0.9
    assert artifact.manifest.summary["held_out/mood_test/mood/right"] == pytest.approx(
        results(context, Examine(model=rest, rows=held_out))["accuracy"], abs=1e-6
    )


def test_two_tasks_and_language_learn_at_once_each_from_a_corpus_of_its_own(context, corpora, tokenizer):
    numbers = Numbers(head="score", max_tokens=32)
    heads = (SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST), RegressionConfig(name="score", pooling=LAST))
    train = trained(
        corpora, tokenizer, "mood", MOOD, LLAMA, heads[0], name="both",
        objective=HeadCrossEntropy(head="mood") + 0.5 * HeadSquaredError(head="score") + 0.1 * CausalLM(),
        init=HeadsOn(init=Scratch(model=LLAMA), heads=heads, language_head=True), task=TellLabels(classes=("mood",), numbers=("score",)),
        sources=tuple(Share(tokens=tokens(corpora, tokenizer, "mood", encoding)) for encoding in (MOOD, numbers)), steps=100,
    )  # fmt: skip
    assert results(context, Examine(model=train, rows=tokens(corpora, tokenizer, "mood", MOOD, 1)))["accuracy"] > 0.9
    assert results(context, Examine(model=train, rows=tokens(corpora, tokenizer, "mood", numbers, 1)))["pearson"] > 0.8


@pytest.mark.parametrize(("changes", "rule"), [
    ({"head": SequenceClassificationConfig(name="mood", n_labels=3, pooling=LAST)}, r"for a SequenceClassificationConfig\(n_labels=2\), and"),
    ({"head": SequenceClassificationConfig(name="mood", n_labels=2)}, "the first token, which has seen nothing .*; take pooling=LastPooling"),
    ({"packing": Cut()}, "cuts documents, and labels and what is rewritten are of whole ones; take Fit"),
    ({"task": TellLabels(numbers=("mood",))}, "Classes.head='mood' is not among the heads of Train.task.*; take TellLabels\\(classes="),
    ({"task": TellLabels(classes=("stars",))}, "HeadCrossEntropy.head='mood' has no labels under TellLabels"),
    ({"task": TellLabels(classes=("mood",), then=MaskedTokens())}, "has tokens told from what comes after them"),
    ({"objective": CausalLM(), "init": HeadsOn(init=Scratch(model=LLAMA), language_head=True, heads=(
        SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST),)), "task": TellLabels(classes=("stars",))},
     "Classes.head='mood' is not among the heads of Train.task"),
])  # fmt: skip
def test_labels_heads_and_tasks_that_do_not_fit_are_refused(corpora, tokenizer, changes, rule):
    head = changes.pop("head", SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST))
    with pytest.raises(ConfigError, match=rule):
        trained(corpora, tokenizer, "mood", MOOD, LLAMA, head, **changes)


def test_rows_without_labels_cannot_be_examined(corpora, tokenizer):
    head = SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST)
    plain = Tokenize(name="plain", corpus=corpora["mood"][0], tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="are encoded as Plain, without labels"):
        Examine(model=trained(corpora, tokenizer, "mood", MOOD, LLAMA, head), rows=plain)
