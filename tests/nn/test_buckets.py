"""Relative positions in buckets, beside the published function and in models that are no T5."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, BucketsConfig, GatedConfig, SequenceLayout
from bloomery.nn.buckets import Buckets, buckets

CONFIGS = [
    BucketsConfig(), BucketsConfig(told_apart="both"), BucketsConfig(n_buckets=8, max_distance=20), BucketsConfig(n_buckets=7, max_distance=50),
    BucketsConfig(n_buckets=64, max_distance=1000, told_apart="both"),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_distances_fall_into_the_buckets_of_the_published_function(config):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = torch.arange(-2000, 2001)
    theirs = t5.T5Attention._relative_position_bucket(distances, config.told_apart == "both", config.n_buckets, config.max_distance)
    assert torch.equal(buckets(distances, config), theirs)


@given(st.integers(2, 40), st.integers(2, 500), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_bucket_is_used_and_farther_is_never_a_lower_one(exact, more, both):
    config = BucketsConfig(n_buckets=exact * (4 if both else 2), max_distance=exact + more, told_apart="both" if both else "past")
    past = buckets(-torch.arange(5000), config)
    assert past[0] == 0
    assert (past.diff() >= 0).all()
    assert past.max() == exact * 2 - 1
    assert past[: exact + 1].tolist() == list(range(exact + 1))
    ahead = buckets(torch.arange(1, 5000), config)
    assert torch.equal(ahead, past[1:] + config.n_buckets // 2) if both else (ahead == 0).all()


def test_the_bias_of_a_pair_is_that_of_its_bucket_and_head():
    module = Buckets(BucketsConfig(n_buckets=8, max_distance=16, told_apart="both"), n_heads=3)
    view = SequenceLayout.rows(2, 30, causal=False).view
    bias = module(view)
    for i, j in ((0, 0), (3, 7), (29, 0), (0, 29)):
        expected = module.table.weight[buckets(torch.tensor(j - i), module.config)]
        assert torch.equal(bias[0, :, i, j], expected)


def test_any_model_can_have_them_and_its_layers_share_one_table_each_for_a_kind():
    near, far = (AttentionConfig(n_heads=4, positions=BucketsConfig(n_buckets=n)) for n in (8, 16))
    config = TransformerConfig(vocab_size=31, d_model=16, n_layers=4, mixers=(near, far), feed_forwards=(GatedConfig(d_ff=24),))
    model = config.build(0)
    assert [name for name, _ in model.named_parameters() if "table" in name] == [f"blocks.{i}.mixer.bias.table.weight" for i in (0, 1)]
    ids, layout = torch.arange(20).view(2, 10), SequenceLayout.rows(2, 10)
    before = model(ids, layout)
    with torch.no_grad():
        model.get_parameter("blocks.0.mixer.bias.table.weight")[3] += 1.0
    after = model(ids, layout)
    assert torch.equal(before[:, :3], after[:, :3])  # nothing there is three places back
    assert (before[:, 3:] - after[:, 3:]).abs().amax(-1).gt(1e-6).all()


@pytest.mark.parametrize(("fields", "named"), [
    ({"n_buckets": 9, "told_apart": "both"}, "n_buckets=9 is odd"),
    ({"n_buckets": 32, "max_distance": 16}, "max_distance=16 is no farther"),
    ({"n_buckets": 2}, "n_buckets"),
])  # fmt: skip
def test_buckets_that_cannot_be_are_refused(fields, named):
    with pytest.raises(ConfigError, match=named):
        BucketsConfig(**fields)
