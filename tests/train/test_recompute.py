"""Computing activations again changes memory, and no number."""

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig
from bloomery.objectives import CausalLM, Models
from bloomery.train.machine import activation_bytes
from bloomery.train.recompute import Recompute, recompute
from tests.train.toys import VOCAB, Uneven

MODEL = LlamaConfig(vocab_size=VOCAB, d_model=64, n_layers=4, n_heads=4, d_ff=128, max_seq_len=16)
BATCH = Uneven().batch(0, 4)


def step(what: Recompute) -> tuple[int, int, torch.Tensor]:
    """Blocks that compute again, bytes that are kept, and the gradient."""
    model = MODEL.build(seed=0)

    def measure():
        return activation_bytes(CausalLM(), Models(model), BATCH)

    blocks = recompute(model, what, measure)
    kept = measure()
    CausalLM().read(Models(model), BATCH)[0][0].backward()
    return blocks, kept, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("text", ["full", "selective", "600KiB"])
def test_gradients_are_bitwise_those_of_keeping_everything(text):
    _, kept, plain = step(Recompute())
    blocks, again, gradient = step(Recompute.parse(text))
    assert torch.equal(gradient, plain)
    assert 0 < blocks <= MODEL.n_layers
    assert again < kept


def test_a_budget_recomputes_no_more_blocks_than_it_must():
    _, everything, _ = step(Recompute())
    _, least, _ = step(Recompute("full"))
    for budget in (everything, everything - 1, (everything + least) // 2, least):
        blocks, kept, _ = step(Recompute("budget", budget))
        assert kept <= budget
        per_block = (everything - least) / MODEL.n_layers
        assert blocks == 0 or kept + per_block > budget  # with one block less it would not fit


def test_what_cannot_be_is_refused_with_the_arithmetic():
    with pytest.raises(ConfigError, match="with all 4 blocks recomputed, which is more than the budget of 1000"):
        step(Recompute("budget", 1000))
    with pytest.raises(ConfigError, match="'much' is neither none, full, selective nor a size"):
        Recompute.parse("much")
