"""Losses on routers beside transformers' on one document, and what they promise about rows, documents and padding."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.tasks import NextToken
from bloomery.models import LlamaConfig, MixtralConfig, Model, OlmoeConfig, TransformerConfig, save_hub
from bloomery.nn import AttentionConfig, ExpertsConfig, GatedConfig, SequenceLayout
from bloomery.objectives import CausalLM, LoadBalance, Models, Reading, RouterZ
from bloomery.objectives.balance import routings

SIZES = {"vocab_size": 32, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_seq_len": 16}
TINY = MixtralConfig(**SIZES, n_experts=5, n_active=2)


def decided(config: MixtralConfig | OlmoeConfig | TransformerConfig = TINY) -> Model:
    """A model whose routers have preferences."""
    model, generator = config.build(0), torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "router" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model.eval()


def batch_of(segments: list[list[int]]) -> Batch:
    numbers = torch.tensor(segments)
    tokens = torch.randint(32, numbers.shape, generator=torch.Generator().manual_seed(2))
    return Batch(tokens, tokens, torch.ones(numbers.shape), SequenceLayout.packed(numbers))


def per_weight(objective: LoadBalance | RouterZ, model: Model, batch: Batch) -> torch.Tensor:
    (term,) = objective(Models(model), batch)
    return term.total / term.weight


@pytest.mark.parametrize("config", [TINY.replace(n_layers=1), OlmoeConfig(**{**SIZES, "n_layers": 1}, n_experts=7, n_active=3)], ids=str)
@pytest.mark.parametrize("n", [16, 11], ids=("full", "padded"))
def test_of_one_document_it_is_transformers_loss(config, n, tmp_path):
    transformers = pytest.importorskip("transformers")
    model, batch = decided(config), batch_of([[1] * n + [0] * (16 - n)])
    save_hub(model, config, tmp_path)
    theirs = getattr(transformers, config.hub_architecture).from_pretrained(tmp_path)
    expected = theirs(input_ids=batch.tokens, attention_mask=batch.layout.segments, output_router_logits=True).aux_loss
    ours = per_weight(LoadBalance(), model, batch)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    ours.backward()
    expected.backward()
    name = "block_sparse_moe" if hasattr(theirs.model.layers[0], "block_sparse_moe") else "mlp"
    router = getattr(theirs.model.layers[0], name).gate.weight
    torch.testing.assert_close(model.blocks[0].ff.router.map.weight.grad, router.grad, atol=1e-6, rtol=0)


def test_it_is_the_mean_over_layers_and_documents_by_their_tokens():
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    model, batch = decided(), batch_of([[1] * 5 + [2] * 9 + [0] * 2, [1] * 16])
    routed = routings(Reading(Models(model), batch, looks_inside=True))
    places = [(0, slice(0, 5)), (0, slice(5, 14)), (1, slice(0, 16))]
    logits = [routing.logits.unflatten(0, (2, 16)) for routing in routed]
    expected = sum(len(of[row, span]) * load_balancing_loss_func((of[row, span],), 5, 2) for of in logits for row, span in places) / (2 * 30)
    torch.testing.assert_close(per_weight(LoadBalance(), model, batch), expected)


def test_routers_that_treat_all_alike_cost_the_number_of_active_experts_and_others_more():
    model, batch = decided(), batch_of([[1] * 16] * 3)
    assert per_weight(LoadBalance(), model, batch) > 2.1
    for block in model.blocks:
        block.ff.router.map.weight.data.zero_()
    assert per_weight(LoadBalance(), model, batch).item() == pytest.approx(2.0)


def test_the_busiest_expert_of_a_router_with_one_favourite_has_all_the_load_it_can():
    model, batch = decided(TINY.replace(n_active=1)), batch_of([[1] * 16])
    for block in model.blocks:
        block.ff.router.map.weight.data.zero_()
    (term,) = LoadBalance()(Models(model), batch)
    assert term.metrics["busiest_expert"].item() / term.weight == pytest.approx(5.0)  # ties go to one expert


def test_router_z_is_the_mean_square_of_the_log_partitions():
    model, batch = decided(), batch_of([[1] * 7 + [2] * 9, [1] * 12 + [0] * 4])
    routed = routings(Reading(Models(model), batch, looks_inside=True))
    squares = torch.stack([routing.logits.exp().sum(-1).log().square() for routing in routed]).mean(0)
    expected = squares[batch.layout.segments.flatten() > 0].mean()
    torch.testing.assert_close(per_weight(RouterZ(), model, batch), expected)


@pytest.mark.parametrize("objective", [LoadBalance(), RouterZ()], ids=str)
def test_padding_and_neighbours_do_not_count(objective):
    model, packed = decided(), batch_of([[1] * 6 + [2] * 8 + [0] * 2])
    whole = per_weight(objective, model, packed) * 14
    changed = torch.cat((packed.tokens[:, :14], packed.tokens[:, 14:] + 1 & 31), 1)
    torch.testing.assert_close(per_weight(objective, model, Batch(changed, changed, packed.loss_weight, packed.layout)) * 14, whole)
    apart = 0.0
    for span in (slice(0, 6), slice(6, 14)):
        tokens = packed.tokens[:, span]
        alone = Batch(tokens, tokens, torch.ones_like(tokens).float(), SequenceLayout.rows(*tokens.shape))
        apart = apart + per_weight(objective, model, alone) * tokens.shape[1]
    torch.testing.assert_close(whole, apart)


def test_layers_without_experts_are_passed_over():
    feed_forwards = (GatedConfig(d_ff=8), None, ExpertsConfig(n_experts=4, n_active=1, d_ff=8), GatedConfig(d_ff=8))
    config = TransformerConfig(
        vocab_size=32, d_model=16, n_layers=4, max_seq_len=16, mixers=(AttentionConfig(n_heads=2),), feed_forwards=feed_forwards,
    )
    model, batch = decided(config), batch_of([[1] * 16])
    reading = Reading(Models(model), batch, looks_inside=True)
    (routing,) = routings(reading)
    torch.testing.assert_close(routing.logits, model.blocks[2].ff.router(reading.seen().ff_inputs[1].flatten(0, 1)).logits)


def test_a_model_without_experts_is_refused():
    for term in (LoadBalance(), CausalLM() + 0.1 * RouterZ()):
        with pytest.raises(ConfigError, match="LlamaConfig has no experts"):
            term.check_training(LlamaConfig(**SIZES), NextToken())


def test_beside_another_loss_they_share_its_forward_pass():
    model, calls = decided(), []
    model.embedding.register_forward_hook(lambda *_: calls.append(1))
    terms = (CausalLM() + 0.01 * LoadBalance() + 1e-3 * RouterZ())(Models(model), batch_of([[1] * 16]))
    assert len(calls) == 1
    assert [name for term in terms for name in term.metrics] == ["nll", "balance", "busiest_expert", "router_z"]
    sum(term.total for term in terms).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "ff" in name)


ONE_GRAPH = """
import torch
from bloomery.data.batch import Batch
from bloomery.data.tasks import NextToken
from bloomery.models import MixtralConfig
from bloomery.nn import SequenceLayout
from bloomery.objectives import CausalLM, LoadBalance, Models, RouterZ
model = MixtralConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16, n_experts=5, n_active=2).build(3)
objective = CausalLM() + 0.01 * LoadBalance() + 1e-3 * RouterZ()
segments = torch.tensor([[1] * 6 + [2] * 8 + [0] * 2, [1] * 16])
tokens = torch.randint(32, segments.shape, generator=torch.Generator().manual_seed(0))
batch = Batch(tokens, tokens.roll(-1, 1), (segments > 0).float(), SequenceLayout.packed(segments))

def gradients(read):
    model.zero_grad()
    sum(total for total, _ in read(Models(model), batch)).backward()
    return [p.grad.clone() for p in model.parameters()]

compiled = torch.compile(objective.read, fullgraph=True, dynamic=False, backend="aot_eager")  # raises where the graph would break
for a, b in zip(gradients(objective.read), gradients(compiled), strict=True):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
"""


@pytest.mark.slow
def test_a_step_with_experts_and_their_balance_is_one_graph_with_the_same_gradients():
    """In a process of its own, since the shape checks of tests are no part of the model and cannot be traced."""
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
