"""What every `Adapter` promises. A new one is tested on arrival: it needs an entry in `adapter_examples.EXAMPLES`."""

from __future__ import annotations

from inspect import isabstract

import pytest
import torch
from tests.contracts.adapter_examples import BASES, EXAMPLES

from bloomery.core.errors import ConfigError
from bloomery.mesh import ALONE, Holding
from bloomery.models import AdaptedConfig, ModelConfig, attach_adapter, read_model, save_adapter, write_held_model, write_model
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import Adapter, added, disabled, merge, only, shells, unmerge
from bloomery.nn.init import Fill


def subclasses(cls: type) -> list[type]:
    return [found for child in cls.__subclasses__() for found in (child, *subclasses(child))]


def fits(adapter: Adapter, base: ModelConfig) -> bool:
    try:
        AdaptedConfig(base=base, adapter=adapter)
    except ConfigError:
        return False
    return True


ADAPTERS = [adapter for cls in subclasses(Adapter) if not isabstract(cls) for adapter in EXAMPLES[cls.__name__]]
CASES = [pytest.param(a, b, id=f"{a} on {name}") for a in ADAPTERS for name, b in BASES.items() if fits(a, b)]
every = pytest.mark.parametrize(("adapter", "base"), CASES)
merging = pytest.mark.parametrize(("adapter", "base"), [case for case in CASES if case.values[0].merges])
IDS = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(2))


def logits(model, config: ModelConfig) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, SequenceLayout.rows(*IDS.shape, causal=config.reads_forward))


def adapted(adapter: Adapter, base: ModelConfig, spread: float = 0.1):
    """A model with an adapter that has learnt something, what its base says, and what is trained."""
    model = base.build(seed=3).eval()
    before, generator = logits(model, base), torch.Generator().manual_seed(7)
    trained = adapter.attach(model, seed=1)
    model.config = AdaptedConfig(base=base, adapter=adapter)
    before = before if adapter.keeps_base or not spread else logits(model, base)  # as it was before anything was trained
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return model, before, trained


@every
def test_a_fresh_one_changes_nothing_where_it_says_so(adapter, base):
    model, before, _ = adapted(adapter, base, spread=0.0)
    moved = (logits(model, base) - before).abs().max().item()
    assert moved == 0.0 if adapter.starts_at_base else moved > 0.0


@every
def test_nothing_but_the_adapter_is_trained(adapter, base):
    model, _, trained = adapted(adapter, base)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(IDS, SequenceLayout.rows(*IDS.shape, causal=base.reads_forward)).square().sum().backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, weights[name])}
    assert changed == set(trained)
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)
    assert sum(p.numel() for p in trained.values()) == model.config.n_params


@every
def test_disabled_is_the_base_bit_by_bit(adapter, base):
    model, before, _ = adapted(adapter, base)
    after = logits(model, base)
    assert (after - before).abs().max() > 1e-4
    with disabled(model):
        assert torch.equal(logits(model, base), before)
    assert torch.equal(logits(model, base), after)


@merging
def test_merged_is_unmerged_and_goes_back_to_the_very_bits(adapter, base):
    model, before, _ = adapted(adapter, base)
    after = logits(model, base)
    merge(model)
    assert all(not shell.changes for shell in model.modules() if hasattr(shell, "changes"))
    torch.testing.assert_close(logits(model, base), after, atol=1e-6, rtol=1e-6)
    with disabled(model):
        assert torch.equal(logits(model, base), before)
    torch.testing.assert_close(logits(model, base), after, atol=1e-6, rtol=1e-6)
    unmerge(model)
    assert torch.equal(logits(model, base), after)


@merging
def test_one_that_adds_says_what(adapter, base):
    model, _, _ = adapted(adapter, base)
    for shell in shells(model).values():
        change = shell.adapters["default"]
        assert change.adds == adapter.adds
        if adapter.adds:
            own = dict(change.named_parameters())
            torch.testing.assert_close(shell.base + change.difference(own), change.merged(shell.base, own), atol=1e-6, rtol=1e-6)


@every
def test_a_saved_model_says_the_same_and_needs_no_adapter_where_it_could_be_merged(adapter, base, tmp_path):
    model, _, _ = adapted(adapter, base)
    write_held_model(tmp_path, model.config, Holding.alone(model, ALONE))
    config, again = read_model(tmp_path)
    assert config == (base if adapter.merges else model.config)
    torch.testing.assert_close(logits(again.eval(), base), logits(model, base), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("adapter", "base"), [case for case in CASES if case.values[0].keeps_base])
def test_an_adapter_goes_into_its_files_and_out_again(adapter, base, tmp_path):
    model, _, trained = adapted(adapter, base)
    save_adapter(tmp_path, model.config, trained)
    again = base.build(seed=3).eval()
    attach_adapter(again, tmp_path)
    torch.testing.assert_close(logits(again, base), logits(model, base), atol=1e-6, rtol=1e-6)
    with disabled(again), disabled(model):
        assert torch.equal(logits(again, base), logits(model, base))


@every
def test_a_model_filled_parameter_by_parameter_is_the_one_that_is_built(adapter, base):
    config = AdaptedConfig(base=base, adapter=adapter)
    built, told = config.build(seed=3), dict[str, torch.Tensor]()

    def of_base(pour) -> None:
        for name, parameter in base.build(seed=3).named_parameters():
            pour(name, parameter.detach())

    fill: Fill = config.filled(of_base, seed=3)
    fill(lambda name, whole: told.__setitem__(name, whole.clone()))
    assert told.keys() == dict(built.named_parameters()).keys()
    assert all(torch.equal(told[name], parameter) for name, parameter in built.named_parameters())


@every
def test_a_model_with_it_is_written_and_read_as_any_other(adapter, base, tmp_path):
    model, _, _ = adapted(adapter, base)
    write_model(tmp_path, model.config, model)
    config, again = read_model(tmp_path)
    assert config == model.config
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name], parameter) for name, parameter in again.named_parameters())
    # In float64, since the order in which a product is added up depends on where a file's numbers come to lie in memory.
    torch.testing.assert_close(logits(again.double().eval(), base), logits(model.double(), base), atol=1e-9, rtol=1e-9)


@every
def test_a_second_one_goes_beside_it_and_each_can_be_alone(adapter, base):
    model, before, _ = adapted(adapter, base)
    one = logits(model, base)
    other = EXAMPLES["LoRA"][0].replace(name="second", targets=("mixer.out",))
    if type(adapter).__name__ == "DoRA" and adapter.targets == ("mixer", "ff"):
        other = other.replace(targets=("head",))
    trained = other.attach(model, seed=5)
    assert {module.by for module in added(model)} == {"default", "second"}
    assert set(trained) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".second." in name for name in trained)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(8)))
    with only(model, "default"):
        assert torch.equal(logits(model, base), one)
    with only(model, "second"):
        second = logits(model, base)
    both = logits(model, base)
    assert min((a - b).abs().max() for a, b in ((second, before), (second, one), (both, one), (both, second))) > 1e-5
    with pytest.raises(ConfigError, match="has already"):
        other.attach(model)
