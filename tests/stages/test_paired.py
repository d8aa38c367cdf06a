"""Ways side by side, seed by seed: the figures are those of a naive loop, and differences are those of pairs."""

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Cut, Packed, TokenShards
from bloomery.models import read_model
from bloomery.stages.paired import Figures, Paired, Pairs, Scores, Way
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Watch
from bloomery.store import Store
from tests.stages.test_train import HELD_OUT, training


def run(name: str, seed: int):
    return training(name=f"{name}_{seed}", steps=1 + seed, ema=None, watch=Watch(), seed=seed)


def test_figures_are_those_of_every_held_out_token(tmp_path):
    context = RunContext(store=Store(tmp_path), quiet=True, trackers=())
    ways = tuple(Way(name=name, runs=(run(name, 0), run(name, 1))) for name in ("alone", "taught"))
    made = Paired(title="t", ways=ways, text=HELD_OUT, max_seq_len=32).run(context).manifest.summary
    losses, rights = [], []
    for one in ways[1].runs:
        model, nats, right, seen = read_model(one.run(context).path / "model")[1].eval(), 0.0, 0, 0
        for batch in Packed(TokenShards.open(HELD_OUT.run(context)), Cut(), time=32, seed=0).once(1):
            learnt = batch.loss_weight[0] > 0
            with torch.no_grad():
                p = torch.log_softmax(model(batch.tokens, batch.layout)[0, learnt].double(), -1)
            targets = batch.targets[0, learnt]
            nats -= float(p.gather(1, targets[:, None]).sum())
            right, seen = right + int((p.argmax(-1) == targets).sum()), seen + len(targets)
        losses.append(nats / seen), rights.append(right / seen)
    assert made["taught: loss"] == pytest.approx(sum(losses) / 2, abs=2e-5)
    assert made["taught: right"] == pytest.approx(sum(rights) / 2, abs=2e-5)


def test_differences_are_of_pairs():
    one = Figures("alone", [Scores(2.0, 0.5, 10), Scores(1.0, 0.7, 10)])
    other = Figures("taught", [Scores(1.9, 0.6, 10), Scores(0.7, 0.8, 10)])
    told = Pairs("t", [one, other]).text()
    assert other.less(one) == pytest.approx([-0.1, -0.3])
    for words in ("-0.2000 ± 0.1414", "+10.00 ± 0.00", "2 of 2", "1.5000 ± 0.7071"):
        assert words in told


def test_ways_that_make_no_pairs_are_refused():
    ways = Way(name="a", runs=(run("a", 0),)), Way(name="b", runs=(run("b", 0), run("b", 1)))
    with pytest.raises(ConfigError, match="make no pairs"):
        Paired(title="t", ways=ways, text=HELD_OUT, max_seq_len=32)
