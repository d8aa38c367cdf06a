"""What every filter promises, the ones that do not exist yet included."""

import pickle

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.filter_examples import EXAMPLES

import bloomery.stages
import bloomery.text.filters  # noqa: F401  (the subclasses)
from bloomery.text.documents import DOCUMENTS, Document, conversation, to_batch
from bloomery.text.filters import VERDICTS, Filter, GlobalFilter, judge_all


def subclasses(cls):
    return [c for child in cls.__subclasses__() for c in (child, *subclasses(child))]


FILTERS = [cls for cls in subclasses(Filter) if cls is not GlobalFilter and cls.__module__.startswith("bloomery.") and cls.__name__[0] != "_"]
every_filter = pytest.mark.parametrize("filter", [EXAMPLES.get(cls.__name__, cls)() for cls in FILTERS], ids=lambda f: f.kind())

text = st.one_of(st.text(max_size=20), st.sampled_from(["", " ", "a", "a ", "\ufeffa\r\nb", "e\u0301", "\x00", "same", "same\n", "a" * 300]))
content = text.filter(bool)
messages = st.lists(content, min_size=2, max_size=2).map(lambda c: [{"role": "user", "content": c[0]}, {"role": "assistant", "content": c[1]}])
bodies = st.lists(st.one_of(text, messages), min_size=1, max_size=12)


def batch_of(bodies):
    make = [conversation(f"d{i}", "s", b) if isinstance(b, list) else Document(f"d{i}", b, "s") for i, b in enumerate(bodies)]
    return to_batch(make)


def verdicts_on(filter, batches):
    """What a filter says of a corpus, batch by batch."""
    if isinstance(filter, GlobalFilter):
        return judge_all(filter, batches)
    operator = filter.open(EXAMPLES.folder_of)
    return [operator(batch) for batch in batches]


def judged(filter, batches):
    """All that a filter says of a corpus: the rows left, and the verdicts."""
    verdicts = verdicts_on(filter, batches)
    left = [row for v in verdicts for row in v.kept().to_pylist()]
    return left, [row for v in verdicts for row in v.table("f").to_pylist()]


def test_there_are_filters():
    assert len(FILTERS) >= 3


@every_filter
@settings(deadline=None, max_examples=15)
@given(bodies=bodies)
def test_the_same_batch_gets_the_same_verdicts_and_stays_as_it_was(filter, bodies):
    batch = batch_of(bodies)
    first = judged(filter, [batch])
    assert batch.equals(batch_of(bodies))
    assert judged(filter, [batch]) == first


@every_filter
@settings(deadline=None, max_examples=15)
@given(bodies=bodies, data=st.data())
def test_batching_does_not_matter(filter, bodies, data):
    batch = batch_of(bodies)
    cut = data.draw(st.integers(0, batch.num_rows))
    assert judged(filter, [batch.slice(0, cut), batch.slice(cut)]) == judged(filter, [batch])


@every_filter
@settings(deadline=None, max_examples=15)
@given(bodies=bodies)
def test_ids_order_and_schema_are_preserved(filter, bodies):
    batch = batch_of(bodies)
    (verdicts,) = verdicts_on(filter, [batch])
    assert verdicts.batch.schema == DOCUMENTS
    assert verdicts.batch["id"].equals(batch["id"])
    assert verdicts.table("f").schema == VERDICTS
    verdicts.batch.validate(full=True)


@every_filter
@settings(deadline=None, max_examples=15)
@given(bodies=bodies)
def test_whatever_a_filter_touches_has_a_reason_and_nothing_else_has(filter, bodies):
    batch = batch_of(bodies)
    (verdicts,) = verdicts_on(filter, [batch])
    changed = [a != b for a, b in zip(batch.to_pylist(), verdicts.batch.to_pylist(), strict=True)]
    touched = [a or b for a, b in zip(changed, verdicts.dropped.to_pylist(), strict=True)]
    assert pc.is_valid(verdicts.reasons).to_pylist() == touched


@every_filter
@settings(deadline=None, max_examples=15)
@given(bodies=bodies)
def test_what_was_kept_once_is_kept_as_it_is_the_second_time(filter, bodies):
    kept = verdicts_on(filter, [batch_of(bodies)])[0].kept()
    assert verdicts_on(filter, [kept])[0].table("f").num_rows == 0


@every_filter
@settings(deadline=None, max_examples=15)
@given(bodies=bodies)
def test_spans_lie_within_their_text_and_measures_have_one_number_a_row(filter, bodies):
    batch = batch_of(bodies)
    (verdicts,) = verdicts_on(filter, [batch])
    for measure in verdicts.measures:
        assert len(measure.values) == batch.num_rows
    after, before, dropped = verdicts.batch["text"].to_pylist(), batch["text"].to_pylist(), verdicts.dropped.to_pylist()
    texts = [b if gone else a for a, b, gone in zip(after, before, dropped, strict=True)]
    for spans, body in zip(verdicts.spans.to_pylist() if verdicts.spans is not None else [], texts, strict=False):
        assert all(0 <= span["start"] <= span["end"] <= len(body) for span in spans or [])


@every_filter
@settings(deadline=None, max_examples=30)
@given(bodies=bodies, known=bodies)
def test_what_is_known_already_only_takes_more(filter, bodies, known):
    if not isinstance(filter, GlobalFilter):
        pytest.skip("judges each document by itself")
    alone = {row["id"] for row in judged(filter, [batch_of(bodies)])[0]}
    beside = judge_all(filter, [batch_of(bodies)], known=[batch_of(known)])
    assert len(beside) == 1
    assert {row["id"] for row in beside[0].kept().to_pylist()} <= alone


@every_filter
def test_it_travels_to_other_processes(filter):
    assert pickle.loads(pickle.dumps(filter)) == filter


@every_filter
def test_an_empty_batch_is_fine(filter):
    assert verdicts_on(filter, [pa.RecordBatch.from_pylist([], schema=DOCUMENTS)])[0].kept().num_rows == 0
