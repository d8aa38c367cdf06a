"""`Recipe`: the stages that are wanted; all that they stand on follows from their fields."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bloomery.core.config import Config, flatten, to_plain
from bloomery.core.errors import ConfigError
from bloomery.stages.stage import Stage


class Recipe(Config):
    """A named set of wanted stages.

    The graph is not written down anywhere: a stage's inputs are the stages among its fields, so the recipe cannot disagree with it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Names the lock file; lower-case letters, digits, '_' and '-'."""
    wanted: tuple[Stage, ...] = Field(min_length=1)
    """The stages whose artifacts are the point of the recipe, the most important one last."""

    def check(self) -> None:
        seen: dict[str, Stage] = {}
        for stage in self.stages():
            label = label_of(stage)
            if label in seen and seen[label].key != stage.key:
                raise ConfigError(f"recipe {self.name!r} has two different stages called {label}; give one of them another name=")
            seen[label] = stage

    def stages(self) -> list[Stage]:
        """All stages, each once, inputs before what needs them."""
        ordered: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            if stage.reference not in ordered:
                for child in stage.inputs().values():
                    visit(child)
                ordered[stage.reference] = stage

        for stage in self.wanted:
            visit(stage)
        return list(ordered.values())

    def flat(self) -> dict[str, dict[str, Any]]:
        """Label → flattened non-default fields; inputs stand by label, so that only real changes differ between two recipes."""
        return {label_of(stage): flat_fields(stage) for stage in self.stages()}


def label_of(stage: Stage) -> str:
    """`Train/base`: what a stage is called within its recipe."""
    return f"{stage.kind()}/{stage.name}"


def flat_fields(stage: Stage) -> dict[str, Any]:
    """A stage's own fields on one level: {"model.n_layers": 6, "corpus": "→ Prepare/main"}."""
    return flat_plain(to_plain({name: getattr(stage, name) for name in stage.non_default_fields()}))


def flat_plain(plain: Any) -> dict[str, Any]:
    """Plain data on one level, with input stages shown by label."""
    return flatten(_inputs_by_label(plain))


def _inputs_by_label(plain: Any) -> Any:
    if isinstance(plain, dict):
        if plain.keys() == {"stage", "name", "key"}:
            return f"→ {plain['stage']}/{plain['name']}"
        return {name: _inputs_by_label(child) for name, child in plain.items()}
    if isinstance(plain, list):
        return [_inputs_by_label(child) for child in plain]
    return plain
