"""Contrasts: every trial has its outcome, also one that breaks."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig
from bloomery.nn import FanInInit
from bloomery.optim import AdamW, Constant
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.contrast import Contrast, Trial, smoothed
from bloomery.stages.stage import RunContext
from bloomery.store import Store, read_json

TALES = tale_tokens(count=60, vocab_size=300)
MODEL = LlamaConfig(vocab_size=300, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16)
WILD = MODEL.replace(init=FanInInit(embedding=1e30))


def trial(name: str, rate: float, model: LlamaConfig = MODEL) -> Trial:
    return Trial(name=name, model=model, optimizer=AdamW(learning_rate=rate), schedule=Constant(warmup=0))


def contrast(*trials: Trial, steps: int = 30) -> Contrast:
    return Contrast(
        title="How fast?", tokenizer=TALES.tokenizer, tokens=TALES.read, held_out=TALES.unread, trials=trials, max_seq_len=16,
        batch_tokens=128, steps=steps,
    )


def test_what_learns_what_is_stuck_and_what_breaks_are_told_apart(tmp_path):
    trials = (trial("fair", 1e-2), trial("asleep", 1e-7), trial("broken", 1e-2, WILD))
    made = contrast(*trials, steps=120).run(RunContext(store=Store(tmp_path), quiet=True))
    outcomes = [read_json(made.path / "trials" / f"{i}.json") for i in range(3)]
    assert [o["outcome"] for o in outcomes] == ["learns", "is stuck", "diverges"]
    assert len(outcomes[0]["loss"]) == 120
    assert outcomes[0]["bits_per_byte"] < outcomes[1]["bits_per_byte"]
    assert "is nan" in outcomes[2]["ended"] or "is inf" in outcomes[2]["ended"]
    assert outcomes[2]["bits_per_byte"] is None
    table = (made.path / "contrast.txt").read_text()
    assert all(name in table for name in ("fair", "asleep", "broken", "guess by the tokens' frequencies"))
    assert (made.path / "contrast.html").read_text().count("<svg") == 1


@pytest.mark.slow
def test_a_finished_trial_is_kept_when_another_is_interrupted(tmp_path, monkeypatch):
    store, tried = Store(tmp_path), []
    honest = Contrast._try

    def counted(self, trial, *rest):
        tried.append(trial.name)
        if tried == ["one", "two"]:
            raise KeyboardInterrupt
        return honest(self, trial, *rest)

    monkeypatch.setattr(Contrast, "_try", counted)
    stage = contrast(trial("one", 1e-2), trial("two", 1e-3), steps=3)
    with pytest.raises(KeyboardInterrupt):
        stage.run(RunContext(store=store, quiet=True))
    stage.run(RunContext(store=store, quiet=True))
    assert tried == ["one", "two", "two"]


def test_impossible_contrasts_are_refused():
    with pytest.raises(ConfigError, match=r"Contrast\.trials=.* must be one or more of different names"):
        contrast(trial("one", 1e-2), trial("one", 1e-3))
    with pytest.raises(ConfigError, match=r"Contrast\.batch_tokens=100 is not a multiple of max_seq_len=16"):
        contrast(trial("one", 1e-2)).replace(batch_tokens=100)


def test_a_smoothed_curve_keeps_means_and_ends():
    assert smoothed([1.0, 3.0, 5.0, 7.0], points=2) == ([1.5, 3.5], [2.0, 6.0])
    assert smoothed([4.0], points=9) == ([1.0], [4.0])
    assert smoothed([]) == ([], [])
