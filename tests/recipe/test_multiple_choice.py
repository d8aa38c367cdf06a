"""The recipe for questions with choices, from a file of them to the table, at a size that shows nothing but that it holds together."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from bloomery.recipe import load_recipe, run
from bloomery.stages.stage import RunContext
from bloomery.store import Store, read_json

RECIPE = Path(__file__).parents[2] / "recipes" / "multiple_choice.py"


def test_from_questions_to_a_table_of_ways_with_their_ensembles(tmp_path):
    torch.set_num_threads(1)
    rng, names = np.random.default_rng(0), ("Ada", "Tom", "Eve", "Sam", "Joy", "Max", "Ben", "Amy")
    with (tmp_path / "questions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "prompt", *"ABCDE", "answer"])
        for number in range(60):
            choices = rng.permutation(names)[:5]
            table.writerow([number, f"Who of {number} has the {rng.integers(10**9)} nets?", *choices, rng.choice(list("ABCDE"))])
    (tmp_path / "text").mkdir()
    words = " ".join(f"{rng.choice(names)} has {rng.integers(1000)} nets." for _ in range(400))
    (tmp_path / "text" / "nets.txt").write_text(words)
    dials = {
        "data": str(tmp_path / "questions.csv"), "text": str(tmp_path / "text"), "seeds": "2", "folds": "3", "base_steps": "2",
        "head_steps": "1", "steps": "2", "vocab_size": "280", "d_model": "16", "n_layers": "1", "max_tokens": "32",
    }  # fmt: skip
    recipe = load_recipe(str(RECIPE)).set(dials)
    context = RunContext(store=Store(tmp_path / "store"), quiet=True, trackers=())
    (artifact,) = run(recipe, context)
    results = read_json(artifact.path / "results.json")
    assert list(results["ways"]) == ["plain", "frozen_embeddings", "cosine_rates"]
    assert all(len(way["runs"]) == 2 and 0 <= way["ensemble"]["map_at_3"] <= 1 for way in results["ways"].values())
    assert 5 < results["questions"] < 40
    frozen = next(stage for stage in recipe.stages() if stage.kind() == "Ensemble" and stage.name == "frozen_embeddings")
    assert "base.embedding.weight" in read_json(context.store.open(frozen.reference).path / "ensemble.json")["shared"]
