"""Where the weights of a training come from at step 0."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.models import EnsembleConfig, ModelConfig, pour_model, read_config
from bloomery.models.families import config_from_hub
from bloomery.models.hub import load_hub
from bloomery.nn.adapters import Adapter
from bloomery.objectives import Frozen
from bloomery.stages.stage import Inputs
from bloomery.stages.trained import Trained
from bloomery.store import read_json, sha256_of
from bloomery.train.spreading import Fill, fresh, pour_all


class Init(Config):
    """Where the weights come from at step 0."""

    @property
    def architecture(self) -> ModelConfig | None:
        """The model's sizes, as far as they are known before anything is run."""
        return None

    @property
    def goes_on_from(self) -> Trained | None:
        """The training whose weights they are; None where they are nobody's here."""
        return None

    @property
    def carried(self) -> Trained | None:
        """The training whose optimiser's state is taken over with them; None where none is."""
        return None

    @property
    def tunes(self) -> tuple[Init, Adapter] | None:
        """The adapter among them that is trained further, and where the model comes from that it is on; None where there is none."""
        return None

    def load(self, inputs: Inputs, seed: int) -> tuple[ModelConfig, Fill]:
        """The config, and what tells the weights one by one."""
        raise NotImplementedError


class Scratch(Init):
    """Fresh weights."""

    model: ModelConfig
    """What to build."""

    @property
    def architecture(self) -> ModelConfig | None:
        return self.model

    def load(self, inputs: Inputs, seed: int) -> tuple[ModelConfig, Fill]:
        return self.model, fresh(self.model, seed)


class Continue(Init):
    """The weights that another training left, or a conversion of them."""

    base: Trained
    """The training, or the `Convert`, to go on from."""
    carry: Literal["weights", "optimizer"] = "weights"
    """What else is taken over: with "optimizer", the optimiser's state of every parameter that the base trained, which must have left it
    (`keeps`); what it did not train starts anew, as all does with "weights"."""

    def check(self) -> None:
        if isinstance(self.base.architecture, EnsembleConfig):
            raise ConfigError(f"Continue.base={self.base.reference} is several models, which are not trained as one; go on from one of its "
                              "members, from a Soup of them, or let one learn from them with Distil(teacher=…)")  # fmt: skip

    @property
    def architecture(self) -> ModelConfig | None:
        return self.base.architecture

    @property
    def goes_on_from(self) -> Trained:
        return self.base

    @property
    def carried(self) -> Trained | None:
        return self.base if self.carry == "optimizer" else None

    def load(self, inputs: Inputs, seed: int) -> tuple[ModelConfig, Fill]:
        inputs[self.base].checked("model/model.safetensors")
        folder = inputs[self.base].path / "model"
        return read_config(folder), lambda pour: pour_model(folder, pour)


class Hub(Init, Frozen):
    """The weights of a Hugging Face folder; it counts by its contents, not by where it lies. A loss can look at it, too."""

    path: Path
    """Holds `config.json` and `*.safetensors`."""

    @cached_property
    def contents(self) -> dict[str, str]:
        """The SHA-256 of each file that is read."""
        files = sorted([*self.path.glob("*.safetensors*"), *self.path.glob("config.json")])
        if not files:
            raise self.refuse("path", "holds no config.json and no *.safetensors; download the model's files into it")
        return {file.name: sha256_of(file) for file in files}

    @cached_property
    def architecture(self) -> ModelConfig | None:
        return config_from_hub(read_json(self.path / "config.json"))

    def identity(self, path: str = "") -> dict[str, Any]:
        return {"kind": self.kind(), "contents": self.contents}

    def load(self, inputs: Inputs, seed: int) -> tuple[ModelConfig, Fill]:
        config, model = load_hub(self.path)
        return config, lambda pour: pour_all(model, pour)
