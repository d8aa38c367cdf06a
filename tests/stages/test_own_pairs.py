"""Pairs of what a policy writes itself: the best and the worst of its texts, and a loss that learns from them."""

from __future__ import annotations

import json

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.data import Compared
from bloomery.data.encodings import Chat
from bloomery.data.pairs import Pairs
from bloomery.objectives import DPO
from bloomery.stages.init import Continue
from bloomery.stages.left_by import LeftBy
from bloomery.stages.own_pairs import OwnPairs
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.train import Share
from bloomery.store import Store
from bloomery.text.instructions.preferences import preference_of
from bloomery.text.readers import TaleContinuations
from bloomery.train.rewards import Answer, Format, Verifiable
from tests.stages.test_preferences import BASE, TALES, trained
from tests.stages.test_train import TOKENIZER, WEIGHTS


class Vowels(Verifiable):
    """A reward for a test: how many vowels an answer has."""

    def judge(self, answer: Answer) -> float:
        return float(sum(answer.text.count(vowel) for vowel in "aeiou"))


ASKED = Prepare(name="asked", source=TaleContinuations(tales=TALES, count=6))
FIELDS = {"policy": BASE, "prompts": Tokenize(name="asked", corpus=ASKED, tokenizer=TOKENIZER, encoding=Chat()), "max_seq_len": 1024}
OWN = OwnPairs(**FIELDS, rewards=(Vowels(),), count=5, samples=4, max_new_tokens=8)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())


def pairs_of(artifact) -> list:
    return [(row, preference_of(row["messages"], row["meta"])) for batch in documents(artifact) for row in batch.to_pylist()]


def test_the_text_that_earns_most_is_preferred_to_the_one_that_earns_least(context):
    found = pairs_of(OWN.run(context))
    prompts = {row["id"]: row["messages"][:1] for batch in documents(ASKED.run(context)) for row in batch.to_pylist()}
    assert 0 < len(found) <= OWN.count
    for row, preference in found:
        better, worse = (one.messages[0]["content"] for one in preference.completions)
        assert preference.prompt == prompts[json.loads(row["meta"])["about"]]
        ratings = [one.rating for one in preference.completions]
        assert ratings == [sum(text.count(vowel) for vowel in "aeiou") for text in (better, worse)]
        assert ratings[0] > ratings[1]


def test_made_anew_they_are_the_same_and_a_loss_learns_from_them(context, tmp_path):
    again = RunContext(store=Store(tmp_path), quiet=True, trackers=())
    left = {where: OWN.run(one).file("documents-00000.parquet").read_bytes() for where, one in (("there", context), ("anew", again))}
    assert left["there"] == left["anew"]
    pairs = Tokenize(name="own", corpus=Prepare(name="own", source=LeftBy(stage=OWN)), tokenizer=TOKENIZER, encoding=Pairs())
    learnt = trained(name="own", init=Continue(base=BASE), sources=(Share(tokens=pairs),), task=Compared(), objective=DPO(reference=BASE))
    assert learnt.run(context).file(WEIGHTS).read_bytes() != BASE.run(context).file(WEIGHTS).read_bytes()


def test_texts_that_all_earn_the_same_make_no_pairs(context):
    with pytest.raises(DataError, match="all texts to each of 5 prompts earned the same; give other rewards, or more samples"):
        OWN.replace(name="flat", rewards=(Format(pattern="(?s).*"),)).run(context)
