"""Our own folders of weights: `config.json` (the whole config as plain data) and `model.safetensors` (our parameter names)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.config import Config, to_plain
from bloomery.core.errors import ArtifactError
from bloomery.models.families import config_from_plain
from bloomery.models.model import Model, ModelConfig
from bloomery.store.files import atomic_path, read_json, write_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def write_model(folder: Path, config: ModelConfig, model: Model) -> None:
    """Writes a model's config and weights, each atomically, the weights first.

    Args:
        folder: made if it isn't there.
        config: what `model` was built from; every field is written, so that later defaults change nothing.
        model: on any device, in any precision.
    """
    save_model(model, folder / WEIGHTS)
    write_json(folder / CONFIG, whole_config(config))


def read_model(folder: Path) -> tuple[ModelConfig, Model]:
    """Reads what `write_model` wrote.

    Returns:
        the config, and the model on the CPU.

    Raises:
        ArtifactError: a file is missing or torn, or its tensors don't fit the config.
    """
    config = config_from_plain(read_json(folder / CONFIG))
    model = config.build(seed=0)
    load_model(model, folder / WEIGHTS)
    return config, model


def save_model(model: Model, path: Path) -> None:
    """Writes the weights alone, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.named_parameters()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})


def load_model(model: Model, path: Path) -> None:
    """Reads weights into a model, in the precision of the file; raises `ArtifactError` where they don't fit."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it") from None
    except SafetensorError as error:
        raise ArtifactError(f"{path} is not a readable safetensors file ({error}); delete its folder and run again") from None
    fill(model, state, path)


def fill(model: Model, state: Mapping[str, Tensor], path: Path) -> None:
    """Copies tensors by name into a model; the names and shapes must be exactly the model's."""
    parameters = dict(model.named_parameters())
    for name in [*(name for name in parameters if name not in state), *sorted(state.keys() - parameters.keys())]:
        where = "lacks the tensor" if name in parameters else "holds the unknown tensor"
        raise ArtifactError(f"{path} {where} {name!r}; it belongs to another model than its config.json describes")
    for name, parameter in parameters.items():
        if parameter.shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)} in the file but {tuple(parameter.shape)} by its config"
            raise ArtifactError(f"{path}: the tensor {name!r} is {shapes}; restore the config.json it was written with")
        parameter.data = state[name].to(parameter.device)


def whole_config(config: Config) -> dict[str, Any]:
    """A config as plain data with all its fields, defaults and derived ones too; `config_from_plain` reads it back."""

    def whole(value: Any, name: str) -> Any:
        if isinstance(value, Config):
            return whole_config(value)
        return [whole(one, name) for one in value] if isinstance(value, tuple | list) else to_plain(value, name)

    fields = {name: whole(getattr(config, name), name) for name in type(config).model_fields}
    return {"kind": config.kind(), "contract": config.contract} | fields
