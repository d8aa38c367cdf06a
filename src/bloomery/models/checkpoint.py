"""Our own folders of weights: `config.json` (the whole config as plain data) and `model.safetensors` (our parameter names)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from bloomery.core.config import Config, to_plain
from bloomery.core.errors import ArtifactError, ResourceError
from bloomery.mesh import Holding
from bloomery.models.families import config_from_plain
from bloomery.models.model import Model, ModelConfig
from bloomery.models.tensor_file import in_order, kinds_of, write_tensors
from bloomery.nn.init import Pour
from bloomery.store.files import atomic_file, read_json, write_json

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


def write_held_model(folder: Path, config: ModelConfig, holding: Holding, values: Mapping[str, Tensor] | None = None) -> None:
    """Writes a model that ranks share, tensor by tensor, so that no rank has it all in memory; the bytes are those of `write_model`.

    All ranks must ask; the first one writes.

    Args:
        folder: as in `write_model`.
        config: of the whole model; what is written is as its `stored` says.
        holding: its parameters, as this rank holds them.
        values: what this rank holds of what is to be written in the stead of some, by name: of their average, say.

    Raises:
        ResourceError: the first rank cannot write; raised on all of them.
    """
    stored = config.stored()
    with torch.device("meta"):
        kinds = kinds_of(list(stored.config.skeleton().named_parameters()))
    ranks, trouble = holding.mesh.world, ""
    names = in_order(kinds)
    wholes = wholes_of(config, holding, [source for name in names for source in stored.reads(name)], values)
    tensors = (stored.make(name, dict(islice(wholes, len(stored.reads(name))))) for name in names)
    if holding.mesh.leads:
        try:
            with atomic_file(folder / WEIGHTS) as file:
                write_tensors(file, kinds, tensors, {"format": "pt"})
            write_json(folder / CONFIG, whole_config(stored.config))
        except ResourceError as error:
            trouble = str(error)
    for _ in wholes:  # what is left, for the other ranks' sake
        pass
    if trouble := ranks.tell(trouble, 0):
        raise ResourceError(trouble)


def wholes_of(
    config: ModelConfig, holding: Holding, names: Sequence[str], values: Mapping[str, Tensor] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors of a model that ranks share, with their names, one after the other on the first rank; on the others, nothing of use.

    All ranks must go through all of them. The arguments are those of `write_held_model`.
    """
    with torch.device("meta"):
        kinds = kinds_of(list(config.skeleton().named_parameters()))
    mesh, held = holding.mesh, holding.parameters
    mine = [name in held and held[name].speaks and held[name].cut.index == 0 for name in names]
    speakers = [int(number) for number in mesh.world.total([mesh.rank * float(one) for one in mine])]
    for name, own, speaker in zip(names, mine, speakers, strict=True):
        whole = torch.empty(0, dtype=kinds[name].dtype)
        if name in held:
            whole = held[name].whole((values or {}).get(name, held[name].local.detach()))
        if own or mesh.leads:
            whole = mesh.world.hand(whole.cpu(), kinds[name].shape, speaker, 0)
        yield name, whole


def read_model(folder: Path) -> tuple[ModelConfig, Model]:
    """Reads what `write_model` wrote.

    Returns:
        the config, and the model on the CPU.

    Raises:
        ArtifactError: a file is missing or torn, or its tensors don't fit the config.
    """
    config = read_config(folder)
    model = config.blank()
    load_model(model, folder / WEIGHTS)
    return config, model


def read_config(folder: Path) -> ModelConfig:
    """The config that `write_model` wrote."""
    return config_from_plain(read_json(folder / CONFIG))


def pour_model(folder: Path, pour: Pour) -> None:
    """Tells the weights that `write_model` wrote, one by one; no more than one is in memory. The config says what must be there."""
    config, path = read_config(folder), folder / WEIGHTS
    with torch.device("meta"):
        wanted = {name: tuple(parameter.shape) for name, parameter in config.skeleton().named_parameters()}
    with safe_open(path, "pt") as file:
        check_names(wanted, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, path)  # noqa: SIM118 (it is no dict)
        for name in wanted:
            pour(name, file.get_tensor(name))


def save_model(model: Model, path: Path) -> None:
    """Writes the weights alone, atomically."""
    tensors = dict(model.named_parameters())
    kinds = kinds_of(list(tensors.items()))
    with atomic_file(path) as file:
        write_tensors(file, kinds, (tensors[name] for name in in_order(kinds)), {"format": "pt"})


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
    check_names({name: tuple(p.shape) for name, p in parameters.items()}, {name: tuple(t.shape) for name, t in state.items()}, path)
    for name, parameter in parameters.items():
        parameter.data = state[name].to(parameter.device)


def check_names(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raises `ArtifactError` for the first tensor of a file that a model has not, or has in another shape."""
    for name in [*(name for name in wanted if name not in found), *sorted(found.keys() - wanted.keys())]:
        where = "lacks the tensor" if name in wanted else "holds the unknown tensor"
        raise ArtifactError(f"{path} {where} {name!r}; it belongs to another model than its config.json describes")
    for name, shape in wanted.items():
        if shape != found[name]:
            shapes = f"{found[name]} in the file but {shape} by its config"
            raise ArtifactError(f"{path}: the tensor {name!r} is {shapes}; restore the config.json it was written with")


def whole_config(config: Config) -> dict[str, Any]:
    """A config as plain data with all its fields, defaults and derived ones too; `config_from_plain` reads it back."""

    def whole(value: Any, name: str) -> Any:
        if isinstance(value, Config):
            return whole_config(value)
        return [whole(one, name) for one in value] if isinstance(value, tuple | list) else to_plain(value, name)

    fields = {name: whole(getattr(config, name), name) for name in type(config).model_fields}
    return {"kind": config.kind(), "contract": config.contract} | fields
