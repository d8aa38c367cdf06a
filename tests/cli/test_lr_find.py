"""`bloomery lr-find` makes what a training reads, suggests a rate, draws, and leaves nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner
from tests.stages.test_train import training

from bloomery.cli.lr_find import advice
from bloomery.cli.main import cli
from bloomery.core.errors import ConfigError
from bloomery.objectives import CausalLM, Distil
from bloomery.stages.lr_find import find_rate
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.train.lr_find import RateSweep
from bloomery.train.recompute import Recompute, recompute
from bloomery.train.rollouts import Rollout

RECIPE = """
from bloomery.recipe import Recipe
from bloomery.stages.init import Continue
from tests.stages.test_train import training

def small(*, trainings: int = 1):
    '''One training, or two.'''
    base = training()
    return Recipe(name="small", wanted=(base, training(name="more", init=Continue(base=base)))[:trainings])
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(RECIPE)
    return path


def test_the_suggestion_the_plot_and_nothing_else(recipe: Path, tmp_path: Path):
    arguments = ["lr-find", str(recipe), "--points", "30", "--low", "1e-4", "--high", "100", "--device", "cpu"]
    arguments += ["--plot", str(tmp_path / "rates.svg"), "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert [words in done.output for words in ("Train/main: loss", "suggestion: learning_rate=", "the recipe has 0.003")] == [True] * 3
    assert (tmp_path / "rates.svg").read_text().startswith("<svg")
    assert {folder.name for folder in (tmp_path / "store").iterdir()} == {"Prepare", "TrainTokenizer", "Tokenize"}


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--trainings", "2"], "2 trainings; add --stage main or more"), (["--stage", "nine"], "no such training; main would be one"),
     (["--low", "1", "--high", "1"], "--low 1 is not below --high 1; 0.0001 would be")],
)  # fmt: skip
def test_what_cannot_be_swept_is_told(recipe: Path, tmp_path: Path, options: list[str], words: str):
    result = CliRunner().invoke(cli, ["lr-find", str(recipe), "--store", str(tmp_path / "store"), *options])
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)
    assert not (tmp_path / "store").exists()


def test_a_loss_that_asks_another_model_is_swept_as_a_run_computes_it(tmp_path: Path):
    base = training(steps=2)
    stage = training(name="taught", objective=0.5 * CausalLM() + 0.5 * Distil(teacher=base))
    plain = RunContext(store=Store(tmp_path), quiet=True, trackers=())
    lean = replace(plain, recompute=Recompute("full"), offload=frozenset({"activations", "optimizer"}))
    with mock.patch("bloomery.stages.start.recompute", wraps=recompute) as again:
        found = [find_rate(stage, context, 1e-4, 1e-2, 3).losses for context in (plain, lean)]
    assert found[0] == found[1]
    assert [call.args[1].kind for call in again.call_args_list][-2:] == ["none", "full"]
    with pytest.raises(ConfigError, match="learns from what it writes and is paid for"):
        find_rate(stage.model_copy(update={"rollout": Rollout(max_new_tokens=4)}), plain, 1e-4, 1e-2, 3)


@pytest.mark.parametrize(
    ("losses", "diverged", "words"),
    [((), True, "no finite loss"), ((1.0, 2.0, 3.0), False, "does not fall anywhere from 0.1 to 0.4"),
     ((9.0, 5.0, 1.0), False, "still falls at 0.4; sweep higher rates"), ((9.0, 1.0, 3.0), True, "rises beyond 0.")],
)  # fmt: skip
def test_advice_fits_what_was_seen(losses: tuple[float, ...], diverged: bool, words: str):
    assert words in advice(RateSweep((0.1, 0.2, 0.4)[: len(losses)], losses, diverged), own=0.003)[0]


def test_help_has_an_example():
    assert "Example: bloomery lr-find" in " ".join(CliRunner().invoke(cli, ["lr-find", "--help"]).output.split())
