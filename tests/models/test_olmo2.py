from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Olmo2Config
from bloomery.nn import LinearScaling, SequenceLayout

TINY = Olmo2Config(vocab_size=50, d_model=24, n_layers=1, n_heads=4, n_kv_heads=2, d_ff=32, max_seq_len=64)


def test_a_block_norms_what_its_branches_give():
    model, x, layout = TINY.build(0), torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(0)), SequenceLayout.rows(1, 7)
    (block,) = model.blocks
    for parameter in block.parameters():
        parameter.data += 0.1
    after = x + block.mixer_norm(block.mixer(x, layout))
    torch.testing.assert_close(block(x, layout), after + block.ff_norm(block.ff(after)))


def test_queries_and_keys_are_normed_over_all_heads():
    norm = TINY.build(0).mixers[0].qk_norm
    assert (norm.query.weight.shape, norm.key.weight.shape) == ((24,), (12,))
    heads = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    for part, normed in zip(heads.split((4, 2), 2), norm(heads).split((4, 2), 2), strict=True):
        torch.testing.assert_close(normed, part / (part.square().mean((-1, -2), keepdim=True) + 1e-6).sqrt())


def test_linear_scaling_is_written_in_the_two_words_that_version_4_takes():
    config = TINY.replace(rope_scaling=LinearScaling(factor=2))
    assert config.to_hub()["rope_scaling"] == {"type": "linear", "factor": 2.0}
    assert Olmo2Config.from_hub(config.to_hub()) == config


def test_impossible_sizes_and_foreign_fields_are_refused():
    with pytest.raises(ConfigError, match=r"Olmo2Config\.n_kv_heads=3 does not divide n_heads=4; 2 or 4 would"):
        TINY.replace(n_kv_heads=3)
    with pytest.raises(DataError, match="hidden_act='gelu', which is not supported; a Olmo2Config is built with 'silu'"):
        Olmo2Config.from_hub(TINY.to_hub() | {"hidden_act": "gelu"})


def test_what_the_hub_leaves_out_is_taken_as_there():
    plain = {"vocab_size": 9, "hidden_size": 64, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4}
    read = Olmo2Config.from_hub(plain)
    assert (read.n_kv_heads, read.head_dim, read.max_seq_len, read.norm_eps, read.rope_theta) == (4, 16, 2048, 1e-5, 10_000.0)
