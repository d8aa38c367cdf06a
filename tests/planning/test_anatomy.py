"""What is known of a deep stack follows from a shallow one of its kind."""

import pytest
from tests.models.cases import CASES

from bloomery.data import Compared, MaskedTokens, NextToken
from bloomery.objectives import CausalLM, PolicyGradient, ReferenceKL, SimPO
from bloomery.optim import Muon
from bloomery.planning.anatomy import sharing_of
from bloomery.stages import anatomy
from bloomery.stages.anatomy import Planned, anatomy_of, shortened


@pytest.mark.parametrize(("name", "layers"), [("llama", 5), ("gemma2", 9), ("bert", 5), ("mixtral", 5)])
def test_a_deep_stack_is_known_from_three_cycles_of_its_layers(name, layers, monkeypatch):
    config = CASES[name].replace(n_layers=layers)
    planned = Planned(config=config, time=24, task=NextToken() if config.reads_forward else MaskedTokens())
    assert shortened(config) is not None
    told = anatomy_of(planned, 2)
    monkeypatch.setattr(anatomy, "shortened", lambda config: None)
    assert anatomy_of(planned, 2) == told


@pytest.mark.parametrize(("objective", "task"), [
    (SimPO(), Compared()), (PolicyGradient() + ReferenceKL(), NextToken()), (CausalLM(), NextToken()),
], ids=["pairs", "policy", "language"])  # fmt: skip
def test_losses_that_pick_places_by_their_weight_are_planned_as_if_all_were_picked(objective, task):
    planned = Planned(config=CASES["llama"], time=24, objective=objective, task=task)
    found = anatomy_of(planned, 2)
    assert found.first[-1].forward.worst.total > 0
    assert found.loss(24)[0].backward.left.total != 0


def test_what_an_optimiser_keeps_is_known_by_parameter():
    found = anatomy_of(Planned(config=CASES["llama"], time=16, optimizer=Muon()), 1).weights
    assert found["blocks.0.ff.down.weight"].state == found["blocks.0.ff.down.weight"].bytes
    assert found["embedding.weight"].state == 2 * found["embedding.weight"].bytes + 4
    averaged = anatomy_of(Planned(config=CASES["llama"], time=16, decay=0.9), 1).weights["embedding.weight"]
    assert (averaged.state, averaged.copies) == (2 * averaged.bytes + 4, averaged.bytes)
    guarded = anatomy_of(Planned(config=CASES["llama"], time=16, decay=0.9, guarded=True), 1).weights["embedding.weight"]
    assert (guarded.state, guarded.copies) == (2 * guarded.bytes + 4, 2 * guarded.bytes)


def test_modules_say_how_their_weights_can_be_shared():
    sharing = sharing_of(CASES["mixtral"].skeleton())
    assert sharing["blocks.0.mixer.qkv.weight"] == "tensor"
    assert sharing["blocks.0.ff.gate_up.weight"] == "expert"
    assert "embedding.weight" not in sharing
    assert "blocks.0.mixer_norm.weight" not in sharing
