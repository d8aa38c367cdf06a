"""Examinations in questions with choices side by side."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.data import Encoded, TokenShards, write_index, write_shard
from bloomery.data.labelled import Choices, Classes
from bloomery.evals.metrics import mean_average_precision
from bloomery.models import LlamaConfig
from bloomery.stages.examinations import Column, Difference, Examinations, Marks, Page, Variant, chance, longest
from bloomery.stages.examine import Examine
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.readers import TaleStories
from bloomery.text.tales import Tales

PLAIN = Column("plain", "as it is", [Marks(0.30, 0.50), Marks(0.34, 0.52), Marks(0.32, 0.54)], Marks(0.36, 0.56))
FROZEN = Column("frozen", "trainable=…", [Marks(0.31, 0.51), Marks(0.34, 0.50), Marks(0.33, 0.57)], None)
PAGE = Page("Ways", 100, chance(5), Marks(0.3, 0.48), [PLAIN, FROZEN])


def test_differences_are_taken_seed_by_seed():
    less = Difference.between(FROZEN, PLAIN)
    each = np.array([0.01, -0.02, 0.03])
    assert (less.mean, less.error, less.ahead) == (pytest.approx(each.mean()), pytest.approx(each.std(ddof=1) / 3**0.5), 2)


def test_the_page_says_what_each_came_to_and_what_chance_would():
    text = PAGE.text()
    assert "0.5200 ± 0.0200" in text
    assert "32.0% ± 2.0%" in text
    assert "0.3667" in text
    assert "frozen is not below plain on the mean, by +0.0067 MAP@3, less than two standard errors; not below in 2 of 3 seeds" in text
    assert "the ensemble of plain has +0.0400 MAP@3 over the mean of its members" in text
    assert "frozen" in PAGE.html()
    assert PAGE.svg() == PAGE.svg()
    assert PAGE.plain()["ways"]["frozen"]["ensemble"] is None


def test_one_seed_settles_nothing():
    one = [Column(column.name, column.line, column.runs[:1], None) for column in (PLAIN, FROZEN)]
    said = Page("Ways", 100, chance(5), Marks(0.3, 0.48), one).conclusions()
    assert "frozen is not below plain on the mean, by +0.0100 MAP@3, which one seed does not settle" in said


def test_chance_is_what_random_scores_come_to():
    scores, wanted = np.random.default_rng(0).random((20_000, 5)), np.zeros(20_000, np.int64)
    assert chance(5).map_at_3 == pytest.approx(mean_average_precision(scores, wanted, 3), abs=0.01)
    assert chance(2) == Marks(0.5, 0.75)


def test_the_longest_choice_is_told_from_the_tokens(tmp_path):
    begin, end = 1, 2

    def question(name, lengths, label):
        tokens = np.array([t for length in lengths for t in (begin, *[7] * length, end)], np.int64)
        mask = np.zeros(len(tokens), np.uint8)
        mask[0] = 1
        return Encoded(name, tokens, len(tokens), mask, [label])

    asked = [question("a", (2, 5, 3), 1), question("b", (4, 1, 2), 2), question("c", (3, 3, 1), 1)]
    counts = [write_shard(tmp_path, 0, asked, vocab_size=16, masked=True, kept=("labels", "cut"))]
    write_index(tmp_path, counts, vocab_size=16, pad=0, masked=True, head="which")
    assert longest(TokenShards(tmp_path)) == Marks(pytest.approx(1 / 3), pytest.approx((1 + 1 / 2 + 1 / 2) / 3))


def test_what_cannot_be_compared_is_refused():
    corpus = Prepare(source=TaleStories(tales=Tales(size="tiny"), count=2))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=300)
    model = LlamaConfig(vocab_size=320, d_model=16, n_layers=1, n_heads=2, max_seq_len=64)
    train = Train(
        tokenizer=tokenizer, init=Scratch(model=model), sources=(Share(tokens=Tokenize(corpus=corpus, tokenizer=tokenizer)),), max_seq_len=64,
        batch_tokens=64, steps=1,
    )  # fmt: skip

    def rows(name: str) -> Tokenize:
        return Tokenize(name=name, corpus=corpus, tokenizer=tokenizer, encoding=Choices(head="which"))

    one, other = (Examine(name=name, model=train, rows=rows(name)) for name in ("one", "other"))
    with pytest.raises(ConfigError, match="Examinations.ways: b is examined in .*other.* ask all the same"):
        Examinations(title="x", rows=rows("one"), ways=(Variant(name="a", runs=(one,)), Variant(name="b", runs=(other,))))
    with pytest.raises(ConfigError, match="b has 2 runs and a 1, so that they cannot be compared seed by seed"):
        Examinations(title="x", rows=rows("one"), ways=(Variant(name="a", runs=(one,)), Variant(name="b", runs=(one, one))))
    with pytest.raises(ConfigError, match="must have different names"):
        Examinations(title="x", rows=rows("one"), ways=(Variant(name="a", runs=(one,)), Variant(name="a", runs=(one,))))
    moods = Tokenize(corpus=corpus, tokenizer=tokenizer, encoding=Classes(head="mood", classes=("sad", "glad")))
    with pytest.raises(ConfigError, match=r"Examinations.rows=.* are encoded as Classes, which brings no choices"):
        Examinations(title="x", rows=moods, ways=(Variant(name="a", runs=(Examine(model=train, rows=moods),)),))
