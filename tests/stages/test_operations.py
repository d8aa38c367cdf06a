"""Operations of what is trained: counted, and where that can be worked out by hand, as there."""

import pytest
from bench.plan_memory import Known

from bloomery.models import AdaptedConfig, LlamaConfig
from bloomery.nn.adapters import LoRA
from bloomery.objectives import CausalLM, Distil
from bloomery.optim import Everything, LastLayers, Paths
from bloomery.stages.anatomy import Planned
from bloomery.stages.operations import flops_per_token

TIME = 16
MODEL = LlamaConfig(vocab_size=512, d_model=64, n_layers=6, n_heads=4, max_seq_len=TIME, tie_embeddings=False)
WHOLE = MODEL.flops_per_token(TIME)
HEAD = MODEL.transformer.head.flops(64, 512)
LAYER = (WHOLE / 3 - HEAD) / 6


def of(**fields) -> float:
    return flops_per_token(Planned(config=MODEL, time=TIME, **fields))


def test_where_all_is_trained_it_is_what_the_model_says():
    assert of() == of(trainable=Everything()) == WHOLE


@pytest.mark.parametrize("count", [1, 3])
def test_what_lies_below_the_last_layers_has_no_backward_pass(count):
    assert of(trainable=LastLayers(count=count)) == pytest.approx(WHOLE / 3 + 2 * (count * LAYER + HEAD), rel=0.02)


def test_a_head_alone_costs_one_forward_pass_and_its_own_gradient():
    assert of(trainable=Paths(paths=("head",))) == pytest.approx(WHOLE / 3 + HEAD, rel=0.02)


def test_a_frozen_matrix_in_the_middle_saves_its_gradient_only():
    saved = WHOLE - of(trainable=Everything() - Paths(paths=("blocks.3.ff.down",)))
    assert saved == pytest.approx(2 * 64 * MODEL.transformer.feed_forward(0).d_ff, rel=0.03)


def test_a_teacher_costs_a_forward_pass():
    other = MODEL.replace(d_model=128, n_layers=2)
    assert of(objective=CausalLM() + 0.5 * Distil(teacher=Known(config=other))) == pytest.approx(WHOLE + other.flops_per_token(TIME) / 3)


def test_under_an_adapter_no_matrix_of_the_base_has_a_gradient():
    adapted = AdaptedConfig(base=MODEL, adapter=LoRA(rank=4))
    found = flops_per_token(Planned(config=adapted, time=TIME))
    assert WHOLE * 2 / 3 < found < WHOLE * 0.8
    assert found == pytest.approx(adapted.flops_per_token(TIME), rel=0.05)
