"""Other thresholds: the figures are those of preparing the corpus again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.stages.record import condition, what_if
from bloomery.stages.record.histogram import Histogram, choose_edges, histograms
from bloomery.stages.record.what_if import inside
from bloomery.text.filters import Length, Normalise
from tests.stages.record.corpora import record_of


@pytest.mark.parametrize(
    ("text", "bounds"), [("Length.chars>=60", (60, 200)), ("Length.chars<=90", (20, 90)), ("Length.chars >= none", (None, 200))],
)  # fmt: skip
def test_it_says_what_preparing_again_would(tmp_path, text, bounds):
    record = record_of(tmp_path, filters=(Normalise(), Length(min_chars=20, max_chars=200)))
    low, high = bounds
    again = record_of(tmp_path, filters=(Normalise(), Length(min_chars=0 if low is None else low, max_chars=high)))
    measure, told = condition(record, text)
    assert (measure, told) == ("Length.chars", bounds)
    found = what_if(record, measure, told)
    flow = again.funnel[1]
    assert found.dropped + found.lost - found.released == flow.documents_in - flow.documents_out
    assert found.lost_kept == found.lost  # no filter behind it


def test_what_later_filters_took_anyway_is_no_loss_to_the_corpus(record):
    found = what_if(record, "Length.chars", (60, 200), 1000)
    now = {f.id: f.where for _, f in found.examples}
    assert found.lost_kept == sum(where != "dropped" for where in now.values())
    assert 0 < found.lost_kept < found.lost == len(now)


def test_examples_are_those_nearest_to_the_threshold(record):
    found = what_if(record, "Length.chars", (100, 200), 5)
    values = [value for value, _ in found.examples]
    assert values == sorted(values, reverse=True)
    assert max(values) < 100
    assert len(values) == 5
    assert all(len(one.text.strip()) == value for value, one in found.examples if one.where != "dropped")


def test_the_threshold_in_use_changes_nothing(record):
    found = what_if(record, "Length.chars", record.bounds["Length.chars"])
    assert (found.released, found.lost, found.examples) == (0, 0, [])


def test_bounds_are_compared_as_they_are_stored():
    stored = np.array([0.1, 0.2, 0.3], np.float32)  # 0.2 is a little more than the float64 of that name
    assert inside(stored, (None, 0.2)).tolist() == [True, True, False]
    assert inside(np.array([np.nan], np.float32), (1, 2)).tolist() == [True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Length.chars>30", "is no condition; write MEASURE>=NUMBER"), ("Length.chars>=1.2.3", "is no condition"), ("", "is no condition"),
        ("Length.char>=3", "did you mean 'Length.chars'"), ("words>=3", "it measured Length.chars"),
    ],
)  # fmt: skip
def test_a_condition_that_does_not_read_is_told(record, text, words):
    with pytest.raises(ConfigError, match=words):
        condition(record, text)


numbers = st.lists(st.one_of(st.floats(0, 1, width=32), st.integers(0, 10_000).map(float), st.just(float("nan"))), min_size=1, max_size=300)


@given(values=numbers, used=st.lists(st.floats(0, 1, width=32), max_size=2))
def test_a_histogram_gives_the_exact_count_between_any_two_of_its_thresholds(values, used):
    array = np.array(values, np.float32)
    edges = choose_edges(array, used)
    if not len(edges):
        assert np.isnan(array).all()
        return
    assert (np.diff(edges) > 0).all()
    assert {np.float32(bound) for bound in used} <= set(edges)
    histogram = Histogram(measure="F.m", bounds=(None, None), edges=edges, reached=len(values))
    histogram.add(array[: len(values) // 2])
    histogram.add(array[len(values) // 2 :])
    assert sum(histogram.bars()) == histogram.total
    for low, high in ((0, len(edges) - 1), (len(edges) // 3, len(edges) // 2)):
        counted = histogram.unmeasured + histogram.upto[high] - histogram.below[low]
        assert counted == (np.isnan(array) | ((array >= edges[low]) & (array <= edges[high]))).sum()


def test_the_sliders_begin_at_the_bounds_in_use_and_give_the_figures_of_the_funnel(record):
    (histogram,) = histograms(record)
    low, high = histogram.chosen()
    plain = histogram.plain()
    assert (plain["edges"][low - 1], plain["edges"][high]) == record.bounds["Length.chars"] == (20, 200)
    passed = plain["unmeasured"] + plain["upto"][high] - plain["below"][low - 1]
    assert passed == record.funnel[1].documents_out
    assert plain["reached"] == record.funnel[1].documents_in == plain["total"]
