"""`flops_per_token` of every named family against what torch counts on a real training step, product by product."""

import pytest
import torch
from tests.models.cases import CASES, ENCODER_DECODER_CASES
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bloomery.core.errors import ConfigError
from bloomery.models import EncoderDecoderConfig, TransformerConfig
from bloomery.nn import DisentangledConfig, Mamba2Config, Passage, SequenceLayout

ROWS, TIME = 2, 40  # a multiple of the chunks that states are handed on between
TOKENS = ROWS * TIME


def product(x, weight, *_, out_shape=None, **__):
    return 2 * x[0] * x[1] * weight[1]


def outer(g, x, *_, out_shape=None, **__):
    return 2 * g[0] * g[1] * x[1]


def seeing_all(parts: TransformerConfig) -> TransformerConfig:
    """The same model without windows and, where its mixers can, without causality: torch counts the whole square of scores."""
    parts = parts.replace(mixers=tuple(m.replace(window=None) if getattr(m, "window", None) else m for m in parts.mixers))
    try:
        return parts.replace(causal=False)
    except ConfigError:
        return parts


def counted_though_masked(config: TransformerConfig | EncoderDecoderConfig) -> float:
    """The half of products that causality masks, where the model could not be opened; and what states hand on between chunks."""
    if isinstance(config, EncoderDecoderConfig):
        half = config.mixer.flops(config.d_model, TIME, causal=False) - config.mixer.flops(config.d_model, TIME, causal=True)
        return config.n_layers * TOKENS * half
    more = 0.0
    for mixer in (config.mixer(layer) for layer in range(config.n_layers)):
        if isinstance(mixer, Mamba2Config):
            inner, keys = mixer.expand * config.d_model, mixer.n_groups * mixer.d_state
            chunk = min(mixer.chunk, TIME)
            more += TOKENS * (keys + inner) * chunk + ROWS * 2 * (-(-TIME // chunk) + 1) ** 2 * inner * mixer.d_state
        elif config.causal:
            more += TOKENS * (mixer.flops(config.d_model, TIME, causal=False) - mixer.flops(config.d_model, TIME, causal=True))
    return more


def made_once_for_a_batch(config: TransformerConfig | EncoderDecoderConfig) -> float:
    """Products of maps with the table of distances."""
    if isinstance(config, EncoderDecoderConfig):
        return 0.0
    mixers = [config.mixer(layer) for layer in range(config.n_layers)]
    return sum(2 * mixer.n_terms * 2 * mixer.span * config.d_model**2 for mixer in mixers if isinstance(mixer, DisentangledConfig))


@pytest.mark.parametrize("name", [*CASES, *ENCODER_DECODER_CASES])
def test_flops_are_those_that_torch_counts_in_a_training_step(name):
    config = seeing_all(CASES[name].transformer) if name in CASES else ENCODER_DECODER_CASES[name].encoder_decoder
    model, tokens = config.build(seed=0), torch.zeros(ROWS, TIME, dtype=torch.long)
    layout = SequenceLayout.rows(ROWS, TIME, causal=config.reads_forward)
    passage = Passage(tokens, SequenceLayout.rows(ROWS, TIME, causal=False)) if config.reads_passage else None
    kernels = {torch.ops.bloomery.grouped_product: product, torch.ops.bloomery.grouped_outer: outer}
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens, layout, passage=passage).sum().backward()
    more = 3 * (counted_though_masked(config) + made_once_for_a_batch(config))
    assert counter.get_total_flops() == pytest.approx(TOKENS * config.flops_per_token(TIME) + more, rel=1e-12)
