"""The recipe for rows of people's preferences, from a file of them to the figures, at a size that shows nothing but that it holds together."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bloomery.recipe import load_recipe, run
from bloomery.stages.stage import RunContext
from bloomery.store import Store, read_json

RECIPE = Path(__file__).parents[2] / "recipes" / "human_preferences.py"
ASKED = "\n\nHuman: Who of {0} has net {1}?\n\nAssistant: "


def test_from_rows_as_hh_rlhf_has_them_to_an_accuracy_of_what_was_set_aside(tmp_path):
    torch.set_num_threads(1)
    said = [("Ada has it.", "Nobody!")] * 60 + [("They read alike.", "They read alike.")]
    rows = [{"chosen": ASKED.format(n, n * n) + a, "rejected": ASKED.format(n, n * n) + b} for n, (a, b) in enumerate(said)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "text.txt").write_text(" ".join(f"Ada has {n} nets." for n in range(400)))
    dials = {
        "data": str(tmp_path / "pairs.jsonl"), "text": str(tmp_path / "text.txt"), "base_steps": "1", "chat_steps": "1", "steps": "1",
        "vocab_size": "280", "d_model": "16", "n_layers": "1", "max_tokens": "128",
    }  # fmt: skip
    context = RunContext(store=Store(tmp_path / "store"), quiet=True, trackers=())
    recipe = load_recipe(str(RECIPE)).set(dials)
    (artifact,) = run(recipe, context)
    found = read_json(artifact.path / "results.json")
    learnt, test = (
        context.store.open(next(one for one in recipe.stages() if one.kind() == "Tokenize" and one.name == name).reference)
        for name in ("learnt", "test")
    )  # fmt: skip
    of = {one.manifest.name: one.manifest.summary["documents"] for one in (learnt, test)}
    assert sum(of.values()) == 60  # the one that reads alike is no pair
    assert found["pairs"] == of["test"] > 5
    assert found["low"] < found["accuracy"] < found["high"] or found["accuracy"] in (0.0, 1.0)
