"""Under µP a few steps do the same to a model of any width; under the standard parametrisation they do more to a wider one."""

import pytest

from bloomery.models import ModelConfig, TransformerConfig
from bloomery.models.mup import mup
from bloomery.nn import AttentionConfig, FanInInit, GatedConfig, MuPInit
from bloomery.optim import AdamW, Muon
from bloomery.train.coordinates import coordinate_check

WIDTHS = (32, 64, 128, 256)


def standard(width: int) -> TransformerConfig:
    return TransformerConfig(
        vocab_size=128, d_model=width, n_layers=2, max_seq_len=32, mixers=(AttentionConfig(n_heads=4),),
        feed_forwards=(GatedConfig(d_ff=2 * width),), init=FanInInit(),
    )  # fmt: skip


def under_mup(width: int) -> ModelConfig:
    return mup(standard(width), MuPInit(base_width=32, base_head_dim=8))


@pytest.mark.parametrize(
    "optimizer", [AdamW(learning_rate=3e-3), pytest.param(Muon(learning_rate=1e-2), marks=pytest.mark.slow)], ids=["adamw", "muon"]
)
def test_scales_do_not_depend_on_width_under_mup_and_grow_without(optimizer):
    found = {build: coordinate_check(build, WIDTHS, optimizer, steps=4, seeds=1) for build in (standard, under_mup)}
    for figures in ("scales", "changes"):
        with_mup, without = (found[build].slopes(getattr(found[build], figures)) for build in (under_mup, standard))
        assert max(abs(slope) for slope in with_mup.values()) < 0.25, (figures, with_mup)
        assert without["logits"] > 0.45, (figures, without)
    assert found[under_mup].slopes(found[under_mup].changes)["block 1 ff"] < found[standard].slopes(found[standard].changes)["block 1 ff"] - 0.1


def test_both_are_one_model_at_the_base_width():
    optimizer = AdamW(learning_rate=3e-3)
    one, two = (coordinate_check(build, (32,), optimizer, steps=2, seeds=1) for build in (standard, under_mup))
    for place, by_width in one.scales.items():
        assert by_width[0] == pytest.approx(two.scales[place][0], rel=1e-5), place
