"""What `plan` says of a training that nobody here could run, word by word.

After a change that is meant: python -m tests.cli.test_plan
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.cli import plan
from bloomery.cli.plan import Means, chosen, print_outlook, print_trainings
from bloomery.cli.show import console
from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout
from bloomery.models import LlamaConfig
from bloomery.planning.sizing import advice
from bloomery.recipe import load_recipe
from bloomery.stages.anatomy import Planned
from bloomery.stages.planner import planner_of
from bloomery.stages.train import Train

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "recipe" / "golden" / "continued_full_plan.txt"
MEANS = Means(
    layout="replicate=8,shard=4,context=2", machine="h100", memory=None, price=2.5, utilisation=0.5, micro_batch=1, recompute="none",
)  # fmt: skip


NAMES = ("base", "replay_top", "replay_all")


def told(name: str) -> str:
    """The plan of one of the recipe's trainings."""
    stages = load_recipe(str(ROOT / "recipes" / "continued.py")).set({"size": "full"}).stages()
    stage = next(stage for stage in stages if isinstance(stage, Train) and stage.name == name)
    model, tokens = stage.learner, stage.total_rows * stage.max_seq_len
    assert model is not None
    planner = planner_of(stage.planned(model), MEANS.named, stage.rows, MEANS.utilisation, tokens)
    with console.capture() as capture:
        console.print(name)
        print_outlook(planner, chosen(planner, MEANS, Layout.parse(MEANS.layout), None), MEANS, tokens)
        for line in advice(model.n_params, stage.tokens_before, tokens):
            console.print(line, markup=False)
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.console, "_width", 400)


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[:2]), NAMES[2]])
def test_the_case_of_10b_parameters_1t_and_200b_tokens_is_planned_as_it_was(wide: None, name: str):
    assert told(name).strip() == GOLDEN.read_text().split("\n\n")[NAMES.index(name)].strip()


def test_names_and_numbers_of_four_stages_stand_whole_in_a_narrow_window(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan.console, "_width", 80)
    config = LlamaConfig(vocab_size=512, d_model=64, n_layers=4, n_heads=4, max_seq_len=64)
    planner = planner_of(Planned(config=config, time=64), MEANS.named, 64)
    with console.capture() as capture:
        print_outlook(planner, chosen(planner, MEANS, Layout(pipeline=4), None), MEANS, 1e9)
    lines = capture.get().splitlines()
    assert {"weights", "optimizer", "activations", "communication", "together"} <= {line[:16].strip() for line in lines}
    assert not [line for line in lines if "…" in line]


def test_what_a_run_would_refuse_of_memory_is_refused_in_the_same_words():
    with pytest.raises(ConfigError, match="--recompute 8 GiB with --offload activations: a size is for what stays on the device"):
        print_trainings([], replace(MEANS, recompute="8GiB", offload="activations,optimizer"))
    assert replace(MEANS, recompute="full", offload="activations").away == {"activations"}


if __name__ == "__main__":
    console._width = 400
    GOLDEN.write_text("\n".join(map(told, NAMES)))
