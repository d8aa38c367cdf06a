"""`bloomery run … --launch …` as people type it."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.cli.test_main import RECIPE, bloomery

from bloomery.cli.main import cli
from bloomery.core.errors import ConfigError

RUN = ("run", "alloy.py", "--ore", "it's $(tin)", "--layout", "shard=2", "--heat=2")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "alloy.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*arguments: str, code: int = 0) -> str:
    """What the command prints, in this process; raises what it raises."""
    result = CliRunner().invoke(cli, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_torchrun_shows_what_would_run(here: Path):
    said = shlex.split(typed(*RUN, "--launch", "torchrun", "--restarts", "2", "--quiet", "--dry-run"))
    assert said[:5] == ["torchrun", "--standalone", "--nproc-per-node=2", "--max-restarts=2", "-m"]
    assert said[5:] == ["bloomery.cli", "run", "alloy.py", "--ore", "it's $(tin)", "--heat=2", "--quiet", "--layout", "shard=2"]
    assert not (here / "store").exists()


def test_slurm_gets_a_file_in_the_store_that_says_the_command_again(here: Path):
    said = typed(*RUN, "--launch", "slurm", "--partition", "gpu", "--time", "12:00:00", "--tracker", "aim", "--tracker", "wandb")
    assert said == "store/jobs/alloy.sbatch is written; sbatch store/jobs/alloy.sbatch submits it\n"
    text = (here / "store/jobs/alloy.sbatch").read_text()
    assert "#SBATCH --partition=gpu" in text
    assert f"#SBATCH --chdir={here}" in text
    assert """run alloy.py --ore 'it'"'"'s $(tin)' --heat=2 --tracker aim --tracker wandb --layout shard=2 &""" in text


def test_an_axis_that_is_auto_takes_the_ranks_that_nodes_have(here: Path):
    auto = ("run", "alloy.py", "--layout", "shard=auto,tensor=2", "--launch", "slurm", "--nodes", "2", "--gpus-per-node", "8", "--dry-run")
    text = typed(*auto)
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=8" in text
    assert "--layout shard=auto,tensor=2 &" in text


def test_a_job_is_handed_to_sbatch_whose_code_is_ours(here: Path, monkeypatch: pytest.MonkeyPatch):
    sbatch = here / "sbatch"
    sbatch.write_text('#!/bin/bash\necho "given $1"; exit 6\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="--submit: sbatch is not installed here; take store/jobs/alloy.sbatch to where it is"):
        typed(*RUN, "--launch", "slurm", "--submit")
    monkeypatch.setenv("PATH", f"{here}:/usr/bin:/bin")
    typed(*RUN, "--launch", "slurm", "--submit", code=6)


def test_pods_see_recipe_and_store_where_they_are_mounted(here: Path):
    said = typed(*RUN, "--store", "elsewhere", "--launch", "kubernetes", "--image", "lab/bloomery:1", "--claim", "store", "--dry-run")
    recipe, _, job = yaml.safe_load_all(said)
    assert recipe["data"]["alloy.py"] == (here / "alloy.py").read_text()
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("run") :] == [
        "run", "/recipe/alloy.py", "--ore", "it's $$(tin)", "--heat=2", "--layout", "shard=2", "--store", "/store",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--launch", "torchrun", "--partition", "gpu"), "--partition is read by --launch slurm, and there is --launch torchrun"),
        (("--dry-run",), "--dry-run is read by --launch torchrun or --launch slurm or --launch kubernetes, and there is no --launch"),
        (("--launch", "kubernetes", "--claim", "store"), "--launch kubernetes needs --image"),
        (("--launch", "slurm", "--nodes", "3"), "make not the 2 ranks of --layout; --nodes 1 --gpus-per-node 2 or --nodes 2 --gpus-per-node 1"),
        (("--launch", "slurm", "--time", "soon"), "--time 'soon' is no duration"),
        (("--launch", "torchrun", "--heat", "warm"), "heat='warm'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_started(here: Path, arguments, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        typed(*RUN, *arguments)
    assert not (here / "store").exists()


@pytest.mark.slow
def test_two_ranks_make_a_recipe_together(here: Path):
    said = bloomery(here, "run", "alloy.py", "--layout", "replicate=2", "--launch", "torchrun", "--device", "cpu", "--tracker", "none")
    assert said.count("Smelt/main-") > 0
    assert said.count("mines: 2") == 1, "the leading rank alone tells results"
    assert "a run would make nothing" in bloomery(here, "plan", "alloy.py")
