"""What DeepSeek-V3 refuses, reads and costs; its numbers are tested in `test_parity.py`."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from tests.models.cases import DEEPSEEK, YARN
from tests.models.fields import ignored, silent

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import DeepseekV3Config
from bloomery.nn import NTKScaling, SequenceLayout
from bloomery.optim import AdamW

PUBLISHED = DeepseekV3Config(
    vocab_size=129280, d_model=7168, n_layers=61, n_heads=128, d_ff=18432, head_dim=128, rope_dim=64, d_latent=512, d_query_latent=1536,
    n_dense_layers=3, n_experts=256, n_active=8, n_groups=8, n_active_groups=4, d_expert=2048, routed_scale=2.5, tie_embeddings=False,
)  # fmt: skip


def test_no_field_that_changes_numbers_is_ignored():
    assert not ignored(DEEPSEEK, {"head_dim", "qk_head_dim"})  # which follow from others


def test_fields_that_are_not_given_are_those_of_the_library():
    ours, theirs = silent(DEEPSEEK, num_nextn_predict_layers=0)  # these layers are no part of the model proper
    assert ours == theirs
    assert theirs == PUBLISHED.replace(max_seq_len=4096, norm_eps=1e-6, rope_theta=10_000.0)


def test_the_published_config_has_its_published_size():
    assert round(PUBLISHED.n_params / 1e9) == 671
    assert round(PUBLISHED.n_active_params / 1e9, 1) == 37.6  # "37B", embeddings and head included


@pytest.mark.parametrize(("fields", "message"), [
    ({"n_active": 9}, r"ExpertsConfig\.n_active=9 is more than n_experts=8"),
    ({"n_groups": 3}, "n_groups=3, which do not share n_experts=8 evenly"),
    ({"rope_dim": 5}, r"LatentAttentionConfig\.rope_dim=5 is odd"),
    ({"n_kv_heads": 2}, r"n_kv_heads=2 is not n_heads=4"),
    ({"n_dense_layers": 3}, r"n_dense_layers=3 is more than n_layers=2"),
    ({"sharpening": 1.0}, r"sharpening=1\.0 goes with a rope_scaling"),
])  # fmt: skip
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        DEEPSEEK.replace(**fields)


@pytest.mark.parametrize(
    ("name", "value"), [("rope_interleave", False), ("scoring_func", "softmax"), ("topk_method", "greedy"), ("num_nextn_predict_layers", 1)]
)
def test_what_we_do_not_have_is_refused(name, value):
    with pytest.raises(DataError, match=f"{name}={value!r}, which is not supported"):
        DeepseekV3Config.from_hub(DEEPSEEK.to_hub() | {name: value})


def test_the_stretching_of_the_published_model_is_read():
    rope = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}
    rope |= {"mscale": 1.0, "mscale_all_dim": 1.0}
    read = DeepseekV3Config.from_hub(DEEPSEEK.to_hub() | {"rope_scaling": rope, "rope_parameters": None, "max_position_embeddings": 163840})
    assert read.rope_scaling == YARN.replace(factor=40, original_max_seq_len=4096, beta_fast=32, beta_slow=1, attention_factor=1.0)
    assert read.sharpening == 1.0
    assert read.transformer.mixer(0).scale == pytest.approx((0.1 * 3.6888794541139363 + 1) ** 2 / 13**0.5)


def test_ntk_scaling_is_written_as_the_theta_of_the_features_that_are_turned():
    assert DEEPSEEK.replace(rope_scaling=NTKScaling(factor=4)).to_hub()["rope_theta"] == pytest.approx(10_000.0 * 4 ** (6 / 4))


def test_corrections_of_the_routers_are_kept_and_not_trained():
    model = DEEPSEEK.build(0)
    bias = model.blocks[1].ff.router.bias
    bias.data.uniform_()
    before, optimizer = bias.clone(), AdamW(learning_rate=0.1).build(model)
    model(torch.arange(12)[None], SequenceLayout.rows(1, 12)).square().sum().backward()
    optimizer.step()
    assert torch.equal(bias, before)
    assert "blocks.1.ff.router.bias" in dict(model.named_parameters())  # and so in every checkpoint
