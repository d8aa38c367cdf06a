"""`Wandb`: Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.train.trackers.service import Service
from bloomery.train.trackers.tracker import Session


class Wandb(Service):
    """A run of wandb's: written to this machine, for `wandb sync`, unless wandb has a mode or an account set up.

    Its id is the artifact's reference. Steps are a figure beside the others, since wandb's own can't go back to where a killed run goes on.
    """

    extra = "wandb"

    @classmethod
    def package(cls) -> Any:
        try:
            import wandb  # pyrefly: ignore[missing-import] (an extra)
        except ImportError:
            raise cls.missing() from None
        return wandb

    def begin(self, session: Session) -> None:
        wandb = self.package()
        settings = wandb.setup().settings
        chosen = "mode" in settings.model_fields_set or wandb.login(prompt=False)
        self._run = wandb.init(
            id=session.run.replace("/", "-"), name=session.run, project=settings.project or "bloomery", config=dict(session.settings),
            mode=None if chosen else "offline", resume="allow", settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")

    def send(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def end(self) -> None:
        self._run.finish()
