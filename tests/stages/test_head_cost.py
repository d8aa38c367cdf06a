"""The cost of heads: what is measured, and what is refused. No seconds are asserted."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.nn import UntiedConfig
from bloomery.nn.adaptive import AdaptiveSoftmaxConfig
from bloomery.stages.head_cost import ALL_LOGITS, HeadCost, HeadCurve
from bloomery.stages.stage import RunContext
from bloomery.store import Store, read_json

CURVES = (
    HeadCurve(name="full", heads=(UntiedConfig(), UntiedConfig())),
    HeadCurve(name="adaptive", heads=(AdaptiveSoftmaxConfig(cutoffs=(64,)), AdaptiveSoftmaxConfig(cutoffs=(512,)))),
)
SMALL = HeadCost(title="How dear?", curves=CURVES, vocab_sizes=(1024, 8192), d_model=16, tokens=256, repeats=2)


def test_every_head_has_a_point_at_every_size_and_chunks_hold_less_than_all_logits(tmp_path):
    made = SMALL.run(RunContext(store=Store(tmp_path), quiet=True))
    points = {(p["name"], p["vocab_size"]): p for p in read_json(made.path / "results.json")["points"]}
    assert set(points) == {(name, size) for name in ("full", "adaptive", ALL_LOGITS) for size in (1024, 8192)}
    assert all(p["seconds"] > 0 and p["peak_bytes"] > 0 for p in points.values())
    assert points["adaptive", 8192]["flops_per_token"] < points["full", 8192]["flops_per_token"] == 2 * 16 * 8192
    assert points["full", 8192]["peak_bytes"] < points[ALL_LOGITS, 8192]["peak_bytes"]
    assert points[ALL_LOGITS, 8192]["peak_bytes"] >= 4 * 256 * 8192
    page = (made.path / "head_cost.html").read_text()
    assert page.count("<svg") == 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"vocab_sizes=.* does not grow; \(1024, 8192\) does"):
        SMALL.replace(vocab_sizes=(8192, 1024))
    with pytest.raises(ConfigError, match=r"has 2 heads called 'full' for 3 vocab_sizes"):
        SMALL.replace(vocab_sizes=(1024, 2048, 8192))
    with pytest.raises(ConfigError, match="cutoffs"):
        SMALL.replace(vocab_sizes=(32, 8192))
