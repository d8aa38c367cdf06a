"""`<name>.lock.json` in the store: what the last run of a recipe was, field by field, and the checksums of what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery import __version__
from bloomery.recipe.graph import Recipe, label_of
from bloomery.store import Store, read_json, sha256_of, write_json
from bloomery.store.artifact import MANIFEST


def lock_path(recipe: Recipe, store: Store) -> Path:
    """Where the lock of a recipe is."""
    return store.root / f"{recipe.name}.lock.json"


def write_lock(recipe: Recipe, store: Store, command: str = "") -> Path:
    """Writes what the recipe is now and, for the finished stages, the checksum of their manifests.

    Args:
        recipe: that is run.
        store: where.
        command: that runs it, for who looks on; nothing where that was no command.
    """
    flat = recipe.flat()
    stages = {}
    for stage in recipe.stages():
        manifest = store.path(stage.reference) / MANIFEST
        stages[label_of(stage)] = {
            "reference": stage.reference,
            "manifest_sha256": sha256_of(manifest) if manifest.exists() else None,
            "fields": flat[label_of(stage)],
        }
    path = lock_path(recipe, store)
    write_json(path, {"recipe": recipe.name, "bloomery": __version__, "command": command, "stages": stages})
    return path


def read_lock(path: Path) -> dict[str, dict[str, Any]]:
    """Label → flat fields, as `Recipe.flat` gives them."""
    return {label: stage["fields"] for label, stage in read_json(path)["stages"].items()}
