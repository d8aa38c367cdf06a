"""Losses of whole rankings beside what they are made of: pairs where there are two, and probabilities of orders, which add up to 1."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from tests.contracts.objective_examples import TINY, WITH_REWARD, Old, paired, ranked

from bloomery.core.errors import ConfigError
from bloomery.data import Compared, Ordered
from bloomery.data.batch import Batch, Labels
from bloomery.data.tasks import WORTH
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import DPO, BradleyTerry, Models, PlackettLuce, RankedDPO

SIDES = ([1, 5, 7], [1, 3, 6, 6], [1, 4], [1, 9, 8, 8, 2])


def in_order(order, sides=SIDES) -> Batch:
    """One ranking as a row."""
    documents = [sides[i] for i in order]
    ids = torch.tensor([token for one in documents for token in one])[None]
    segments = torch.tensor([n for n, one in enumerate(documents, start=1) for _ in one])[None]
    last = torch.nn.functional.pad(segments[:, 1:] != segments[:, :-1], (0, 1), value=True)
    known = torch.ones_like(ids, dtype=torch.float32)
    return Batch(ids, ids.roll(-1, 1), (~last).float(), SequenceLayout.packed(segments), labels={WORTH: Labels(segments.float(), known)})


@pytest.mark.parametrize(("objective", "model"), [(PlackettLuce(head="stars"), WITH_REWARD), (RankedDPO(reference=Old(), beta=2.0), TINY)])
def test_the_probabilities_of_all_orders_add_up_to_one(objective, model):
    models = Models(model.build(seed=0).double(), {Old().address: TINY.build(seed=1).double()})
    with torch.no_grad():
        found = [objective(models, in_order(order))[0] for order in permutations(range(4))]
    assert {one.weight for one in found} == {3.0}
    assert sum(float(torch.exp(-one.total)) for one in found) == pytest.approx(1.0, abs=1e-6)
    assert len({round(float(one.total), 6) for one in found}) > 6
    assert sum(float(one.metrics["best_first"]) == 3 for one in found) == 1  # of one order alone all choices are right


@pytest.mark.parametrize(("whole", "of_pairs", "model"), [
    (PlackettLuce(head="stars"), BradleyTerry(head="stars"), WITH_REWARD),
    (RankedDPO(reference=Old(), beta=0.3), DPO(reference=Old(), beta=0.3), TINY),
])  # fmt: skip
def test_a_ranking_of_two_is_a_pair(whole, of_pairs, model):
    pairs = paired()
    of_one = (pairs.layout.positions == 0).cumsum(1)
    ranks = replace(pairs, labels={WORTH: Labels((2 - of_one % 2).float(), (pairs.loss_weight > 0).float())})
    models = Models(model.build(seed=0), {Old().address: TINY.build(seed=1)})
    (ours,), (theirs,) = whole(models, ranks), of_pairs(models, pairs)
    assert ours.weight == theirs.weight == 6
    assert float(ours.total) == pytest.approx(float(theirs.total), rel=1e-6)


def test_rankings_of_a_row_are_told_apart_by_where_they_begin():
    (found,) = PlackettLuce(head="stars")(Models(WITH_REWARD.build(seed=0)), ranked())
    assert found.weight == 3 + 4  # one of four, and four of two


def test_a_margin_grows_with_what_the_better_side_is_rated_above_the_other():
    pairs = paired()
    number = (pairs.layout.positions == 0).cumsum(1)
    rated = replace(pairs, labels={WORTH: Labels(torch.where(number % 2 == 1, 4.0, 1.0), (pairs.loss_weight > 0).float())})
    models = Models(WITH_REWARD.build(seed=0))
    by_rating = BradleyTerry(head="stars", margin=0.1, margin_per_point=0.5)
    for batch, margin in ((rated, 1.6), (pairs, 0.1)):
        (found,), (fixed,) = by_rating(models, batch), BradleyTerry(head="stars", margin=margin)(models, pairs)
        assert float(found.total) == pytest.approx(float(fixed.total), rel=1e-6)


def test_what_makes_no_ranking_is_refused():
    with pytest.raises(ConfigError, match="take rows of Rankings"):
        PlackettLuce(head="stars").check_training(WITH_REWARD, Compared())
    with pytest.raises(ConfigError, match="no head of its LlamaConfig that gives a number"):
        PlackettLuce().check_training(TINY, Ordered())
