"""What holds for every task that is put to a model."""

from __future__ import annotations

import json
import math

import pytest
from tests.contracts.task_examples import examples
from tests.evals.small import BESIDE, SMALL

from bloomery.evals import EvalTask


def everything(kind):
    return [found for child in kind.__subclasses__() for found in (child, *everything(child))]


KINDS = sorted((kind for kind in everything(EvalTask) if not kind.__abstractmethods__), key=lambda kind: kind.kind())


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> dict[type[EvalTask], EvalTask]:
    return {type(task): task for task in examples(tmp_path_factory.mktemp("rows"))}


@pytest.fixture(scope="module")
def sittings(tasks):
    return {kind: task.sittings(SMALL) for kind, task in tasks.items()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind())
def test_each_row_has_its_outcome_and_its_part_of_every_figure(kind, tasks, sittings):
    asked = None
    for sitting in sittings[kind]:
        ids = [one.id for one in sitting.outcomes]
        assert len(set(ids)) == len(ids) > 0
        assert asked in (None, ids)  # in every wording the same
        asked = ids
        assert [row.id for row in tasks[kind].read() if row.id in ids] == ids
        assert all(len(measure.parts) == len(ids) for measure in sitting.measures.values())
        assert not sitting.right or all(sitting.right in one.numbers for one in sitting.outcomes)
        json.dumps([one.plain() for one in sitting.outcomes])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind())
def test_every_figure_has_its_error_and_differs_from_itself_by_nothing(kind, tasks, sittings):
    others = tasks[kind].sittings(BESIDE)
    for sitting, other in zip(sittings[kind], others, strict=True):
        for name, measure in sitting.measures.items():
            found = measure.estimate()
            assert all(math.isfinite(number) for number in (found.value, found.error, found.low, found.high)), name
            assert found.low <= found.value <= found.high or name == "calibration_error", name  # which drawing anew only makes larger
            assert measure.less(measure).value == measure.less(measure).error == 0
            less, more = measure.less(other.measures[name]), other.measures[name].less(measure)
            assert (less.value, less.error) == pytest.approx((-more.value, more.error))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind())
def test_an_answer_does_not_depend_on_what_else_is_asked(kind, tasks, sittings):
    fewer = tasks[kind].replace(limit=3).sittings(SMALL)
    for sitting, some in zip(sittings[kind], fewer, strict=True):
        whole = {one.id: one for one in sitting.outcomes}
        assert len(some.outcomes) == 3
        for one in some.outcomes:
            same = whole[one.id]
            assert (one.asked, one.expected, one.said, one.written) == (same.asked, same.expected, same.said, same.written)
            assert one.numbers == pytest.approx(same.numbers, abs=1e-4)


def test_a_task_is_a_value_whose_identity_tells_all(tasks):
    for kind in KINDS:
        task = tasks[kind]
        assert task == task.replace()
        assert json.loads(json.dumps(task.identity())) == task.replace().identity() != task.replace(seed=1).identity()
