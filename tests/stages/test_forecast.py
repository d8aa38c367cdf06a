"""What was planned beside what was measured."""

from bloomery.mesh import Layout
from bloomery.models import LlamaConfig
from bloomery.planning.machines import machine
from bloomery.stages.anatomy import Planned
from bloomery.stages.forecast import compare, rows_of
from bloomery.stages.planner import outlook_of
from bloomery.train.recompute import Recompute

PLANNED = Planned(config=LlamaConfig(vocab_size=256, d_model=32, n_layers=4, n_heads=2, max_seq_len=32), time=32)


def test_figures_that_were_not_measured_stand_without_a_ratio():
    outlook = outlook_of(PLANNED, machine("h100"), 8, Layout(pipeline=2), 2, Recompute())
    speed = outlook.speed.tokens_per_s
    plan = compare(outlook, {"tokens_per_s": speed / 2, "tensors": 0, "weights": 1 << 20})
    assert plan["tokens_per_s"] == {"planned": round(speed, 1), "measured": speed / 2, "ratio": 0.5}
    assert plan["tensors"] == {"planned": round(max(place.total for place in outlook.places), 1)}
    assert plan["weights"]["planned"] == max(place.weights for place in outlook.places)
    rows = {name: rest for name, *rest in rows_of(plan)}
    assert rows["speed"][2] == "0.50"
    assert rows["tensors at their most"][1:] == ["–", "–"]
    assert rows["weights"][1] == "1 MiB"
