"""Preferences as rows of pairs: what is a pair, what counts of it, and that its sides do not see each other."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.data import Compared, Encoded, Rows, Unpaired, Vocabulary
from bloomery.data.pairs import Pairs, Rankings, Verdicts, within
from bloomery.data.source import Told
from bloomery.data.tasks import WORTH
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


def test_a_prompt_that_is_too_long_is_cut_at_its_beginning_and_the_answers_stay(tokenizer):
    whole, cut = (
        next(Pairs(max_tokens=room).encode(batch(said("It is hot.", rank=1), said("Not at all.", rank=2)), tokenizer)) for room in (512, 10)
    )  # fmt: skip
    assert said_in(cut) == said_in(whole)
    prompts = [before_what_is_said(one) for one in (whole, cut)]
    assert len(set(map(tuple, prompts[1]))) == 1  # of both sides alike
    assert prompts[1][0][0] == tokenizer.begin
    assert prompts[0][0][-len(prompts[1][0]) + 1 :] == prompts[1][0][1:]
    assert max(len(side) for side in documents_of(cut)) == 10
    assert cut.cut == len(whole.tokens) - len(cut.tokens) > 0
    assert cut.cut_learnt == 0


def test_what_is_still_too_long_is_cut_at_its_end_counted_and_what_is_left_alike_is_no_pair(tokenizer):
    long = batch(said("xa" + "b" * 40, rank=1), said("xc", rank=2))
    (made,) = Pairs(max_tokens=8).encode(long, tokenizer)
    assert made.cut > made.cut_learnt > 0
    assert [len(one) for one in documents_of(made)] == [8, 2 + len(tokenizer.encode("xc")) + 1]
    (made,) = Pairs(max_tokens=4).encode(long, tokenizer)
    assert [tokenizer.decode(one[2:].tolist()) for one in documents_of(made)] == ["xa", "xc"]
    assert not list(Pairs(max_tokens=4).encode(batch(said("xxa", rank=1), said("xxc", rank=2)), tokenizer))


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), prompt=st.integers(2, 12), room=st.integers(4, 20))
def test_whatever_is_cut_no_side_is_too_long_and_answers_go_last(lengths, prompt, room):
    several = [Encoded("one", np.arange(prompt + n), n, np.repeat([0, 1], [prompt, n])) for n in lengths]
    for before, one in zip(several, within(several, room), strict=True):
        assert len(one.tokens) == len(one.mask) <= room
        assert one.cut == len(before.tokens) - len(one.tokens)
        assert one.cut_learnt == before.mask.sum() - one.mask.sum()
        assert one.tokens[0] == 0
        assert (one.tokens[one.mask > 0] == before.tokens[before.mask > 0][: one.mask.sum()]).all()
        assert one.tokens[one.mask == 0].tolist() == [0, *range(prompt - (one.mask == 0).sum() + 1, prompt)]
        assert not one.cut_learnt or (one.mask == 0).sum() == 2  # what is said is cut only where nothing else is left


def test_ratings_are_kept_where_they_are_wanted(tokenizer):
    rated, half = batch(said("a", rating=9.0), said("b", rating=5.0)), batch(said("a", rank=1, rating=9.0), said("b", rank=2))
    (made,), (without,) = (list(Pairs(ratings="kept").encode(one, tokenizer)) for one in (rated, half))
    assert made.labels == [9.0, 9.0, 5.0, 5.0]  # each at what it says, and at what ends it
    assert len(made.labels) == made.mask.sum()
    assert set(without.labels) == {0.0}
    assert Pairs().labels_for is None
    found = Compared().batch(rows_of([made], tokenizer, ratings=True), 0, 0, Vocabulary(tokenizer))
    plain = Compared().batch(rows_of([made], tokenizer), 0, 0, Vocabulary(tokenizer))
    assert torch.equal(found.loss_weight, plain.loss_weight)  # labels say what is learnt, and change nothing of it
    assert found.labels[WORTH].targets[found.labels[WORTH].loss_weight > 0].tolist() == made.labels


def test_a_ranking_is_its_completions_the_best_first_and_of_ties_one(tokenizer):
    given = [said(text, rating=rating) for text, rating in zip("abcde", (1.0, 9.0, 5.0, 5.0, 0.0), strict=True)]
    (made,) = Rankings(most=3).encode(batch(*given), tokenizer)
    assert [tokenizer.decode(one) for one in said_in(made)] == ["b", "c", "a"]
    assert made.labels == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert not list(Rankings().encode(batch(said("a", rank=1), said("b", rank=1)), tokenizer))


@pytest.mark.parametrize(("completions", "good_from", "verdicts"), [
    ([said("a", good=True), said("b", good=False), said("c", good=True)], None, {"a": 1.0, "b": 0.0, "c": 1.0}),
    ([said("a", rank=1), said("b", rank=2), said("c", rank=3)], None, {"a": 1.0, "c": 0.0}),
    ([said("a", rating=9.0), said("b", rating=6.0), said("c", rating=2.0)], 6.0, {"a": 1.0, "b": 1.0, "c": 0.0}),
    ([said("a", rank=1)], None, {}),
], ids=["verdicts", "ranks", "ratings", "nothing said"])  # fmt: skip
def test_verdicts_are_what_is_said_of_each_completion(tokenizer, completions, good_from, verdicts):
    made = list(Verdicts(good_from=good_from).encode(batch(*completions), tokenizer))
    assert {tokenizer.decode(said_in(one)[0]): one.labels[0] for one in made} == verdicts
    assert len({one.id for one in made}) == len(verdicts)


def test_behind_judged_documents_stand_their_prompts_with_the_completions_of_others(tokenizer):
    asked = [[{"role": "user", "content": text}] for text in ("How hot?", "warm", "It is")]
    given = [Preference(prompt, [said(text, good=good)]) for prompt, text, good in zip(asked, "abc", (True, False, True), strict=True)]
    documents = to_batch([
        conversation(f"{i}", "test", one.messages(), json.dumps({"preference": one.to_meta()})) for i, one in enumerate(given)
    ])  # fmt: skip
    made = list(Verdicts().encode(documents, tokenizer))
    rows = rows_of(made, tokenizer, ratings=True, time=64)
    found = Unpaired().batch(rows, 0, 0, Vocabulary(tokenizer))
    assert found.tokens.shape == (1, 128)
    assert Unpaired().raw_time(128) == 64
    told = []
    for number in range(1, int(found.layout.segments.max()) + 1):
        here = found.layout.segments[0] == number
        counted = found.loss_weight[0][here] > 0
        assert torch.equal(found.targets[0][here][:-1], found.tokens[0][here][1:])
        known = found.labels[WORTH].loss_weight[0][here]
        verdict = found.labels[WORTH].targets[0][here][known > 0].tolist()
        text, says = (tokenizer.decode(one.tolist()) for one in (found.tokens[0][here], found.targets[0][here][counted]))
        told.append((text, says, set(verdict)))
    assert [says for _, says, _ in told] == ["a", "b", "c", "c", "a", "b"]
    assert [verdict for _, _, verdict in told] == [{1.0}, {0.0}, {1.0}, set(), set(), set()]
    assert [text.removesuffix(says) for text, says, _ in told[3:]] == [text.removesuffix(says) for text, says, _ in told[:3]]
    alone = Unpaired().batch(rows_of(made[:1], tokenizer, ratings=True, time=64), 0, 0, Vocabulary(tokenizer))
    assert int(alone.layout.segments.max()) == 1


def documents_of(made: Encoded) -> list[np.ndarray]:
    return np.split(made.tokens, np.flatnonzero(made.tokens == made.tokens[0])[1:])


def said_in(made: Encoded) -> list[list[int]]:
    """What each document says, without what ends it."""
    starts = np.flatnonzero(made.tokens == made.tokens[0])[1:]
    return [tokens[mask > 0].tolist()[:-1] for tokens, mask in zip(documents_of(made), np.split(made.mask, starts), strict=True)]


def before_what_is_said(made: Encoded) -> list[list[int]]:
    starts = np.flatnonzero(made.tokens == made.tokens[0])[1:]
    return [tokens[mask == 0].tolist() for tokens, mask in zip(documents_of(made), np.split(made.mask, starts), strict=True)]


def rows_of(several: list[Encoded], tokenizer: Tokenizer, ratings: bool = False, time: int = 64) -> Rows:
    """One row of sequences, as a source gives it."""
    out, at = Rows.empty(1, time, tokenizer.pad), 0
    told = Told(*(np.zeros((1, time), np.float32) for _ in Told._fields))
    for number, one in enumerate(several, start=1):
        here = slice(at, at + len(one.tokens))
        out.tokens[0, here], out.segments[0, here] = one.tokens, number
        out.targets[0, here], out.loss_weight[0, here] = np.append(one.tokens[1:], tokenizer.pad), np.append(one.mask[1:], 0)
        if ratings:
            told.weight[0, here] = one.mask
            told.targets[0, here][one.mask > 0] = one.labels
            out.loss_weight[0, here] = np.append(np.ones(len(one.tokens) - 1), 0)  # as shards with labels have it
        at += len(one.tokens)
    return out._replace(labels={WORTH: told}) if ratings else out


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
    with pytest.raises(ConfigError, match="learns from all completions of Pairs"):
        training(**pairs)
    with pytest.raises(ConfigError, match="Plain makes none"):
        training(task=Compared(), objective=SimPO())
    with pytest.raises(ConfigError, match="SimPO compares the sides of pairs"):
        training(objective=SimPO())
