"""The flattened configs of our recipes, as files: a review sees what a changed default does.

After a change that is meant: python -m tests.recipe.test_golden
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bloomery.recipe import load_recipe

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
OF_THE_MACHINE = {"source.python", "source.files", "source.contents"}  # what a source adds to its identity from this machine
BOOKS = {"source": str(GOLDEN / "books")}
CONTRASTS = ("adaptive_softmax", "attention_cost", "batch_norm", "fixup", "grouped_queries", "growth", "norm_placement", "warmup")
DIALS: dict[str, dict[str, str]] = {
    name: {} for name in (
        "cart_pole", "distilled", "policy", "preferences", "quickstart", "remedies", "several_tasks", "stdlib", "synthetic",
    )
} | {"novels": BOOKS, "refinery": BOOKS}
QUESTIONS = {"data": str(GOLDEN / "questions.csv"), "text": str(GOLDEN / "books")}
DIALS |= {"continued": {}, "continued_full": {"size": "full"}, "multiple_choice": QUESTIONS}
DIALS |= {"human_preferences": {"data": str(GOLDEN / "pairs.jsonl"), "text": str(GOLDEN / "books")}}
DIALS |= {f"contrasts/{name}": {} for name in CONTRASTS}


def flat(name: str) -> dict[str, dict[str, object]]:
    stages = load_recipe(str(ROOT / "recipes" / f"{name.removesuffix('_full')}.py")).set(DIALS[name]).flat()
    return {label: {k: v for k, v in fields.items() if k not in OF_THE_MACHINE} for label, fields in stages.items()}


@pytest.mark.parametrize("name", DIALS)
def test_recipe_is_what_it_was(name: str):
    assert json.loads(json.dumps(flat(name))) == json.loads((GOLDEN / f"{name}.json").read_text())


def test_every_recipe_has_a_golden_config():
    recipes = ROOT / "recipes"
    paths = {path.relative_to(recipes) for path in recipes.rglob("*.py")}
    names = {str(path.with_suffix("")) for path in paths if path.parts[0] != "tasks"}  # whose functions return tasks
    assert names == {name.removesuffix("_full") for name in DIALS}


if __name__ == "__main__":
    for name in sys.argv[1:] or DIALS:
        (GOLDEN / f"{name}.json").parent.mkdir(exist_ok=True)
        (GOLDEN / f"{name}.json").write_text(json.dumps(flat(name), indent=2, ensure_ascii=False) + "\n")
