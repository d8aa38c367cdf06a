"""On a GPU: the numbers of a CPU, the savings that were asked for, and resumption to the bit. Skipped where there is none."""

import subprocess
import sys

import pytest
import torch

from bloomery.mesh import Holding, Layout, Mesh
from bloomery.models import LlamaConfig
from bloomery.objectives import CausalLM, Models
from bloomery.optim import AdamW, Muon
from bloomery.train import Checkpoints, Keep, Manner, TrainState, train
from bloomery.train.healing import Healing
from bloomery.train.offload import Away, AwayOptimizer, offload_activations
from bloomery.train.recompute import Recompute, recompute
from tests.train.toys import Uneven, course, same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none here")
ROWS = 8  # halves of which are a multiple of 16 tokens, as 8 bits ask for
MODEL = LlamaConfig(vocab_size=32, d_model=256, n_layers=4, n_heads=4, d_ff=512, max_seq_len=16)


def state_on(device, optimizer=None, model=MODEL):
    model = model.build(seed=0).to(device)
    mesh = Mesh.join(Layout(), device)
    return TrainState(model, (optimizer or AdamW(learning_rate=3e-3)).build(model), holding=Holding.alone(model, mesh))


def losses(state, device="cuda", compiled=False, **changes):
    manner = Manner(micro_batch=ROWS // 2, device=device, compiled=compiled)
    return [report.loss for report in train(state, Uneven(), course(rows=ROWS, **changes), manner)]


def weights(state):
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=3e-3), Muon(learning_rate=3e-3)], ids=lambda o: o.kind())
def test_steps_in_fp32_are_those_of_a_cpu(optimizer):
    assert losses(state_on("cuda", optimizer)) == pytest.approx(losses(state_on("cpu", optimizer), "cpu"), rel=1e-4)


@pytest.mark.parametrize(("precision", "within"), [("bf16", 0.08), ("fp16", 0.08), ("fp8", 0.15)])
def test_less_precision_learns_as_fp32_does(precision, within):
    exact, less = losses(state_on("cuda"), steps=30), losses(state_on("cuda"), steps=30, precision=precision)
    assert less != exact
    assert less[-1] == pytest.approx(exact[-1], rel=within)


COMPILED = """
from tests.gpu.test_cuda import losses, state_on
eager, compiled = (losses(state_on("cuda"), precision="{precision}", compiled=how) for how in (False, True))
assert len(eager) == len(compiled) and all(abs(a - b) <= {within} * abs(b) for a, b in zip(compiled, eager)), (compiled, eager)
"""


@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-5), ("bf16", 0.03), ("fp8", 0.03)])
def test_compiled_steps_are_those_without(precision, within):
    # A process of its own: the shape checks of these tests cannot be compiled.
    subprocess.run([sys.executable, "-c", COMPILED.format(precision=precision, within=within)], check=True)


def test_a_resumed_run_goes_on_to_the_bit(tmp_path):
    whole = state_on("cuda")
    wanted = losses(whole, steps=8, healing=Healing(snapshot_every=3))
    first, facts = state_on("cuda"), course(steps=8, rows=ROWS, healing=Healing(snapshot_every=3)).facts
    checkpoints = Checkpoints(tmp_path, first.holding.mesh, Keep(last=2), facts)
    manner = Manner(micro_batch=ROWS // 2, device="cuda")
    for report in train(first, Uneven(), course(steps=8, rows=ROWS, healing=Healing(snapshot_every=3)), manner):
        if report.step == 4:
            checkpoints.save(first)
            break
    checkpoints.settle()
    checkpoints.close()
    again = state_on("cuda")
    assert Checkpoints(tmp_path, again.holding.mesh, Keep(last=2), facts).resume(again)
    assert losses(again, steps=8, healing=Healing(snapshot_every=3)) == wanted[4:]
    assert same(weights(again), weights(whole))


WIDE = LlamaConfig(vocab_size=32, d_model=1024, n_layers=6, n_heads=8, d_ff=4096, max_seq_len=16)


def peak_of(prepare):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    state = state_on("cuda", model=WIDE)
    prepare(state)
    found = losses(state, steps=3)
    return found, torch.cuda.max_memory_allocated() - before, weights(state)


def put_away(state):
    state.optimizer = AwayOptimizer(state.optimizer)


def test_optimiser_state_that_waits_on_the_host_takes_no_room_and_changes_no_number(monkeypatch):
    monkeypatch.setattr("bloomery.train.offload.CHUNK_BYTES", 1 << 20)
    there, room, kept = peak_of(lambda state: None)
    away, less, also = peak_of(put_away)
    assert away == there
    assert same(also, kept)
    moments = 8 * sum(p.numel() for p in WIDE.build(seed=0).parameters())
    assert less < room - 0.8 * moments


@pytest.mark.parametrize("how", ["offload", "full", "selective"])
def test_activations_take_less_room_and_give_the_same_numbers(how, monkeypatch):
    monkeypatch.setattr("bloomery.train.offload.LEAST_BYTES", 1)
    def prepare(state):
        if how == "offload":
            offload_activations(state.model, Away("cuda"))
        else:
            recompute(state.model, Recompute(how))

    def kept(prepare):
        state = state_on("cuda", model=WIDE)
        prepare(state)
        batch = Uneven().batch(0, 2048).to("cuda")
        before = torch.cuda.memory_allocated()
        (total, _), = CausalLM().read(Models(state.model), batch)
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated() - before
        total.backward()
        return held, {name: p.grad.clone() for name, p in state.model.named_parameters()}

    plain, gradients = kept(lambda state: None)
    less, others = kept(prepare)
    assert less < 0.75 * plain
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-5 * gradient.norm()
