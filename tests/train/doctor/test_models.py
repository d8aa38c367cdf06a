"""Mistakes in models, losses and optimisers, each seeded, and each named by the check that is there for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bloomery.core.errors import ResourceError
from bloomery.nn.feedforward import GatedFeedForward
from bloomery.nn.layout import SequenceLayout, View
from bloomery.optim import AdamW
from bloomery.train import doctor
from bloomery.train.doctor import Patient
from bloomery.train.doctor.dead import gradient_flow, idle_blocks, saturated_heads, silent_units
from bloomery.train.doctor.gradients import gradients
from bloomery.train.doctor.loss import initial_loss
from bloomery.train.doctor.overfit import one_batch
from bloomery.train.doctor.room import memory
from bloomery.train.doctor.scales import activations, first_update
from bloomery.train.doctor.sight import sight
from tests.train.doctor.patients import LOOK, TRAININGS, found, patient


@pytest.fixture
def decoder(store_folder: str) -> Patient:
    return patient(store_folder, TRAININGS["decoder"])


def sees_everything(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def sees_the_row(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_a_model_that_sees_the_future_is_named(decoder: Patient):
    decoder.model.blocks[1].mixer.attend = sees_everything
    finding = found(decoder, sight, "future")
    assert finding.verdict == "fail"
    assert "changes what is told at place" in finding.figure


def test_documents_that_see_each_other_are_named(decoder: Patient):
    decoder.model.blocks[0].mixer.attend = sees_the_row
    assert found(decoder, sight, "documents of a row").verdict == "fail"
    assert found(decoder, sight, "future").verdict == "pass"


def test_mixing_along_time_beside_the_mixers_is_named(decoder: Patient):
    norm = decoder.model.norm
    norm.register_forward_hook(lambda module, inputs, output: output + 1e-3 * inputs[0].mean(1, keepdim=True))
    assert found(decoder, sight, "future").verdict == "fail"


def test_an_encoder_that_sees_padding_is_named(store_folder: str):
    encoder = patient(store_folder, TRAININGS["encoder"])
    encoder.model.blocks[0].mixer.attend = sees_everything
    assert found(encoder, sight, "padding is not seen").verdict == "fail"
    assert found(encoder, sight, "documents of a row").verdict == "fail"


def test_texts_that_see_all_passages_of_their_row_are_named(store_folder: str, monkeypatch: pytest.MonkeyPatch):
    both = patient(store_folder, TRAININGS["encoder_decoder"])
    monkeypatch.setattr(SequenceLayout, "across", lambda self, source: View(self.view.queries, source.view.keys))
    assert found(both, sight, "passages of a row").verdict == "fail"
    assert found(both, sight, "documents of a row").verdict == "pass"


def test_an_embedding_of_zeros_is_named(decoder: Patient):
    torch.nn.init.zeros_(decoder.model.embedding.weight)
    finding = found(decoder, gradient_flow, "gradient flow")
    assert finding.verdict == "fail"
    assert "embedding.weight has the same number everywhere" in finding.remedy


def test_a_block_that_hands_on_what_it_reads_is_named(decoder: Patient):
    decoder.model.blocks[1].forward = lambda x, *_: x
    assert "layers/1" in found(decoder, idle_blocks, "idle blocks").figure
    assert "blocks.1.mixer.qkv.weight" in found(decoder, gradient_flow, "gradient flow").figure


def test_maps_that_start_at_zero_are_not_taken_for_dead(decoder: Patient):
    for block in decoder.model.blocks:
        torch.nn.init.zeros_(block.mixer.out.weight)
        torch.nn.init.zeros_(block.ff.down.weight)
    assert found(decoder, gradient_flow, "gradient flow").verdict == "pass"
    assert found(decoder, idle_blocks, "idle blocks").verdict == "pass"


class Crooked(torch.autograd.Function):
    """silu, with a gradient that is a tenth too large."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        return 1.1 * gradients[0] * sigmoid * (1 + x * (1 - sigmoid))


def test_a_wrong_backward_pass_is_named_with_the_parameters_before_it(decoder: Patient):
    layer = decoder.model.blocks[1].ff
    assert isinstance(layer, GatedFeedForward)
    layer.activation = Crooked.apply
    findings = {finding.figure.split(":")[0]: finding for finding in gradients(decoder)}
    assert findings["matrix"].verdict == "fail"
    assert "blocks.1.ff.gate_up.weight is the nearest to the loss" in findings["matrix"].remedy


def test_a_gradient_that_is_cut_off_is_named(decoder: Patient):
    decoder.model.blocks[0].mixer_norm.register_forward_hook(lambda module, inputs, output: output.detach())
    assert any(finding.verdict == "fail" for finding in gradients(decoder))


def test_units_that_never_fire_are_named(decoder: Patient):
    with torch.no_grad():
        for block in decoder.model.blocks:
            block.ff.gate_up.weight[:40] = 0
    assert found(decoder, silent_units, "silent units").verdict == "fail"


def test_heads_that_look_at_one_place_are_named(decoder: Patient):
    with torch.no_grad():
        decoder.model.blocks[0].mixer.qkv.weight *= 1e3
    finding = found(decoder, saturated_heads, "saturated heads")
    assert finding.verdict == "warn"
    assert "layers/0" in finding.figure


def test_logits_that_are_too_large_at_first_are_named(decoder: Patient):
    with torch.no_grad():
        decoder.model.embedding.weight *= 100
    finding = found(decoder, initial_loss, "initial loss")
    assert finding.verdict == "warn"
    assert "ln 416" in finding.rule


def test_a_loss_that_knows_too_much_at_first_is_named(decoder: Patient):
    told = 1e4 * decoder.model.embedding.weight.detach()[decoder.batch.targets]  # as if the model were handed the targets
    decoder.model.norm.register_forward_hook(lambda module, inputs, output: told)
    assert found(decoder, initial_loss, "initial loss").verdict == "fail"


def test_trained_weights_that_do_not_fit_are_named(store_folder: str):
    stranger = patient(store_folder, TRAININGS["decoder"], weights="trained")
    with torch.no_grad():
        stranger.model.embedding.weight *= 10
    assert found(stranger, initial_loss, "initial loss").verdict == "fail"


@pytest.mark.parametrize(("rate", "verdict"), [(30.0, "fail"), (1e-11, "warn")])
def test_a_learning_rate_that_is_absurd_is_named(store_folder: str, rate: float, verdict: str):
    hasty = patient(store_folder, TRAININGS["decoder"], optimizer=AdamW(learning_rate=rate, weight_decay=0.0))
    finding = found(hasty, first_update, "update to weight")
    assert finding.verdict == verdict
    assert ("too high" if rate > 1 else "too low") in finding.remedy
    assert any("mixer_out" in line for line in finding.details)


def test_an_optimiser_that_learns_nothing_is_told_from_a_model_that_cannot(store_folder: str):
    slow = patient(store_folder, TRAININGS["decoder"], optimizer=AdamW(learning_rate=1e-7), effort=replace(LOOK, steps=60))
    finding = found(slow, one_batch, "one batch")
    assert finding.verdict == "warn"
    assert "model and data are sound" in finding.remedy
    mute = patient(store_folder, TRAININGS["decoder"], effort=replace(LOOK, steps=5))
    mute.model.norm.register_forward_hook(lambda module, inputs, output: output.detach() * 0)
    assert found(mute, one_batch, "one batch").verdict == "fail"


def test_activations_that_explode_are_named(decoder: Patient):
    with torch.no_grad():
        decoder.model.blocks[1].ff.down.weight *= 1e6
    assert found(decoder, activations, "activations").verdict == "warn"


def test_a_step_that_does_not_fit_is_named_with_the_micro_batch_that_does(decoder: Patient, monkeypatch: pytest.MonkeyPatch):
    from bloomery.train.doctor import room

    wanted = found(decoder, memory, "memory").figure
    assert "optimiser" in wanted
    monkeypatch.setattr(room, "free_bytes", lambda device: 6 << 20)
    finding = found(decoder, memory, "memory")
    assert finding.verdict == "fail"
    assert "--micro-batch 1" in finding.remedy


def test_a_check_that_refuses_is_a_failure_of_its_own(decoder: Patient, monkeypatch: pytest.MonkeyPatch):
    def refuse(patient: Patient):
        raise ResourceError("there is no more of it")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (refuse,))
    (finding,) = doctor.examine(decoder)
    assert finding.verdict == "fail"
    assert "no more of it" in str(finding)
