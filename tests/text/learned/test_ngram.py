"""The n-gram model equals Kneser–Ney smoothing written down with dictionaries, and its probabilities sum to 1."""

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.learned import ngram_counts
from bloomery.text.learned.features import Words, words
from bloomery.text.learned.ngram import NgramModel
from bloomery.text.learned.ngram_counts import FALLBACK, count_sequences, count_words, discounts_of, write_model
from bloomery.text.learned.runs import Runs


def train(folder, texts, order=3, min_word_count=1, max_words=1000, min_counts=None, cut=3):
    """A model of some texts, read a few at a time."""
    scratch = folder / "scratch"
    scratch.mkdir()
    parts = (words(pa.array(texts[i : i + cut]), digits=False) for i in range(0, len(texts), cut))
    vocabulary, unknown_kinds, _ = count_words(parts, scratch, max_words, min_word_count)
    counts, tables = count_sequences(scratch, vocabulary, order, lambda line: None)
    write_model(folder, scratch, vocabulary, unknown_kinds, counts, tables, min_counts or (1,) * (order - 1))
    return NgramModel.load(folder)


class Naive:
    """Interpolated modified Kneser–Ney over tuples of words."""

    def __init__(self, texts, order, min_word_count=1, min_counts=None):
        seen = Counter(w for t in texts for w in t.split())
        self.words = {w for w, n in seen.items() if n >= min_word_count}
        self.unknown_kinds = len(seen) - len(self.words)
        self.order = order
        min_counts = {1: 0} | {n: (min_counts or (1,) * order)[n - 2] for n in range(2, order + 1)}
        raw = {n: Counter() for n in range(1, order + 1)}
        for text in texts:
            sequence = ["<s>", *(w if w in self.words else "<unk>" for w in text.split()), "</s>"]
            for n in raw:
                raw[n].update(tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))
        self.adjusted = {order: raw[order]}
        for n in range(1, order):
            before = Counter(gram[1:] for gram in raw[n + 1])
            self.adjusted[n] = Counter({g: raw[n][g] if g[0] == "<s>" else before[g] for g in raw[n]})
        del self.adjusted[1][("<s>",)]
        self.discounts = {n: (0, *discounts_of(np.array(list(a.values())))) for n, a in self.adjusted.items()}
        self.kept = {n: {g for g, c in raw[n].items() if c >= min_counts[n]} for n in raw}
        self.after = {n: defaultdict(dict) for n in raw}
        for n in raw:
            for gram, a in self.adjusted[n].items():
                self.after[n][gram[:-1]][gram[-1]] = a

    def p(self, word, context):
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        n = len(context) + 1
        after = self.after[n].get(context, {})
        total = sum(after.values())
        if not total:
            return self.p(word, context[1:])
        given = {w: a - self.discounts[n][min(a, 3)] for w, a in after.items() if (*context, w) in self.kept[n]}
        lower = self.p(word, context[1:]) if context else 1 / (len(self.words) + 2)
        return given.get(word, 0) / total + (1 - sum(given.values()) / total) * lower

    def log_probabilities(self, text):
        sequence = ["<s>", *(w if w in self.words else "<unk>" for w in text.split()), "</s>"]
        for i in range(1, len(sequence)):
            kinds = max(self.unknown_kinds, 1) if sequence[i] == "<unk>" else 1
            yield np.log(self.p(sequence[i], tuple(sequence[:i])[-(self.order - 1) :]) / kinds)


TEXTS = st.lists(st.lists(st.sampled_from("aaabbcdefg"), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=12)


@pytest.mark.parametrize(("order", "least", "min_counts"), [(2, 1, None), (3, 1, None), (5, 2, None), (3, 2, (1, 2)), (4, 1, (2, 2, 3))])
@settings(max_examples=4, deadline=None)
@given(train_on=TEXTS, read=TEXTS)
def test_it_equals_the_same_with_dictionaries(tmp_path_factory, order, least, min_counts, train_on, read):
    model = train(tmp_path_factory.mktemp("n"), train_on, order, least, min_counts=min_counts)
    naive = Naive(train_on, order, least, min_counts)
    found = model.log_probabilities(words(pa.array(read)))
    assert np.allclose(found, [p for text in read for p in naive.log_probabilities(text)], rtol=1e-5)


def test_the_estimated_discounts_are_used_where_there_is_enough_to_estimate_them(tmp_path):
    rng = np.random.default_rng(0)
    texts = [" ".join("abcdefghijklmnopqrstuvwxyz"[min(int(k), 25)] for k in rng.geometric(0.15, 40)) for _ in range(30)]
    naive = Naive(texts, 3)
    assert naive.discounts[3][1:] != FALLBACK != naive.discounts[2][1:]
    model = train(tmp_path, texts)
    assert np.allclose(model.log_probabilities(words(pa.array(texts))), [p for t in texts for p in naive.log_probabilities(t)], rtol=1e-5)


@pytest.mark.parametrize("min_counts", [None, (1, 2), (3, 3)])
def test_probabilities_sum_to_one_after_every_context(tmp_path, min_counts):
    texts = ["a b a c", "b a c d a", "a b", "c c c a b a", "d"]
    model = train(tmp_path, texts, min_counts=min_counts)
    every = [*"abcd", "z"]  # z stands for the unknown, of which there is one kind at least
    for context in product(every, repeat=2):
        total = 0.0
        for word in every:
            total += np.exp(model.log_probabilities(words(pa.array([" ".join([*context, word])])))[2])
        total += np.exp(model.log_probabilities(words(pa.array([" ".join(context)])))[2])  # </s>
        assert total == pytest.approx(1, abs=1e-5)


def test_chunks_do_not_show(tmp_path, monkeypatch):
    texts = ["a b a c e", "b a c d a", "a b", "c c c a b a", "d a b a"] * 3
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = train(tmp_path / "one", texts, min_counts=(1, 2))
    monkeypatch.setattr(ngram_counts, "CHUNK_WORDS", 3)
    monkeypatch.setattr(ngram_counts, "SLICE_ROWS", 2)
    monkeypatch.setattr("bloomery.text.learned.runs.MERGED_ROWS", 5)
    train(tmp_path / "two", texts, min_counts=(1, 2), cut=1)
    assert len(one.keys) == 2
    for path in sorted((tmp_path / "one").glob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_pruning_forgets_what_is_rare(tmp_path):
    model = train(tmp_path, ["a b a b a c"], min_counts=(2, 2))
    assert [len(keys) for keys in model.keys] == [2, 1]  # ab ba; aba


def test_texts_of_one_word_make_a_model(tmp_path):
    model = train(tmp_path, ["a"], order=5)
    assert np.isfinite(model.perplexity(pa.array(["a", "b", "a a a"]))).all()


def test_rubbish_perplexes_and_the_known_does_not(tmp_path):
    nouns, verbs, places = ["cat", "dog", "hen", "cow", "fox"], ["sat", "ran", "slept", "sang"], ["mat", "hill", "road", "bed"]
    texts = [f"the {n} {v} on the {p} near {n}{v}{p}" for n in nouns for v in verbs for p in places]
    model = train(tmp_path, texts, min_word_count=2)
    known, shuffled, rubbish, empty = model.perplexity(pa.array(["the hen ran on the bed", "bed the on ran hen the", "xq zzv kkw pqx zzb", ""]))
    assert known < shuffled < rubbish
    assert np.isnan(empty)


def test_a_perplexity_is_that_of_the_text_alone(tmp_path):
    model = train(tmp_path, ["a b c", "c b a b"])
    texts = ["a b", "", "c c c b", "z"]
    together = model.perplexity(pa.array(texts))
    assert np.array_equal(together, [model.perplexity(pa.array([t]))[0] for t in texts], equal_nan=True)
    logs = model.log_probabilities(words(pa.array(["a b"])))
    assert together[0] == pytest.approx(np.exp(-logs.mean()))


def test_only_the_commonest_words_are_known(tmp_path):
    model = train(tmp_path, ["a a a b b c"], max_words=2)
    assert len(model.vocabulary) == 2
    assert model.unknown_kinds == 1


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=30), max_size=8))
@settings(max_examples=20, deadline=None)
def test_runs_count_like_a_counter(tmp_path_factory, chunks):
    runs = Runs(tmp_path_factory.mktemp("r") / "runs")
    for chunk in chunks:
        keys = np.array(chunk, np.uint64)
        runs.add(keys, (keys % np.uint64(7)).astype(np.int64))
    blocks = list(runs.merged())
    found = {int(k): (int(c), int(b)) for block in blocks for k, c, b in zip(*block, strict=True)}
    assert found == {k: (n, k % 7) for k, n in Counter(k for c in chunks for k in c).items()}
    assert list(found) == sorted(found)


def test_texts_without_words_teach_nothing(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    train(tmp_path / "one", ["a b", "", "c", " "])
    train(tmp_path / "two", ["a b", "c"])
    assert (tmp_path / "one" / "probabilities-3.npy").read_bytes() == (tmp_path / "two" / "probabilities-3.npy").read_bytes()
    assert Words(np.empty(0, np.uint64), np.zeros(1, np.int64)).rows().tolist() == []
