"""The recipe for several tasks on tales, at a size that shows nothing but that it holds together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bloomery.recipe import load_recipe, run
from bloomery.stages.stage import RunContext
from bloomery.store import Store, read_json

RECIPE = Path(__file__).parents[2] / "recipes" / "several_tasks.py"


@pytest.mark.slow
def test_each_task_is_examined_after_it_was_learnt_alone_and_with_the_others(tmp_path):
    torch.set_num_threads(1)
    dials = {"stories": "40", "rows": "24", "asked": "12", "base_steps": "2", "steps": "1", "d_model": "16", "n_layers": "1"}
    recipe = load_recipe(str(RECIPE)).set(dials)
    found = {
        artifact.path.name.rpartition("-")[0]: read_json(artifact.path / "results.json")
        for artifact in run(recipe, RunContext(store=Store(tmp_path), quiet=True, trackers=()))
    }  # fmt: skip
    assert list(found) == [f"{task}_{way}" for task in ("summary", "fits", "kind") for way in ("alone", "together")]
    for way in ("alone", "together"):
        assert found[f"summary_{way}"]["labels"] == found[f"fits_{way}"]["labels"] == found[f"kind_{way}"]["labels"] == 12
        assert {"bleu", "chrf", "rougeL"} <= set(found[f"summary_{way}"])
        assert 0 < found[f"fits_{way}"]["mrr"] <= 1
        assert {"accuracy", "accuracy_among_own"} <= set(found[f"fits_{way}"])
    trained = {stage.name: stage for stage in recipe.stages() if stage.kind() == "Train"}
    assert trained["together"].total_steps == 3 * trained["fits_alone"].total_steps
