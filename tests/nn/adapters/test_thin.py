"""Products with low-rank changes in one step: as by the book, and so under all that a training does to them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.adapter_examples import LLAMA

from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import Int8, LoRA, QLoRA
from bloomery.nn.adapters.shells import Change, shell_of, shells
from bloomery.nn.adapters.thin import thin_linear
from bloomery.nn.linear import Linear, Use
from bloomery.train.recompute import Recompute, recompute

USES = (Use.QUERY, Use.KEY, Use.VALUE)
IDS = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(2))


def adapted(heights=(6, 4, 4), targets=("query", "value"), rank=3, bias=True, adapter=LoRA, **more) -> tuple[torch.nn.Module, Change]:
    """A map of several pieces, some of which a change that has learnt something is for."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"qkv": Linear(10, heights, USES, bias)})
    adapter(rank=rank, alpha=5.0, targets=targets, **more).attach(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    shell = shell_of(model, "qkv")
    return shell, shell.adapters["default"]


def book(shell, change, x):
    """The plain way."""
    return change(x, shell.multiplied(x), shell)


@given(
    heights=st.tuples(*[st.integers(1, 5)] * 3), targets=st.sets(st.sampled_from(["query", "key", "value"]), min_size=1),
    rank=st.integers(1, 4), bias=st.booleans(), batch=st.sampled_from([(), (1,), (7,), (2, 3)]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_naive_equals_fast_in_values_and_gradients(heights, targets, rank, bias, batch):
    shell, change = adapted(heights, tuple(sorted(targets)), rank, bias)
    shell.double()
    x = torch.randn(*batch, 10, dtype=torch.float64, requires_grad=True)
    leaves = [x, change.a.weight, change.b.weight]
    fast, plain = shell(x), book(shell, change, x)
    assert type(fast.grad_fn).__name__ == "_ThinLinearBackward"
    torch.testing.assert_close(fast, plain)
    cotangent = torch.randn_like(plain)
    for mine, others in zip(*(torch.autograd.grad(y, leaves, cotangent) for y in (fast, plain)), strict=True):
        torch.testing.assert_close(mine, others)


def test_its_gradients_are_those_of_its_values():
    shell, change = adapted()
    shell.double()
    shell.bias.requires_grad_(True)
    x = torch.randn(2, 3, 10, dtype=torch.float64, requires_grad=True)

    def said(x, bias, a, b):
        return thin_linear(x, shell.make, shell.kept, bias, a, b, change.thin)

    assert torch.autograd.gradcheck(said, (x, shell.bias, change.a.weight, change.b.weight))


@pytest.mark.parametrize("bits", [Int8(block=5)], ids=str)
def test_a_quantised_matrix_is_multiplied_alike(bits):
    shell, change = adapted(adapter=QLoRA, bits=bits)
    x = torch.randn(4, 10, requires_grad=True)
    torch.testing.assert_close(shell(x), book(shell, change, x))
    for mine, others in zip(*(torch.autograd.grad(y.sum(), [x, change.a.weight]) for y in (shell(x), book(shell, change, x))), strict=True):
        torch.testing.assert_close(mine, others)


def test_a_matrix_that_learns_as_well_has_its_gradient():
    shell, _ = adapted()
    shell.weight.requires_grad_(True)
    shell(torch.randn(4, 10)).sum().backward()
    assert shell.weight.grad is not None


def test_nothing_as_wide_as_the_result_is_kept():
    shell, _ = adapted(heights=(64, 64, 64), targets=("query", "value"), bias=False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        shell(torch.randn(50, 10))
    assert max(tensor.numel() for tensor in kept if tensor is not shell.weight) <= 50 * 10


def gradients(model, **around) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, **around):
        loss = model(IDS, SequenceLayout.rows(*IDS.shape)).float().log_softmax(-1)[..., 3].sum()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def a_model(adapter: LoRA) -> torch.nn.Module:
    model, generator = LLAMA.build(seed=0), torch.Generator().manual_seed(4)
    trained = adapter.attach(model, seed=1)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", ["full", "selective"])
@pytest.mark.parametrize("adapter", [LoRA(rank=3), QLoRA(rank=3, bits=Int8(block=8))], ids=str)
def test_what_is_computed_again_is_the_same(adapter, kind):
    model = a_model(adapter)
    expected = gradients(model, enabled=False)
    assert recompute(model, Recompute(kind)) == 2
    again = gradients(model, enabled=False)
    assert all(torch.equal(again[name], gradient) for name, gradient in expected.items())


def test_in_half_precision_it_is_as_near_as_the_plain_way(monkeypatch):
    model = a_model(LoRA(rank=3))
    exact, fast = gradients(model, enabled=False), gradients(model)
    for shell in shells(model).values():
        for change in shell.adapters.values():
            monkeypatch.setattr(change, "applied", lambda x, shell, change=change: book(shell, change, x))
    plain = gradients(model)

    def off(found):
        return sum((found[name] - gradient).square().sum() for name, gradient in exact.items()).sqrt()

    assert 0 < off(fast) < 1.2 * off(plain)


COMPILED = """
import torch
from bloomery.data.batch import Batch
from bloomery.models import AdaptedConfig, LlamaConfig
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import Int8, LoRA, QLoRA
from bloomery.objectives import CausalLM, Models
base = LlamaConfig(vocab_size=61, d_model=24, n_layers=1, n_heads=4, d_ff=40, max_seq_len=64)
ids = torch.arange(42).view(2, 21)
batch = Batch(ids[:, :-1], ids[:, 1:], torch.ones(2, 20), SequenceLayout.rows(2, 20))
for adapter in (LoRA(rank=3), QLoRA(rank=3, bits=Int8(block=8))):
    model = AdaptedConfig(base=base, adapter=adapter).build(seed=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1)
    read = CausalLM().read
    found = [torch.autograd.grad(f(Models(model), batch)[0][0], trained)
             for f in (read, torch.compile(read, dynamic=False, fullgraph=True, backend="aot_eager"))]
    for mine, others in zip(*found, strict=True):
        torch.testing.assert_close(mine, others, atol=1e-4, rtol=1e-4)
"""


@pytest.mark.slow
def test_a_model_with_it_is_compiled_in_one_graph():
    """In a process of its own: a compiler cannot read what checks shapes in tests."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
