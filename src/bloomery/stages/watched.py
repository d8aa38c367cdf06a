"""`Watched`: what has been measured along a training, what was forgotten, whether it goes on, and which weights it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.data import TokenShards
from bloomery.mesh import Holding, Mesh
from bloomery.models import Model, ModelConfig
from bloomery.stages.leave import PARTS, leave_model
from bloomery.stages.look import COLOURS, plot
from bloomery.stages.stage import Inputs
from bloomery.stages.training import Training
from bloomery.store import write_text
from bloomery.train.stopping import Measured, Verdict, forgotten, forgotten_of, right_of
from bloomery.train.suites import answered

BEST = "best"  # in a workspace: the weights that a rule would leave so far
PLOT = "watch.svg"


class Watched:
    """The suites of a training, and its measurements so far.

    Args:
        stage: the training.
        inputs: the artifacts that it reads.
        folder: its workspace, where `metrics.jsonl` has what an interrupted run has measured.
        mesh: the ranks.
    """

    def __init__(self, stage: Training, inputs: Inputs, folder: Path, mesh: Mesh) -> None:
        self.stage, self.folder, self.mesh = stage, folder, mesh
        self.suites = {suite.name: TokenShards.open(inputs[suite.tokens]) for suite in stage.watch.suites}
        self.history: list[Measured] = []

    def go_on(self, step: int) -> None:
        """Takes up what was measured up to a step by the run that this one goes on from."""
        found: dict[int, dict[str, float]] = {}
        if self.mesh.leads:
            for line in (self.folder / "metrics.jsonl").read_text().splitlines():
                plain = json.loads(line)
                figures = {name: value for name, value in plain.items() if name.startswith(("held_out/", "suite/"))}
                if figures and plain["step"] <= step:
                    found.setdefault(plain["step"], {}).update(figures)
        told = json.loads(self.mesh.world.tell(json.dumps(list(found.items())), 0))
        self.history = [Measured(at, figures) for at, figures in told]

    def measure(self, model: Model, rows: int, device: str) -> dict[str, float]:
        """The share of right answers in each suite, and what of it is lost."""
        figures = {}
        for suite in self.stage.watch.suites:
            right, asked = answered(
                model, self.suites[suite.name], time=self.stage.max_seq_len, rows=rows, questions=suite.questions, mesh=self.mesh,
                device=device,
            )  # fmt: skip
            share = right / max(1, asked)
            figures[right_of(suite.name)] = share
            figures[forgotten_of(suite.name)] = forgotten(self.history, suite.name, share)
        return figures

    def note(self, step: int, figures: Mapping[str, float], config: ModelConfig, holding: Holding) -> None:
        """Keeps what was measured after a step; where it makes its weights the ones to leave, these, too."""
        self.history = [*(one for one in self.history if one.step < step), Measured(step, figures)]
        if self.stage.stop is not None and self.verdict.best == step:
            leave_model(self.folder / BEST, config, holding)

    @property
    def verdict(self) -> Verdict:
        """What the rule says; without one, to go on."""
        rule = self.stage.stop
        return Verdict("", -1) if rule is None or not self.history else rule.judge(self.history)

    def told(self, figures: Mapping[str, float]) -> str:
        """The suites in a few words."""
        return "  ".join(
            f"{suite.side} {suite.name} {figures[right_of(suite.name)]:.1%} (−{figures[forgotten_of(suite.name)]:.1%} from its best)"
            for suite in self.stage.watch.suites
        )  # fmt: skip

    def leave(self, step: int) -> dict[str, Any]:
        """Copies the weights that the rule would leave to the place of the last ones, and draws the suites; figures for the summary. The
        leading rank only."""
        found: dict[str, Any] = {}
        if self.stage.stop is not None:
            reason, best = self.verdict
            for part in PARTS:
                if best != step and (self.folder / BEST / part).exists():
                    shutil.copytree(self.folder / BEST / part, self.folder / part, dirs_exist_ok=True)
            left = next(one.figures for one in self.history if one.step == best)
            found = {**left, "left_step": best} | ({"stopped": reason} if reason else {})
        if self.suites:
            write_text(self.folder / PLOT, drawn(self.stage, self.history))
        return found


def drawn(stage: Training, history: Sequence[Measured]) -> str:
    """The suites over the steps as SVG: old ones whole, new ones dashed."""

    def draw(axes: Any) -> None:
        for suite, colour in zip(stage.watch.suites, COLOURS * len(stage.watch.suites), strict=False):
            points = [(one.step, one.figures[right_of(suite.name)]) for one in history if right_of(suite.name) in one.figures]
            style = "-" if suite.side == "old" else "--"
            axes.plot(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3, label=f"{suite.side}: {suite.name}")
        axes.set_ylim(0, 1.02)

    return plot(f"{stage.name}: questions answered rightly", draw)
