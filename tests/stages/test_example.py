"""Before step 0 an example shows what is learnt and what is only read, and what does not fit is counted."""

from __future__ import annotations

import json

import pytest
import torch

from bloomery.data import Cut, Fit, Packed, TokenShards
from bloomery.data.encodings import Chat
from bloomery.models import LlamaConfig
from bloomery.stages.example import LEARNT, READ, example_of
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer, load_tokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store
from bloomery.text.readers import Files


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("talks")
    things = ("nets", "boats", "oars")
    talks = [[("user", f"How many {thing} are there?"), ("assistant", f"There are {n} {thing}.")] for n, thing in enumerate(things)]
    talks += [[("user", "Tell me a long story about the harbour, please. " * 12), ("assistant", "No.")], [("user", "Nobody answers.")]]
    rows = [{"messages": [{"role": role, "content": content} for role, content in talk]} for talk in talks]
    (folder / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = Prepare(source=Files(path=str(folder / "talks.jsonl")), filters=())
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=290)
    tokens = Tokenize(corpus=corpus, tokenizer=tokenizer, encoding=Chat())
    context = RunContext(store=Store(tmp_path_factory.mktemp("store")), trackers=())
    train = Train(
        tokenizer=tokenizer, init=Scratch(model=LlamaConfig(vocab_size=300, d_model=16, n_layers=1, n_heads=2, d_ff=16, max_seq_len=96)),
        sources=(Share(tokens=tokens),), packing=Fit(), max_seq_len=96, batch_tokens=96, steps=1,
    )  # fmt: skip
    return context, train, TokenShards.open(tokens.run(context)), load_tokenizer(tokenizer.run(context))


def test_what_is_read_is_grey_and_what_is_learnt_is_green(made):
    _, _, shards, tokenizer = made
    packed = Packed(shards, Fit(), time=96, seed=0)
    shown = example_of(packed, tokenizer)
    number = int(packed.pieces(0, 1).documents[0])
    by_style = {style: "".join(shown.plain[s.start : s.end] for s in shown.spans if s.style == style) for style in (READ, LEARNT)}
    mask, tokens = shards.mask(number), shards.document(number)
    assert by_style[LEARNT] == f"⟦{tokenizer.decode_markup(tokens[mask == 1].tolist())}⟧"
    assert by_style[READ] == tokenizer.decode_markup(tokens[mask == 0].tolist())
    assert by_style[LEARNT].startswith("⟦There are ")
    assert shown.plain.startswith(f"an example, {shards.id(number)}: {mask.sum()} tokens to be learnt in {len(tokens)} tokens")


def test_a_run_shows_the_example_and_counts_what_does_not_fit_before_its_first_step(made, capsys):
    context, train, *_ = made
    train.run(context)
    told = capsys.readouterr().out
    first_step = told.index("step 1") if "step 1" in told else len(told)
    assert "an example, talks.jsonl" in told[:first_step]
    assert "⟦There are " in told
    assert "2 documents are left out, of which nothing in a row is to be learnt" in told


def test_rows_without_anything_to_learn_are_counted_where_documents_are_cut(made, capsys):
    context, train, *_ = made
    train.replace(name="cut", packing=Cut(), max_seq_len=32, batch_tokens=640).run(context)
    assert "of the first 20 rows of main have nothing to be learnt in 32 tokens; packing=Fit() leaves out" in capsys.readouterr().out
