"""What a run would do: which stages are there, which are to be made, and because of which field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bloomery.recipe.graph import Recipe, flat_fields, flat_plain, label_of
from bloomery.stages.stage import Stage
from bloomery.store import Store

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One field that moved; `before` or `after` is None where the field stands at its default (or the stage was not there)."""

    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        shown = ["(default)" if value is None else f"{value}" for value in (self.before, self.after)]
        return f"{self.field}: {shown[0]} → {shown[1]}"


@dataclass(frozen=True)
class PlannedStage:
    """A stage and what would happen to it.

    Attributes:
        status: "ready" (finished, will be reused), "resume" (unfinished work is there), "build" (nothing is there).
        changes: what differs from the newest finished artifact of the same kind and name; empty where there is none.
        rebuilt_by: labels of the inputs whose own rebuilding forces this one.
        preview: what else can be told of one that is to be made, a line each.
    """

    stage: Stage
    status: Literal["ready", "resume", "build"]
    changes: tuple[Change, ...]
    rebuilt_by: tuple[str, ...]
    preview: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """One line: why it is to be made."""
        if self.status == "ready":
            return ""
        reasons = [str(change) for change in self.changes] + [f"{label} changes" for label in self.rebuilt_by]
        return "; ".join(reasons) or ("unfinished work is there" if self.status == "resume" else "never made here")


def plan(recipe: Recipe, store: Store) -> list[PlannedStage]:
    """What `run` would do, stage by stage in order; touches nothing."""
    planned: dict[str, PlannedStage] = {}
    for stage in recipe.stages():
        status: Literal["ready", "resume", "build"] = "build"
        changes: tuple[Change, ...] = ()
        rebuilt_by: tuple[str, ...] = ()
        if store.find(stage.reference) is not None:
            status = "ready"
        else:
            status = "resume" if store.has_partial(stage.reference) else "build"
            siblings = store.siblings(stage.kind(), stage.name)
            if siblings:
                changes = tuple(changed(flat_plain(_without_kind(siblings[0].manifest.fields)), flat_fields(stage)))
                rebuilt_by = tuple(label_of(child) for child in stage.inputs().values() if planned[child.reference].status != "ready")
        preview = () if status == "ready" else tuple(stage.preview(store))
        planned[stage.reference] = PlannedStage(stage, status, changes, rebuilt_by, preview)
    return list(planned.values())


def changed(before: Fields, after: Fields) -> list[Change]:
    """The fields that differ, in the order of `after`, then those that are gone."""
    names = [*after, *(name for name in before if name not in after)]
    return [Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def diff(before: Mapping[str, Fields], after: Mapping[str, Fields]) -> dict[str, list[Change]]:
    """Label → changed fields, for the stages that differ between two recipes in their flat form (`Recipe.flat`)."""
    labels = [*after, *(label for label in before if label not in after)]
    found = {label: changed(before.get(label, {}), after.get(label, {})) for label in labels}
    for label in labels:
        if label not in before or label not in after:
            found[label].insert(0, Change("stage", None if label not in before else "there", None if label not in after else "there"))
    return {label: changes for label, changes in found.items() if changes}


def _without_kind(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("kind", "contract")}
