"""What is told of a step without memory is what happens in one with memory."""

import pytest
import torch
from tests.models.cases import CASES, ENCODER_DECODER_CASES

from bloomery.data import MaskedTokens, NextToken
from bloomery.data.tasks import SpanCorruption
from bloomery.models import ElectraPairConfig, ModelConfig
from bloomery.objectives import CausalLM, Models, ReplacedTokens
from bloomery.planning.trace import Tally, backward_of, forward_of, trace, without_memory
from bloomery.stages.anatomy import example

FAMILIES: dict[str, ModelConfig] = {
    name: CASES[name] for name in ("llama, tied and grouped", "gpt2", "gemma2", "mixtral", "deepseek v3", "bert", "albert", "deberta", "bamba")
} | {"t5": ENCODER_DECODER_CASES["t5 1.1"], "electra": ElectraPairConfig(generator=CASES["electra"], discriminator=CASES["electra"])}


def step_of(config: ModelConfig):
    """A loss on rows of 20 places, and the model."""
    task = SpanCorruption() if config.reads_passage else NextToken() if config.reads_forward else MaskedTokens(keep=0, random=0)
    objective = ReplacedTokens() if isinstance(config, ElectraPairConfig) else CausalLM()
    with torch.device("cpu"):
        model = config.skeleton()
    batch = example(config, task, rows=2, time=20)
    return model, lambda: sum(total for total, _ in objective.read(Models(model), batch))


@pytest.mark.parametrize("name", FAMILIES)
def test_stretches_put_together_are_the_whole_step(name):
    with without_memory():
        model, step = step_of(FAMILIES[name])
        with Tally({}) as tally:
            step().backward()
        model.zero_grad(set_to_none=True)
        stretches = trace(model, step)
    assert forward_of(stretches).then(backward_of(stretches)).worst.total == tally.change(0, len(tally.moves)).worst.total
    left = sum(stretch.forward.left.kept + stretch.backward.left.kept for stretch in stretches)
    gradients = sum(p.nbytes for p in model.parameters() if p.grad is not None)
    assert left == 0
    assert sum(stretch.backward.left.gradients for stretch in stretches) == gradients


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trace_without_memory_is_the_trace_with_it(name):
    with without_memory():
        model, step = step_of(FAMILIES[name])
        told = [trace(model, step), trace(model, step)]  # without and with gradients to add to
    model, step = step_of(FAMILIES[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    assert [trace(model, step), trace(model, step)] == told


def test_blocks_are_told_from_what_stands_around_them_and_name_their_weights():
    config = CASES["llama"]
    with without_memory():
        stretches = trace(*step_of(config))
    assert [stretch.block for stretch in stretches] == [False, True, False, True, False]
    assert stretches[0].weights == {"embedding.weight"}
    assert stretches[3].weights == {name for name, _ in config.skeleton().named_parameters() if name.startswith("blocks.1.")}
    assert stretches[4].weights == {"norm.weight", "head.weight"}
    assert stretches[1].reads == 2 * 20 * config.d_model * 4


def test_gradients_that_are_there_are_added_to_and_stay():
    with without_memory():
        model, step = step_of(CASES["gpt2"])
        first, further = trace(model, step), trace(model, step)
    assert sum(stretch.backward.left.gradients for stretch in first) > 0
    assert sum(stretch.backward.left.gradients for stretch in further) == 0


def test_a_block_that_is_computed_again_keeps_what_it_hands_on():
    with without_memory():
        stretches = trace(*step_of(CASES["llama"]))
    again = [stretch.recomputed if stretch.block else stretch for stretch in stretches]
    assert all(stretch.forward.left.total == stretch.reads for stretch in again if stretch.block)
    kept, whole = (sum(stretch.forward.left.total for stretch in some) for some in (again, stretches))
    assert kept < whole / 2
    assert sum(s.forward.left.total + s.backward.left.kept for s in again) == 0


def test_weights_in_another_precision_and_masks_are_told_apart():
    config = CASES["llama"]
    with without_memory():
        model, step = step_of(config)
        with torch.autocast("cpu", torch.bfloat16):
            block = trace(model, step)[1]
    matrices = sum(p.numel() for name, p in model.named_parameters() if name.startswith("blocks.0.") and p.ndim == 2)
    assert block.forward.left.copies == 2 * matrices
    assert block.forward.left.masks == 2 * 2 * 20 * 20
