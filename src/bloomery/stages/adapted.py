"""`Adapted`: a training that goes on from an adapter that is there already."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors import safe_open
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.models import AdaptedConfig, ModelConfig, load_adapter
from bloomery.models.peft import CONFIG, WEIGHTS
from bloomery.nn.adapters import Adapter
from bloomery.nn.init import Pour
from bloomery.stages.init import Init, Scratch
from bloomery.stages.stage import Inputs
from bloomery.stages.trained import Trained, Tuning
from bloomery.store import Artifact, sha256_of
from bloomery.train.spreading import Fill


class AdapterFolder(Config):
    """An adapter in the files of the `peft` library, or in ours; it counts by its contents, not by where it lies."""

    path: Path
    """Holds `adapter_config.json` and `adapter_model.safetensors`."""

    @cached_property
    def contents(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        for name in (CONFIG, WEIGHTS):
            if not (self.path / name).is_file():
                raise self.refuse("path", f"holds no {name}; download {CONFIG} and {WEIGHTS} into it")
        return {name: sha256_of(self.path / name) for name in (CONFIG, WEIGHTS)}

    def identity(self, path: str = "") -> dict[str, Any]:
        return {"kind": self.kind(), "contents": self.contents}


class Adapted(Init):
    """A model with an adapter that was trained on it before. The adapter is trained further, unless Train.adapter adds another one; or all goes
    on from the weights that it comes to.

    Example:
        >>> Train(init=Adapted(adapter=low), …)                                                    # as low.then(…) has it
        >>> Train(init=Adapted(adapter=AdapterFolder(path="tuned"), init=Hub(path="llama")), …)    # made elsewhere
    """

    adapter: Trained | AdapterFolder
    """The training that has left it, or the folder that it is in."""
    init: Init | None = Field(default_factory=lambda known: _beneath(known["adapter"]))
    """The model that it was trained on; that of the training, or of a folder `Hub(path=…)` or `Continue(base=…)`."""
    goes_on: Literal["adapter", "weights"] = "adapter"
    """What is there to be trained: the adapter, on the model as it was; or the model, into whose weights the adapter is taken."""
    carry: Literal["weights", "optimizer"] = "weights"
    """What else is taken over, as `Continue` has it."""

    def check(self) -> None:
        if self.init is None:
            raise self.refuse("init", "must say which model the adapter is for, which a folder does not; give Hub(path=…) or Continue(base=…)")
        if isinstance(self.adapter, Trained) and self.init != _beneath(self.adapter):
            raise ConfigError(f"Adapted.init is not what {self.adapter.reference} trained its adapter on; leave it out")
        if isinstance(self.init, Scratch) and isinstance(self.adapter, AdapterFolder):
            raise self.refuse("init", "is fresh weights, for which nobody has trained an adapter; give Hub(path=…) or Continue(base=…)")
        if self.init.architecture is None:
            raise self.refuse("init", "is a model of which nothing is known before it is made; take Convert's base, or a Hub folder")
        if self.carry == "optimizer" and (isinstance(self.adapter, AdapterFolder) or self.goes_on == "weights"):
            raise self.refuse("carry", "asks for an optimiser's state of what goes on, and there is none; leave it out")
        tuned = self._tuned  # what the folder refuses, it refuses when it is written down
        if self.goes_on == "weights" and not tuned.adapter.merges:
            raise self.refuse("goes_on", f"has no weights to go on with that could take in a {tuned.adapter.kind()}; leave it out")

    @property
    def architecture(self) -> ModelConfig:
        return self._tuned if self.goes_on == "adapter" else self._tuned.stored().config

    @property
    def goes_on_from(self) -> Trained | None:
        return self.adapter if isinstance(self.adapter, Trained) else self._on.goes_on_from

    @property
    def carried(self) -> Trained | None:
        return self.adapter if self.carry == "optimizer" and isinstance(self.adapter, Trained) else None

    @property
    def tunes(self) -> tuple[Init, Adapter] | None:
        return (self._on, self._tuned.adapter) if self.goes_on == "adapter" else None

    @property
    def _on(self) -> Init:
        assert self.init is not None  # `check` refuses it
        return self.init

    @cached_property
    def _tuned(self) -> AdaptedConfig:
        """The model with the adapter."""
        base = self._on.architecture
        assert base is not None  # `check` refuses it
        return AdaptedConfig(base=base, adapter=_tuning(self.adapter).adapter if isinstance(self.adapter, Trained) else self._read(base)[0])

    def _read(self, base: ModelConfig) -> tuple[Adapter, dict[str, Tensor]]:
        """The adapter of a folder."""
        assert isinstance(self.adapter, AdapterFolder)
        _ = self.adapter.contents  # says what is missing in the words of the field
        return load_adapter(self.adapter.path, base)

    def load(self, inputs: Inputs, seed: int) -> tuple[ModelConfig, Fill]:
        base, beneath = self._on.load(inputs, _tuning(self.adapter).seed if isinstance(self.adapter, Trained) else seed)
        if isinstance(self.adapter, Trained):
            config = AdaptedConfig(base=base, adapter=_tuning(self.adapter).adapter)
            trained = left_by(inputs[self.adapter], config)
        else:
            adapter, trained = self._read(base)
            config = AdaptedConfig(base=base, adapter=adapter)
        fresh = config.filled(beneath, seed)

        def fill(pour: Pour) -> None:
            fresh(lambda name, numbers: pour(name, trained.get(name, numbers)))

        if self.goes_on == "adapter":
            return config, fill
        stored = config.stored()
        return stored.config, stored.filled(fill)


def left_by(artifact: Artifact, config: AdaptedConfig) -> dict[str, Tensor]:
    """What a training of an adapter has trained, by its names in the model with it, as it was trained.

    Args:
        artifact: of the training.
        config: of the model with the adapter.
    """
    if config.adapter.merges:  # the words of the library lose nothing but the name
        for file in (CONFIG, WEIGHTS):
            artifact.checked(f"adapter/{file}")
        read, weights = load_adapter(artifact.path / "adapter", config.base)
        return {name.replace(f".adapters.{read.name}.", f".adapters.{config.adapter.name}."): tensor for name, tensor in weights.items()}
    with safe_open(artifact.checked("model/model.safetensors"), "pt") as file:
        return {name: file.get_tensor(name) for name in config.trained}


def _tuning(training: Trained) -> Tuning:
    if training.tuning is None:
        raise ConfigError(f"Adapted.adapter={training.reference} has trained no adapter; take Continue(base=…)")
    return training.tuning


def _beneath(adapter: Trained | AdapterFolder) -> Init | None:
    """What an adapter was trained on; None where that is not known."""
    if isinstance(adapter, AdapterFolder):
        return None
    init = _tuning(adapter).init
    assert isinstance(init, Init)
    return init
