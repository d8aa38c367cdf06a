"""`Convert`: a trained model changed in its architecture, to be trained on.

    model/           config.json, model.safetensors
    tokenizer/       tokenizer.json, as the tokenizer's stage left it
"""

from __future__ import annotations

from typing import Any

from bloomery.core.units import human_count
from bloomery.models import ModelConfig, read_model, write_model
from bloomery.models.growth import ModelChange, difference
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.stages.trained import Trained
from bloomery.store import Workspace, write_bytes


class Convert(Trained):
    """Changes a trained model: fewer key-value heads, more layers, more width. Its artifact is as a training's, so that one can go on from it.

    Example:
        >>> grouped = Convert(base=base, change=GroupHeads(n_kv_heads=2))
        >>> Train(name="mended", init=Continue(base=grouped), tokenizer=tokenizer, sources=(Share(tokens=stories),), …)
    """

    base: Trained
    """The training, or another `Convert`, whose model is changed."""
    change: ModelChange
    """What is made of it: `GroupHeads`, `Deepen`, `Widen`, `Duplicate` or `Opened`."""

    def check(self) -> None:
        _ = self.architecture  # what the change refuses, it refuses when the stage is written down

    @property
    def architecture(self) -> ModelConfig | None:
        before = self.base.architecture
        return None if before is None else self.change.config_of(before)

    @property
    def vocabulary(self) -> TrainTokenizer | LoadTokenizer:
        return self.base.vocabulary

    @property
    def peak_rate(self) -> float | None:
        return self.base.peak_rate

    def estimate(self) -> str:
        before, after = self.base.architecture, self.architecture
        if before is None or after is None:
            return f"{self.change} of a model that is not read yet"
        return f"{human_count(before.n_params)} parameters become {human_count(after.n_params)}"

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        base, folder = inputs[self.base], workspace.path
        for file in ("model/config.json", "model/model.safetensors"):
            base.checked(file)
        config, model = read_model(base.path / "model")
        changed, new = self.change.apply(config, model)
        write_model(folder / "model", changed, new)
        write_bytes(folder / "tokenizer" / "tokenizer.json", base.checked("tokenizer/tokenizer.json").read_bytes())
        moved = difference(model, new)
        context.say(f"{self.reference}: {human_count(config.n_params)} parameters have become {human_count(changed.n_params)}; on random text "
                    f"logits moved by up to {moved:.2g}")  # fmt: skip
        return {"parameters": changed.n_params, "parameters_before": config.n_params, "difference": moved}
