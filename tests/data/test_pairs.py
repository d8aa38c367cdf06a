"""Preferences as rows of pairs: what is a pair, what counts of it, and that its sides do not see each other."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Compared, Rows, Vocabulary
from bloomery.data.pairs import Pairs
from bloomery.text.chat import ChatTemplate
from bloomery.text.documents import conversation, to_batch
from bloomery.text.instructions.preferences import Completion, Preference
from bloomery.text.readers import TalePreferences
from bloomery.text.tales import Tales
from bloomery.text.tokenizer import Tokenizer

PROMPT = [{"role": "user", "content": "How hot is it?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["How hot is it? It is warm. It is hot. Not at all."] * 9, vocab_size=300)


def said(text, **worth) -> Completion:
    return Completion([{"role": "assistant", "content": text}], **worth)


def batch(*completions) -> pa.RecordBatch:
    preference = Preference(PROMPT, completions)
    return to_batch([conversation("one", "test", preference.messages(), json.dumps({"preference": preference.to_meta()}))])


def test_a_pair_is_the_better_side_and_the_worse_one_each_with_its_prompt(tokenizer):
    (made,) = Pairs().encode(batch(said("It is hot.", rank=1), said("Not at all.", rank=2)), tokenizer)
    sides = [ChatTemplate().render([*PROMPT, *said(text).messages], tokenizer) for text in ("It is hot.", "Not at all.")]
    assert made.tokens.tolist() == sides[0].ids + sides[1].ids
    assert made.mask.astype(bool).tolist() == sides[0].mask + sides[1].mask
    assert (made.cut, made.cut_learnt) == (0, 0)


@pytest.mark.parametrize(("of", "pairs"), [("ends", ["ac"]), ("neighbours", ["ab", "bc"]), ("all", ["ab", "ac", "bc"])])
def test_rankings_make_pairs(tokenizer, of, pairs):
    found = list(Pairs(of=of).encode(batch(said("a", rating=9.0), said("b", rating=5.0), said("c", rating=1.0)), tokenizer))
    texts = ["".join(tokenizer.decode(part) for part in [one.tokens[one.mask.astype(bool)]]) for one in found]
    assert texts == pairs
    assert len({one.id for one in found}) == len(pairs)


@pytest.mark.parametrize("completions", [
    [said("a", rank=1), said("b", rank=1)], [said("a", rank=1), said("a", rank=2)], [said("a", rank=1)], [said("a"), said("b")],
], ids=["of one rank", "alike", "alone", "never compared"])  # fmt: skip
def test_what_is_no_pair_is_left_out(tokenizer, completions):
    assert not list(Pairs().encode(batch(*completions), tokenizer))


def test_what_is_cut_is_counted_and_what_is_left_alike_is_no_pair(tokenizer):
    whole = len(ChatTemplate().render([*PROMPT, *said("x").messages], tokenizer).ids)
    long = batch(said("xa" + "b" * 40, rank=1), said("xc", rank=2))
    (made,) = Pairs(max_tokens=whole + 1).encode(long, tokenizer)
    assert made.cut == made.cut_learnt > 0
    assert len(made.tokens) == 2 * (whole + 1)
    assert not list(Pairs(max_tokens=whole - 1).encode(long, tokenizer))


def test_the_sides_of_a_row_are_documents_that_are_not_told_from_each_other(tokenizer):
    (made,) = Pairs().encode(batch(said("It is hot.", rank=1), said("Not at all.", rank=2)), tokenizer)
    tokens = np.concatenate([made.tokens, made.tokens])[None]
    segments = np.repeat([[1, 2]], len(made.tokens), 1)
    mask = np.concatenate([made.mask, made.mask]).astype(np.float32)
    rows = Rows(tokens, np.roll(tokens, -1, 1), np.roll(mask, -1)[None], segments)
    found = Compared().batch(rows, 0, 0, Vocabulary(tokenizer))
    begins = tokens[0] == tokenizer.begin
    assert begins.sum() == 4
    assert found.layout.segments[0].tolist() == np.cumsum(begins).tolist()
    assert float(found.loss_weight.sum()) == mask.sum()
    assert not found.loss_weight[0][torch.from_numpy(np.roll(begins, -1))].any()


def test_tales_prefer_what_their_world_makes_true(tokenizer):
    tales = Tales(size="tiny")
    (rows,) = TalePreferences(tales=tales, count=3).batches()
    for i, made in enumerate(Pairs().encode(rows, tokenizer)):
        told = [tokenizer.decode(part) for part in np.split(made.tokens, [int(np.flatnonzero(made.tokens == tokenizer.begin)[1])])]
        assert told[0].endswith(tales.tale(i).better)
        assert told[1].endswith(tales.tale(i).worse)


def test_pairs_and_the_task_that_compares_them_belong_together():
    from tests.stages.test_train import TOKENIZER, training

    from bloomery.data import Fit
    from bloomery.objectives import SimPO
    from bloomery.stages.prepare import Prepare
    from bloomery.stages.tokenize import Tokenize
    from bloomery.stages.train import Share

    corpus = Prepare(name="pairs", source=TalePreferences(tales=Tales(size="tiny"), count=9))
    pairs = {"sources": (Share(tokens=Tokenize(name="pairs", corpus=corpus, tokenizer=TOKENIZER, encoding=Pairs())),), "packing": Fit()}
    with pytest.raises(ConfigError, match="learns from both sides of Pairs"):
        training(**pairs)
    with pytest.raises(ConfigError, match="Plain makes none"):
        training(task=Compared(), objective=SimPO())
    with pytest.raises(ConfigError, match="SimPO compares the sides of pairs"):
        training(objective=SimPO())
