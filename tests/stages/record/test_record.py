"""Reading a record: the right documents, chosen evenly, with all that was said of them."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.stages.record import Record, card, html_page, leaks, page_of, pairs, story
from bloomery.stages.record.pairs import original
from bloomery.stages.record.sampling import keys_of
from bloomery.text.filters import Length, PersonalData
from tests.stages.record.corpora import record_of


def every(record, kind):
    """All documents of a kind, read naively."""
    return [row for path in record.files(kind) for row in pq.read_table(path).to_pylist()]


def verdicts(record):
    return pq.read_table(record.artifact.file("verdicts.parquet")).to_pylist()


@given(st.lists(st.text(max_size=12), max_size=30), st.integers(0, 5), st.integers(0, 5))
def test_a_documents_key_depends_on_its_id_and_the_seed_alone(ids, seed, start):
    whole = keys_of(pa.array(ids, pa.string()), seed)
    assert (keys_of(pa.chunked_array([ids[:start], ids[start:]], pa.string()), seed) == whole).all()
    assert (keys_of(pa.array(["padding", *ids], pa.string()).slice(1), seed) == whole).all()
    assert len(set(whole.tolist())) == len(set(ids))
    if ids:
        assert (keys_of(pa.array(ids, pa.string()), seed + 1) != whole).all()


def test_keys_are_spread_evenly():
    keys = keys_of(pa.array([f"rows.jsonl#L{i}" for i in range(40_000)]), 3)
    counts = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16)
    assert (abs(counts - 2500) < 250).all()
    assert len(np.unique(keys)) == 40_000


def test_a_sample_is_the_same_for_a_seed_and_another_for_another(record):
    one, total = record.dropped(8, seed=1)
    again, _ = record.dropped(8, seed=1)
    assert [f.id for f in one] == [f.id for f in again]
    assert [f.id for f in one] != [f.id for f in record.dropped(8, seed=2)[0]]
    assert total == len(every(record, "dropped"))
    assert len(record.files("dropped")) > 3


def test_a_sample_as_large_as_all_is_all(record):
    found, total = record.dropped(10_000, seed=0)
    assert {f.id for f in found} == {row["id"] for row in every(record, "dropped")}
    assert len(found) == total


def test_each_document_is_as_likely_as_any_other(record):
    picked = [f.id for seed in range(40) for f in record.dropped(10, seed=seed)[0]]
    ids = [row["id"] for row in every(record, "dropped")]
    assert set(picked) == set(ids)
    assert max(picked.count(id) for id in ids) < 4 * len(picked) / len(ids)


def test_a_sample_can_be_of_one_filter_one_reason_and_some_words(record):
    by_id = {v["id"]: v for v in verdicts(record) if v["action"] == "drop"}
    for row in record.dropped(1000, 0, filter="ExactDuplicates")[0]:
        assert by_id[row.id]["filter"] == row.filter == "ExactDuplicates"
    below = record.dropped(1000, 0, reason="BELOW 20")[0]
    assert {f.id for f in below} == {id for id, v in by_id.items() if v["reason"] == "chars below 20"}
    some = record.dropped(1000, 0, filter="Length", search="NUMBER 17,")[0]
    assert [f.id for f in some] == [row["id"] for row in every(record, "dropped") if row["filter"] == "Length" and "number 17," in row["text"]]
    assert len(some) == 1
    assert record.dropped(5, 0, search=".*") == ([], 0)  # it is no pattern


def test_what_was_said_comes_with_the_document(record):
    for found in record.dropped(1000, 0)[0]:
        told = [v for v in verdicts(record) if v["id"] == found.id]
        assert sorted(j.reason for j in found.judgements) == sorted(v["reason"] for v in told)
        assert found.drop is not None
        assert found.drop.filter == found.filter
    short = record.dropped(1, 0, reason="below")[0][0]
    assert (short.drop.value, short.drop.threshold) == (len(short.text), 20)


def test_documents_are_found_wherever_they_are(record):
    for kind, where in (("documents", "kept"), ("held_out", "held out"), ("dropped", "dropped")):
        row = every(record, kind)[-1]
        found = record.find([row["id"], "nobody"])
        assert list(found) == [row["id"]]
        assert (found[row["id"]].text, found[row["id"]].where) == (row["text"], where)


def test_pairs_stand_beside_the_one_that_stayed(record):
    found, total = pairs(record, 1000, 0)
    assert total == len(found) == sum(v["reason"].startswith("duplicate of") for v in verdicts(record))
    for pair in found:
        assert pair.twin is not None
        assert pair.twin.id == pair.of != pair.dropped.id
        assert pair.twin.text.split() == pair.dropped.text.split()


def test_reasons_name_the_original_with_or_without_a_group_between():
    assert original("duplicate of a of b.txt#L3") == "a of b.txt#L3"
    assert original("near duplicate of near duplicates of x (2)") == "x (2)"
    assert original("too short") == ""


def test_a_story_goes_from_filter_to_filter(record):
    dropped = record.dropped(1, 0, filter="Length")[0][0]
    told = story(record, dropped.id)
    assert [(filter, what) for filter, what, _ in told.steps][1:] == [("Length", "drop"), ("ExactDuplicates", "not reached")]
    assert told.measures == {"Length.chars": len(dropped.text.strip())}
    first = pairs(record, 1, 0)[0][0].of
    told = story(record, first)
    assert [what for _, what, _ in told.steps][1:] == ["kept", "kept"]
    assert set(told.repeats) <= {row["id"] for row in every(record, "dropped") if row["filter"] == "ExactDuplicates"}
    assert told.repeats


def test_repeats_of_a_longer_id_are_not_taken_for_repeats_of_its_beginning(record):
    short = pairs(record, 1, 0)[0][0].of[:-1]
    with contextlib.suppress(DataError):
        assert story(record, short).repeats == []


def test_an_unknown_document_is_told_with_an_example(record):
    with pytest.raises(DataError, match=r"knows no document 'emma'; ids look like 'rows.jsonl#L"):
        story(record, "emma")


def test_texts_that_were_not_kept_are_told(tmp_path):
    record = record_of(tmp_path, keep_dropped=0.0)
    with pytest.raises(ArtifactError, match="keep_dropped=1"):
        record.dropped(3, 0)
    gone = next(v["id"] for v in verdicts(record) if v["action"] == "drop")
    told = story(record, gone)
    assert told.found is None
    assert "drop" in [what for _, what, _ in told.steps]


def test_an_unknown_filter_is_told_with_the_nearest(record):
    with pytest.raises(ConfigError, match="has no filter 'Lenght'; did you mean 'Length'"):
        record.dropped(1, 0, filter="Lenght")


def test_what_is_no_corpus_is_told(record):
    from dataclasses import replace

    manifest = replace(record.artifact.manifest, stage="Train", summary={}, inputs={"corpus": "Prepare/main-12"})
    with pytest.raises(ConfigError, match="made by Train.*look at Prepare/main-12"):
        Record(replace(record.artifact, manifest=manifest))


def test_a_corpus_that_was_compared_with_no_test_set_has_no_leaks(record):
    assert leaks(record) == []


def test_a_file_that_was_cut_is_named(tmp_path):
    record = record_of(tmp_path)
    path = record.files("dropped")[1]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="missing or has another length"):
        record.dropped(3, 0)


def test_personal_data_in_what_was_dropped_is_blotted_out_where_the_corpus_has_none(tmp_path):
    plain = record_of(tmp_path, filters=(Length(min_chars=250),))
    assert "jo.doe@example.com" in "".join(f.text for f in plain.dropped(1000, 0)[0])
    masked = record_of(tmp_path, filters=(Length(min_chars=250), PersonalData()))
    texts = "".join(f.text for f in masked.dropped(1000, 0)[0])
    assert "jo.doe@" not in texts
    assert "write to ██████████████████." in texts
    assert "jo.doe@" not in html_page(page_of(masked)) + card(masked)
