"""What a cost curve holds; its seconds are not looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.nn import AttentionConfig, LinformerConfig, NystromConfig
from bloomery.recipe import load_recipe
from bloomery.stages.cost_curve import LIKENESS, CostCurve, Curve, drifting, independent, peak_bytes
from bloomery.stages.stage import RunContext
from bloomery.store import Artifact, Store

FULL, WINDOW = Curve(name="full <b>", mixer=AttentionConfig(n_heads=1)), Curve(name="window", mixer=AttentionConfig(n_heads=1, window=64))
LOW_RANK = Curve(name="Nyström", mixer=NystromConfig(n_heads=1, n_landmarks=16))
STAGE = CostCurve(title="Cost & length", curves=(FULL, WINDOW, LOW_RANK), lengths=(512, 2048), d_model=8, repeats=1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    before = torch.get_num_threads()
    artifact = STAGE.run(RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True))
    assert torch.get_num_threads() == before
    return artifact


def points(artifact: Artifact, name: str) -> list[dict]:
    results = json.loads(artifact.checked("results.json").read_text())
    return [point for point in results["points"] if point["name"] == name]


def test_every_mixer_has_a_point_at_every_length(measured):
    for curve in STAGE.curves:
        assert [p["length"] for p in points(measured, curve.name)] == [512, 2048]
        assert all(p["forward_s"] > 0 and p["backward_s"] > 0 and p["flops"] > 0 for p in points(measured, curve.name))
        assert {p["causal"] for p in points(measured, curve.name)} == {curve.name != "Nyström"}


def test_memory_of_a_window_grows_with_length_and_not_with_its_square(measured):
    for name in ("window", "Nyström"):
        short, long = (p["peak_bytes"] for p in points(measured, name))
        assert 3 < long / short < 5  # four times the tokens; a square would be sixteen


def test_what_comes_near_softmax_attention_says_how_near(measured):
    assert [p["error"] for p in points(measured, "full <b>")] == [None] * 2
    assert all(0 < p["error_drifting"] < p["error"] < 1 for p in points(measured, "Nyström"))


def test_the_page_has_plots_and_tables_and_escapes_names(measured):
    page = measured.checked("cost_curve.html").read_text()
    assert page.count("<svg") == 4
    assert "full &lt;b&gt;" in page
    assert "full <b>" not in page
    text = measured.checked("cost_curve.txt").read_text()
    assert "Nyström, both ways" in text


def test_vectors_that_drift_are_like_their_neighbours_and_no_larger():
    x = drifting(independent(2000, 16, seed=0))[0]
    assert x.var().item() == pytest.approx(1.0, abs=0.1)
    assert (x[1:] * x[:-1]).mean().item() == pytest.approx(LIKENESS, abs=0.1)


def test_peak_bytes_are_those_that_are_there_at_a_time():
    def step() -> None:
        one = torch.zeros(1000)
        two = torch.zeros(2000)
        del one
        torch.zeros(500)
        del two

    assert peak_bytes({"a": step, "b": lambda: None or step()}, torch.device("cpu")) == {"a": 12_000, "b": 12_000}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match=r"CostCurve\.lengths=\(4, 2\) does not grow; \(2, 4\) does"):
        STAGE.replace(lengths=(4, 2))
    with pytest.raises(ConfigError, match=r"CostCurve\.curves=.* has two of one name"):
        STAGE.replace(curves=(FULL, FULL))
    with pytest.raises(ConfigError, match=r"Curve\.causal=True is not how NystromConfig reads; False is"):
        Curve(name="x", mixer=NystromConfig(n_heads=1), causal=True)
    with pytest.raises(ConfigError, match=r"LinformerConfig\.n_mixtures=128 is above max_seq_len=8"):
        STAGE.replace(curves=(Curve(name="x", mixer=LinformerConfig(n_heads=1)),), lengths=(8,))


def test_the_recipe_plans():
    path = Path(__file__).parents[2] / "recipes" / "contrasts" / "attention_cost.py"
    stage, = load_recipe(str(path)).set({"longest": "600", "shortest": "256", "d_model": "32"}).stages()
    assert stage.lengths == (256, 512, 600)
    assert len(stage.curves) == 9
    assert "9 mixers at 3 lengths" in stage.estimate()
