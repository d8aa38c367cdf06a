"""What every optimiser, schedule and objective keeps, newcomers included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.identity import content_key
from bloomery.models import LlamaConfig
from bloomery.optim import OptimizerConfig, Schedule, Warmed
from bloomery.stages.anatomy import Planned, anatomy_of

TINY = LlamaConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)


def run(config, model, optimizer, first, last):
    for step in range(first, last):
        for i, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * step + i))
        optimizer.step()


def kinds(base):
    """All of ours that can be built: what has no subclasses of its own. Other tests may have made some, too."""
    ours = [child for child in base.__subclasses__() if child.__module__.startswith("bloomery.")]
    return [leaf for child in ours for leaf in kinds(child) or [child]]


@pytest.mark.parametrize("kind", kinds(OptimizerConfig), ids=lambda kind: kind.__name__)
class TestEveryOptimizer:
    def test_moves_every_parameter(self, kind):
        model = TINY.build(seed=0)
        before = [p.detach().clone() for p in model.parameters()]
        run(kind(), model, kind().build(model), 0, 1)
        assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    def test_continues_bitwise_from_its_state(self, kind):
        whole, half = TINY.build(seed=0), TINY.build(seed=0)
        optimizer = kind().build(whole)
        run(kind(), whole, optimizer, 0, 6)
        first = kind().build(half)
        run(kind(), half, first, 0, 3)
        second = kind().build(half)
        second.load({name: value.clone() for name, value in first.state().items()})
        run(kind(), half, second, 3, 6)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters(), strict=True))

    def test_state_is_keyed_by_the_models_names(self, kind):
        model = TINY.build(seed=0)
        optimizer = kind().build(model)
        run(kind(), model, optimizer, 0, 1)
        assert {path.rsplit("|", 1)[0] for path in optimizer.state()} == {name for name, _ in model.named_parameters()}

    def test_all_rates_go_with_the_learning_rate(self, kind):
        plain, scaled = (optimizer.build(TINY.build(seed=0)) for optimizer in (kind(), kind().at(3 * kind().learning_rate)))
        for ours, theirs in zip(plain.parts, scaled.parts, strict=True):
            for a, b in zip(ours.param_groups, theirs.param_groups, strict=True):
                assert b["lr"] == pytest.approx(3 * a["lr"])

    def test_its_memory_is_planned_without_any(self, kind):
        model = TINY.build(seed=0)
        optimizer = kind().build(model)
        run(kind(), model, optimizer, 0, 1)
        planned = anatomy_of(Planned(config=TINY, time=16, optimizer=kind()), 2).weights
        assert sum(weight.state for weight in planned.values()) == sum(slot.nbytes for slot in optimizer.state().values())

    def test_a_factor_of_zero_moves_nothing(self, kind):
        model = TINY.build(seed=0)
        before = [p.detach().clone() for p in model.parameters()]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        kind().build(model).step(0.0)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("kind", kinds(Schedule), ids=lambda kind: kind.__name__)
class TestEverySchedule:
    @given(steps=st.integers(1, 3000), at=st.floats(0, 1))
    def test_stays_between_zero_and_one(self, kind, steps, at):
        assert 0 <= kind().factor(round(at * (steps - 1)), steps) <= 1

    def test_has_an_identity(self, kind):
        name = next(iter(kind.model_fields))
        changed = kind(**{name: 1 if name == "low" else 7})
        assert content_key(kind()) != content_key(changed)
        assert content_key(kind()) == content_key(kind(**{name: getattr(kind(), name)}))


@pytest.mark.parametrize("kind", kinds(Warmed), ids=lambda kind: kind.__name__)
class TestEveryWarmedSchedule:
    @given(warmup=st.integers(1, 200), after=st.integers(0, 800), at=st.floats(0, 1))
    def test_warms_up_along_a_line_to_one(self, kind, warmup, after, at):
        step, steps = round(at * (warmup - 1)), warmup + after
        schedule = kind(warmup=warmup)
        assert schedule.factor(step, steps) == pytest.approx((step + 1) / warmup)
        assert schedule.factor(warmup - 1, steps) == 1.0
        assert all(0 <= schedule.factor(step, steps) <= 1 for step in range(steps))

    @given(fraction=st.floats(0, 1), steps=st.integers(1, 2000))
    def test_a_fraction_is_that_of_all_steps(self, kind, fraction, steps):
        by_steps, by_fraction = kind(warmup=round(fraction * steps)), kind(warmup=fraction)
        assert by_fraction.factor(steps - 1, steps) == by_steps.factor(steps - 1, steps)
