"""Translations learnt and examined by decoders and encoder–decoders; and several tasks at once, each examined by itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Cut, Fit, FromPassage, FromPrefix, NextToken, TellLabels
from bloomery.data.alike import Matches
from bloomery.data.encodings import Chat
from bloomery.data.labelled import Classes
from bloomery.data.rewrites import Rewrites
from bloomery.evals.texts import figures_of
from bloomery.models import LlamaConfig, SequenceClassificationConfig, SimilarityConfig, Transformer2017Config
from bloomery.nn import LastPoolingConfig, MeanPoolingConfig
from bloomery.objectives import CausalLM, HeadCrossEntropy, InfoNCE
from bloomery.optim import AdamW, Constant
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.examine import Examine
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.store import Store, read_json
from bloomery.text.readers import Files, Rows

WORDS = (("sun", "sol"), ("moon", "luna"), ("rain", "lluvia"), ("sea", "mar"))
SIZES = {"vocab_size": 320, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_seq_len": 64}
LLAMA, PAIR = LlamaConfig(**SIZES), Transformer2017Config(**SIZES)


def rows(seed, n):
    """Two words, their translation, and on which of two sides the first one is."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        first, second = (int(i) for i in rng.integers(len(WORDS), size=2))
        source, target = (f"{WORDS[first][side]} {WORDS[second][side]}" for side in (0, 1))
        yield {"source": source, "target": target, "side": "low" if first < 2 else "high"}


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), trackers=())


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    made = {"train": [*rows(0, 400), {"source": "sun", "target": None, "side": None}], "test": list(rows(1, 40))}
    for name, some in made.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return {name: Prepare(name=name, source=Files(path=str(folder / f"{name}.jsonl"), rows=Rows(form="columns")), filters=()) for name in made}


@pytest.fixture(scope="module")
def tokenizer(corpora):
    return TrainTokenizer(corpora=(corpora["train"],), vocab_size=300)


def tokens(corpora, tokenizer, encoding, part="train") -> Tokenize:
    return Tokenize(name=f"{encoding.kind().lower()}_{part}", corpus=corpora[part], tokenizer=tokenizer, encoding=encoding)


ENCODING = Rewrites(before="in Spanish: ", max_source=24, max_target=16)


def trained(tokenizer, *sources, **changes) -> Train:
    fields = {
        "tokenizer": tokenizer, "sources": tuple(Share(tokens=one) for one in sources), "packing": Fit(), "max_seq_len": 64,
        "batch_tokens": 1024, "steps": 150, "optimizer": AdamW(learning_rate=5e-3), "schedule": Constant(warmup=5),
    }  # fmt: skip
    return Train(**fields | changes)


@pytest.mark.parametrize(("model", "task"), [(LLAMA, NextToken()), (LLAMA, FromPrefix()), (PAIR, FromPassage(text=48))],
                         ids=["decoder", "prefix", "encoder_decoder"])  # fmt: skip
def test_a_translation_is_learnt_and_measured(context, corpora, tokenizer, model, task, capsys):
    read, test = (tokens(corpora, tokenizer, ENCODING, part) for part in ("train", "test"))
    train = trained(tokenizer, read, name=task.kind().lower(), init=Scratch(model=model), task=task, watch=Watch(held_out=(test,)))
    train.run(context)
    told = capsys.readouterr().out
    first_step = told.index("step 1") if "step 1" in told else len(told)
    assert "1 documents are left out, of which nothing in a row is to be learnt" in told[:first_step]
    assert "⟦" in told[:first_step]
    assert "no plan can be made" not in told
    artifact = Examine(model=train, rows=test, reads="both_ways" if task.sees_prefix else "forward").run(context)
    found, lines = read_json(artifact.path / "results.json"), (artifact.path / "predictions.jsonl").read_text().splitlines()
    assert found["exact"] > 0.8
    assert found["chrf"] > 80
    assert found["rougeL"] > 80
    told = [json.loads(line) for line in lines]
    assert len(told) == found["labels"] == 40
    assert [line["source"].removeprefix("in Spanish: ") for line in told] == [row["source"] for row in rows(1, 40)]
    assert [line["expected"] for line in told] == [row["target"] for row in rows(1, 40)]
    again = figures_of([line["expected"] for line in told], [line["predicted"] for line in told])
    assert {name: found[name] for name in again} == pytest.approx(again)


@pytest.mark.slow
def test_a_class_a_match_and_a_translation_are_learnt_at_once_and_each_examined(context, corpora, tokenizer):
    """One body under two heads of its own and the vocabulary's: three corpora, three terms, one pass."""
    side = Classes(head="side", text="source", label="side", classes=("low", "high"), max_tokens=24)
    near = Matches(head="near", anchor="source", positive="target", max_tokens=24)
    heads = (
        SequenceClassificationConfig(name="side", n_labels=2, pooling=LastPoolingConfig()),
        SimilarityConfig(name="near", pooling=MeanPoolingConfig()),
    )
    train = trained(
        tokenizer, *(tokens(corpora, tokenizer, encoding) for encoding in (side, near, ENCODING)), name="all", steps=200,
        init=HeadsOn(init=Scratch(model=LLAMA), heads=heads, language_head=True),
        task=TellLabels(classes=("side",), matches=("near",), learns="unlabelled"),
        objective=HeadCrossEntropy(head="side") + InfoNCE(head="near") + CausalLM(),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="HeadCrossEntropy.head='side' has no corpus with labels for it.*; add one, or leave the term out"):
        train.replace(sources=train.sources[1:])
    with pytest.raises(ConfigError, match=r"TellLabels.learns='unlabelled' takes rows without labels alone, and every corpus brings them"):
        train.replace(sources=train.sources[:2])

    def examined(encoding):
        return read_json(Examine(model=train, rows=tokens(corpora, tokenizer, encoding, "test")).run(context).path / "results.json")

    assert examined(side)["accuracy"] > 0.95
    assert examined(near)["accuracy"] > 0.6
    assert examined(ENCODING)["chrf"] > 80


def test_an_encoder_decoder_answers_conversations(context, tokenizer, tmp_path):
    talks = [[("user", f"{source} in Spanish?"), ("assistant", target)] for source, target in WORDS]
    lines = (json.dumps({"messages": [{"role": role, "content": content} for role, content in talk]}) for talk in talks)
    (tmp_path / "talks.jsonl").write_text("\n".join(lines))
    asked = Prepare(name="talks", source=Files(path=str(tmp_path / "talks.jsonl")), filters=())
    read = Tokenize(name="talks", corpus=asked, tokenizer=tokenizer, encoding=Chat())
    train = trained(tokenizer, read, name="talks", init=Scratch(model=PAIR), task=FromPassage(text=16), steps=120, batch_tokens=512)
    artifact = Evaluate(model=train, questions=asked).run(context)
    found = [json.loads(line) for line in (artifact.path / "answers.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in found] == [target for _, target in WORDS]


def test_packings_that_cut_and_models_that_read_no_passage_are_refused(corpora, tokenizer):
    read = tokens(corpora, tokenizer, ENCODING)
    with pytest.raises(ConfigError, match="cuts documents, and labels and what is rewritten are of whole ones; take Fit"):
        trained(tokenizer, read, init=Scratch(model=LLAMA), packing=Cut())
    with pytest.raises(ConfigError, match="gives a passage, which Train.init's LlamaConfig cannot read; take an encoder–decoder"):
        trained(tokenizer, read, init=Scratch(model=LLAMA), task=FromPassage())
    with pytest.raises(ConfigError, match=r"gives no passage, without which .*; take SpanCorruption\(\) or FromPassage\(\)"):
        trained(tokenizer, read, init=Scratch(model=PAIR))
