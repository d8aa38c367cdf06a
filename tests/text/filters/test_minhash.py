"""Near duplicates: signatures, groups, verdicts; each fast part beside its plain meaning."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import MinHash, judge_all
from bloomery.text.filters import minhash as module
from bloomery.text.filters.components import Components
from bloomery.text.filters.filter import shifted
from bloomery.text.filters.repeats import Repeats
from bloomery.text.filters.sketches import arranged, band_keys, sketches
from bloomery.text.shingles import mixed, shingles, words_of
from bloomery.text.tales import Dirt, Tales

WORDS = [f"w{i}" for i in range(1000)]


def documents(*texts):
    return to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])


def prose(seed, length=200):
    return [WORDS[i] for i in np.random.default_rng(seed).integers(0, len(WORDS), length)]


def edited(words, edits, seed=0):
    words = list(words)
    for at in np.random.default_rng(seed).choice(len(words), edits, replace=False):
        words[at] = "edited"
    return words


def true_jaccard(a, b, n=5):
    a, b = ({tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} for words in (a, b))
    return len(a & b) / len(a | b)


def verdicts(filter, *texts, known=()):
    (found,) = judge_all(filter, [documents(*texts)], [to_batch([Document(f"k{i}", t, "s") for i, t in enumerate(known)])] if known else [])
    return {row["id"]: row for row in found.table("f").to_pylist()}


def test_a_near_duplicate_goes_and_the_verdict_names_what_stays_and_how_like_they_are():
    one, other = prose(1), prose(2)
    near = edited(one, 4)
    found = verdicts(MinHash(), *map(" ".join, (one, other, near)))
    assert list(found) == ["d2"]
    assert found["d2"]["reason"] == "near duplicate of d0"
    assert found["d2"]["value"] == pytest.approx(true_jaccard(one, near))
    assert found["d2"]["threshold"] == 0.6


def test_case_and_punctuation_do_not_matter_and_empty_texts_resemble_nothing():
    assert list(verdicts(MinHash(), "Some words, here!", "some words here", "", "...", "")) == ["d1"]


def test_candidates_below_the_bound_stay():
    one = prose(1)
    texts = [" ".join(one), " ".join(edited(one, 4))]
    assert len(verdicts(MinHash(min_jaccard=0.75), *texts)) == 1
    assert len(verdicts(MinHash(min_jaccard=0.9), *texts)) == 0


def test_the_longest_stays_where_that_is_wanted():
    one = prose(1)
    texts = [" ".join(one), " ".join([*one, "and", "more"]), " ".join(one[:-1])]
    assert list(verdicts(MinHash(), *texts)) == ["d1", "d2"]
    assert list(verdicts(MinHash(keep="longest"), *texts)) == ["d0", "d2"]


def test_those_joined_through_others_are_a_group_and_the_verdict_says_so():
    steps = [prose(1)]
    for seed in range(4):
        steps.append(edited(steps[-1], 6, seed))
    assert true_jaccard(steps[0], steps[-1]) < 0.6 < min(true_jaccard(a, b) for a, b in pairwise(steps))
    found = verdicts(MinHash(bands=28, rows=4), *map(" ".join, steps))
    assert list(found) == ["d1", "d2", "d3", "d4"]
    assert found["d1"]["reason"] == "near duplicate of d0"
    assert found["d4"]["reason"] == "near duplicate of near duplicates of d0"
    assert found["d4"]["value"] == pytest.approx(true_jaccard(steps[0], steps[-1]))


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_nothing_of_an_earlier_corpus_goes_and_what_resembles_it_does(keep):
    one = prose(1)
    texts = [" ".join([*one, "longer"]), " ".join(prose(2))]
    found = verdicts(MinHash(keep=keep), *texts, known=[" ".join(one), " ".join(one)])
    assert {id: row["reason"] for id, row in found.items()} == {"d0": "near duplicate of k0"}


def test_many_copies_of_one_text_leave_one():
    assert len(verdicts(MinHash(), *[" ".join(prose(1))] * 300, *[" ".join(prose(2))] * 300)) == 598


def noted(filter, *batches):
    starts = np.cumsum([0, *(b.num_rows for b in batches)]).tolist()
    tables = [shifted(filter.note(batch), start) for batch, start in zip(batches, starts, strict=False)]
    return SimpleNamespace(first=0, rows=starts[-1], tables=lambda columns=None: (t.select(columns) if columns else t for t in tables))


@pytest.mark.parametrize("keep", ["first", "longest"])
@pytest.mark.parametrize("at_once", [300, 3000])
def test_decisions_are_the_same_with_next_to_no_memory(tmp_path, at_once, keep):
    filter = MinHash(shingle_words=3, bands=28, rows=4, keep=keep)
    batches = [documents(*(d.text for d in Dirt(exact_duplicate=0.2, near_duplicate=0.2).plant(Tales(), 60, start))) for start in (0, 60)]
    notes = noted(filter, *batches)
    notes.scratch = tmp_path
    plain = module.resolve(filter, notes)
    assert plain.num_rows > 30
    assert module.resolve(filter, notes, at_once).equals(plain)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), min_size=1, max_size=10), st.floats(0.1, 0.9))
def test_groups_are_those_of_comparing_all_with_all(texts, min_jaccard):
    filter = MinHash(shingle_words=2, bands=200, rows=1, arrangements=1, min_jaccard=min_jaccard)  # a band per hash: nothing is overlooked
    group = list(range(len(texts)))
    for i, one in enumerate(texts):
        for j, other in enumerate(texts[:i]):
            if one and other and true_jaccard(one, other, 2) >= min_jaccard:
                group = [group[j] if g == group[i] else g for g in group]
    expected = {i for i in range(len(texts)) if i != min(j for j in range(len(texts)) if group[j] == group[i])}
    assert {int(id[1:]) for id in verdicts(filter, *map(" ".join, texts))} == expected


@pytest.mark.parametrize("length", [8, 60, 2000])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_sketches_agree_as_much_as_sets_do(length, share):
    rng = np.random.default_rng(5)
    sets, expected = [], round(share * length) / (2 * length - round(share * length))
    for _ in range(60):
        values = rng.integers(0, 2**63, 2 * length, dtype=np.uint64)
        sets += [values[:length], values[length - round(share * length) : 2 * length - round(share * length)]]
    table = sketches(np.concatenate(sets), np.arange(len(sets) + 1) * length, 112)
    agreement = (table[::2] == table[1::2]).mean(axis=1)
    assert agreement.mean() == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 112 / 60) + 0.01)
    assert agreement.std() < 1.5 * math.sqrt(expected * (1 - expected) / 112)


def test_a_sketch_depends_on_the_set_alone():
    values = mixed(np.arange(3000, dtype=np.uint64))
    one = sketches(values, np.array([0, 10, 3000]), 112)
    assert np.array_equal(sketches(np.tile(values[:10], 7), np.array([0, 70]), 112)[0], one[0])
    assert np.array_equal(sketches(values[10:][::-1], np.array([0, 2990]), 112)[0], one[1])
    assert np.array_equal(sketches(values, np.array([0, 3000]), 112)[0], one.min(axis=0))


def test_bands_of_another_arrangement_hold_other_hashes():
    orders = arranged(112, 3)
    assert [sorted(order) for order in orders] == [list(range(112))] * 3
    assert len({tuple(sorted(order[band::14])) for order in orders for band in range(14)}) == 42
    table = np.tile(np.arange(112, dtype=np.uint64), (2, 1))
    table[1, 0] = 999  # one hash differs: one band of each arrangement
    keys = band_keys(table, 14, 8, 3)
    assert (keys[0] != keys[1]).sum() == 3
    assert len(set(keys[0].tolist())) == 42


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8])
def test_the_curve_says_how_many_pairs_become_candidates(similarity):
    filter, pairs, length = MinHash(arrangements=1), 1500, 300
    rng = np.random.default_rng(1)
    shared = round(2 * length * similarity / (1 + similarity))
    sets = []
    for _ in range(pairs):
        values = rng.integers(0, 2**63, 2 * length, dtype=np.uint64)
        sets += [values[:length], values[length - shared : 2 * length - shared]]
    keys = band_keys(sketches(np.concatenate(sets), np.arange(2 * pairs + 1) * length, 112), 14, 8, 1)
    assert (keys[::2] == keys[1::2]).any(axis=1).mean() == pytest.approx(filter.caught(similarity), abs=0.045)
    twice = band_keys(sketches(np.concatenate(sets), np.arange(2 * pairs + 1) * length, 112), 14, 8, 2)
    assert (twice[::2] == twice[1::2]).any(axis=1).mean() > filter.caught(similarity)


def test_long_texts_are_compared_by_samples():
    one = prose(1, 20_000)
    near = edited(one, 800)
    found = verdicts(MinHash(), " ".join(one), " ".join(near), " ".join(one[:19_000]))
    assert found["d1"]["value"] == pytest.approx(true_jaccard(one, near), abs=0.05)
    assert found["d2"]["value"] == pytest.approx(0.95, abs=0.02)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20), st.integers(0, 20))
def test_components_are_those_of_joining_one_by_one(pairs, cut):
    group = list(range(12))
    joined = Components(12)
    for some in (pairs[:cut], pairs[cut:]):
        joined.join(np.array([a for a, _ in some], int), np.array([b for _, b in some], int))
    for a, b in pairs:
        low, high = sorted((group[a], group[b]))
        group = [low if g == high else g for g in group]
    assert joined.find(np.arange(12)).tolist() == group


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6), st.integers(3, 40))
def test_repeats_are_found_with_any_memory(tmp_path_factory, parts, at_once):
    places = np.split(np.arange(sum(map(len, parts))), np.cumsum(list(map(len, parts)))[:-1]) if parts else []
    hashed = [(mixed(np.array(p, np.uint64) + np.uint64(1)), at) for p, at in zip(parts, places, strict=True)]
    flat = [key for part in parts for key in part]
    repeats = Repeats(hashed, tmp_path_factory.getbasetemp(), at_once)
    for _ in range(2):
        found = sorted(p[a:b].tolist() for p, starts in repeats for a, b in pairwise(starts))
        assert found == sorted([i for i, k in enumerate(flat) if k == key] for key in set(flat) if flat.count(key) > 1)


def test_planted_near_duplicates_are_found_and_clean_tales_stay():
    planted = list(Dirt(seed=11).plant(Tales(), 1500))
    filter = MinHash(shingle_words=3, bands=28, rows=4, min_jaccard=0.55)
    (found,) = judge_all(filter, [documents(*(d.text for d in planted))])
    dropped = dict(zip(planted, found.dropped.to_pylist(), strict=True))

    def rate(label):
        return np.mean([gone for document, gone in dropped.items() if document.label == label])

    assert rate("exact_duplicate") == 1
    assert rate("near_duplicate") >= 0.95
    assert rate("clean") <= 0.01


@pytest.mark.real
def test_versions_of_real_files(real_data):
    import csv
    import json

    folder = real_data / "E_quality" / "git_version_neardups"
    rows = [json.loads(line) for line in (folder / "docs.jsonl").open()]
    batch = documents(*(row["text"] for row in rows))
    hashes, bounds = shingles(words_of(batch["text"]), 5)
    sets = [np.unique(hashes[a:b]) for a, b in pairwise(bounds)]
    (found,) = judge_all(MinHash(), [batch])
    dropped = found.dropped.to_pylist()
    with (folder / "pairs.csv").open() as file:
        pairs = [(int(p["id_a"]), int(p["id_b"]), float(p["jaccard_word5"])) for p in csv.DictReader(file)]
    place = {row["id"]: i for i, row in enumerate(rows)}
    near = [(place[a], place[b]) for a, b, jaccard in pairs if jaccard >= 0.85 and a in place and b in place]
    assert np.mean([dropped[a] or dropped[b] for a, b in near]) >= 0.99
    far = [i for i in range(len(rows)) if dropped[i]]
    best = [max(len(np.intersect1d(sets[i], sets[j])) / len(np.union1d(sets[i], sets[j])) for j in range(len(rows)) if j != i) for i in far[:8]]
    assert min(best) >= 0.55
    assert isinstance(found.values, pa.Array)
