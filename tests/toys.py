"""Small stages for testing what runs stages."""

from __future__ import annotations

from typing import Any

from bloomery.core.config import Config
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace, write_text


class Grain(Config):
    """A nested value."""

    size: int = 3
    """In millimetres."""


class Mine(Stage):
    """Writes its ore."""

    ore: str
    """What is dug."""
    grain: Grain = Grain()
    """How fine."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        write_text(workspace.path / "ore.txt", self.ore * self.grain.size)
        workspace.count("ore.txt", rows=1)
        return {"ore": self.ore}


class Smelt(Stage):
    """Reads the ores of one or more mines."""

    mines: tuple[Mine, ...]
    """Where the ore comes from."""
    heat: float = 1.0
    """Relative to the usual."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        ores = [inputs[mine].checked("ore.txt").read_text() for mine in self.mines]
        write_text(workspace.path / "iron.txt", f"{'+'.join(ores)} at {self.heat}")
        return {"mines": len(ores)}
