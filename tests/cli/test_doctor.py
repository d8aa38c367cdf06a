"""`bloomery doctor`: a line per check, nothing kept, and an exit code that says whether something failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.train.doctor import patients

from bloomery.cli.main import cli
from bloomery.core.errors import ConfigError

RECIPE = """
from bloomery.optim import AdamW
from bloomery.recipe import Recipe
from bloomery.stages.init import Continue
from tests.train.doctor.patients import TRAININGS, USUAL
from bloomery.stages.train import Train

def small(*, learning_rate: float = 1e-2):
    '''Two trainings, of which the second goes on from the first.'''
    base = TRAININGS["decoder"].replace(name="base", optimizer=AdamW(learning_rate=learning_rate))
    return Recipe(name="small", wanted=(Train(**USUAL | {"name": "more", "init": Continue(base=base)}),))
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "small.py").write_text(RECIPE)
    return str(tmp_path / "small.py")


def doctor(*arguments: str) -> tuple[int, str]:
    """The exit code, and what is printed."""
    done = CliRunner().invoke(cli, ["doctor", *arguments, "--quick"], standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_help_has_examples():
    assert "bloomery doctor recipes/quickstart.py --stage base --quick" in CliRunner().invoke(cli, ["doctor", "--help"]).output


def test_every_training_is_examined_and_none_is_made(recipe: str, store_folder: str):
    code, text = doctor(recipe, "--store", store_folder)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert sum(line.startswith("pass initial loss:") for line in lines) == 2
    assert sum("fresh weights of the same model stand in for its own" in line for line in lines) == 1
    assert lines[-1].endswith("0 failed")
    assert code == 0
    assert not (Path(store_folder) / "Train").exists()


def test_a_failure_is_told_and_is_the_exit_code(recipe: str, store_folder: str):
    code, text = doctor(recipe, "--store", store_folder, "--stage", "base", "--learning-rate", "50")
    assert "fail  update to weight" in text
    assert "too high" in text
    assert "Train/more" not in text
    assert code == 1


def test_what_is_missing_and_not_to_be_made_is_named(recipe: str, tmp_path: Path):
    code, text = doctor(recipe, "--store", str(tmp_path / "store"), "--make", "nothing")
    assert f"{patients.TOLD.reference} are not there" in text
    assert "--make data" in text
    assert code == 0


def test_a_stage_that_is_no_training_is_refused(recipe: str, store_folder: str):
    with pytest.raises(ConfigError, match="did you mean base"):
        doctor(recipe, "--store", store_folder, "--stage", "bas")
