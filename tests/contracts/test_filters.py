"""What every filter promises, the ones that do not exist yet included."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bloomery.text.filters  # noqa: F401  (the subclasses)
from bloomery.text.documents import DOCUMENTS, Document, conversation, to_batch
from bloomery.text.filters import VERDICTS, Chain, Filter, GlobalFilter


def subclasses(cls):
    return [c for child in cls.__subclasses__() for c in (child, *subclasses(child))]


FILTERS = [cls for cls in subclasses(Filter) if cls is not GlobalFilter]
every_filter = pytest.mark.parametrize("filter", [cls() for cls in FILTERS], ids=lambda f: f.kind())

text = st.one_of(st.text(max_size=20), st.sampled_from(["", " ", "a", "a ", "\ufeffa\r\nb", "e\u0301", "\x00", "same", "same\n", "a" * 300]))
content = text.filter(bool)
messages = st.lists(content, min_size=2, max_size=2).map(lambda c: [{"role": "user", "content": c[0]}, {"role": "assistant", "content": c[1]}])
bodies = st.lists(st.one_of(text, messages), min_size=1, max_size=12)


def batch_of(bodies):
    make = [conversation(f"d{i}", "s", b) if isinstance(b, list) else Document(f"d{i}", b, "s") for i, b in enumerate(bodies)]
    return to_batch(make)


def judged(filter, batches):
    """All that a filter says of a corpus: the rows left, and the verdicts."""
    judge = filter.begin()
    verdicts = [judge(batch) for batch in batches]
    left = [row for v in verdicts for row in v.kept().to_pylist()]
    return left, [row for v in verdicts for row in v.table("f").to_pylist()]


def test_there_are_filters():
    assert len(FILTERS) >= 3


@every_filter
@settings(deadline=None, max_examples=60)
@given(bodies=bodies)
def test_the_same_batch_gets_the_same_verdicts_and_stays_as_it_was(filter, bodies):
    batch = batch_of(bodies)
    first = judged(filter, [batch])
    assert batch.equals(batch_of(bodies))
    assert judged(filter, [batch]) == first


@every_filter
@settings(deadline=None, max_examples=60)
@given(bodies=bodies, data=st.data())
def test_batching_does_not_matter(filter, bodies, data):
    batch = batch_of(bodies)
    cut = data.draw(st.integers(0, batch.num_rows))
    assert judged(filter, [batch.slice(0, cut), batch.slice(cut)]) == judged(filter, [batch])


@every_filter
@settings(deadline=None, max_examples=60)
@given(bodies=bodies)
def test_ids_order_and_schema_are_preserved(filter, bodies):
    batch = batch_of(bodies)
    verdicts = filter.begin()(batch)
    assert verdicts.batch.schema == DOCUMENTS
    assert verdicts.batch["id"].equals(batch["id"])
    assert verdicts.table("f").schema == VERDICTS
    verdicts.batch.validate(full=True)


@every_filter
@settings(deadline=None, max_examples=60)
@given(bodies=bodies)
def test_whatever_a_filter_touches_has_a_reason_and_nothing_else_has(filter, bodies):
    batch = batch_of(bodies)
    verdicts = filter.begin()(batch)
    changed = [a != b for a, b in zip(batch.to_pylist(), verdicts.batch.to_pylist(), strict=True)]
    touched = [a or b for a, b in zip(changed, verdicts.dropped.to_pylist(), strict=True)]
    assert pc.is_valid(verdicts.reasons).to_pylist() == touched


@every_filter
@settings(deadline=None, max_examples=60)
@given(bodies=bodies)
def test_what_was_kept_once_is_kept_as_it_is_the_second_time(filter, bodies):
    kept = filter.begin()(batch_of(bodies)).kept()
    assert filter.begin()(kept).table("f").num_rows == 0


@every_filter
@settings(deadline=None, max_examples=40)
@given(bodies=bodies, data=st.data())
def test_memory_restored_is_memory_kept(filter, bodies, data):
    batch = batch_of(bodies)
    cut = data.draw(st.integers(0, batch.num_rows))
    whole, before, resumed = Chain([filter]), Chain([filter]), Chain([filter])
    expected = [whole(batch.slice(0, cut)), whole(batch.slice(cut))][1]
    before(batch.slice(0, cut))
    for name, table in before.learnt().items():
        resumed.recall(name, table)
    got = resumed(batch.slice(cut))
    assert got.batch.equals(expected.batch)
    assert got.verdicts.equals(expected.verdicts)


@every_filter
def test_an_empty_batch_is_fine(filter):
    assert filter.begin()(pa.RecordBatch.from_pylist([], schema=DOCUMENTS)).kept().num_rows == 0
