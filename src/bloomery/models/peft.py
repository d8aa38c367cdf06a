"""Adapters in files as the `peft` library lays them out: `adapter_config.json` and `adapter_model.safetensors`, both ways.

What that library has no place for (another architecture, another adapter, virtual tokens between words) goes into the same two files under
our own names, and its `adapter_config.json` says `"peft_type": "BLOOMERY"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.models.adapted import AdaptedConfig
from bloomery.models.checkpoint import whole_config
from bloomery.models.families import part_from_plain
from bloomery.models.model import ExportableConfig, Model, ModelConfig
from bloomery.models.peft_lora import lora_from_peft, lora_to_peft
from bloomery.models.peft_prompts import KINDS, prompt_from_peft, prompt_to_peft
from bloomery.nn.adapters import Adapter, LoRA
from bloomery.store.files import atomic_path, read_json, write_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
OURS = "BLOOMERY"


def save_adapter(folder: Path, config: AdaptedConfig, weights: Mapping[str, Tensor]) -> None:
    """Writes an adapter alone.

    Args:
        folder: made if it isn't there.
        config: of the model with it.
        weights: of the parameters that are trained, by their names in that model, whole.
    """
    try:
        plain, tensors = in_their_words(config, weights)
    except ConfigError:
        plain, tensors = {"peft_type": OURS, "adapter": whole_config(config.adapter)}, dict(weights)
    _write(folder, plain, tensors)


def save_for_peft(folder: Path, config: AdaptedConfig, weights: Mapping[str, Tensor]) -> None:
    """Writes an adapter alone, as the library reads it; the arguments are those of `save_adapter`.

    Raises:
        ConfigError: the library has no place for it.
    """
    _write(folder, *in_their_words(config, weights))


def _write(folder: Path, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata={"format": "pt"})
    write_json(folder / CONFIG, dict(plain))


def in_their_words(config: AdaptedConfig, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors as the library has them; raises `ConfigError` where it has no words for them."""
    base, adapter = config.base, config.adapter
    if not isinstance(base, ExportableConfig):
        raise ConfigError(f"the hub has no {base.kind()}")
    return lora_to_peft(base, adapter, weights) if isinstance(adapter, LoRA) else prompt_to_peft(base, adapter, weights)


def load_adapter(folder: Path, base: ModelConfig) -> tuple[Adapter, dict[str, Tensor]]:
    """Reads an adapter for a model, of ours or of the `peft` library.

    Args:
        folder: holds the two files.
        base: of the model that it is for.

    Returns:
        The adapter, and the parameters that are trained with it by their names in the adapted model; `AdaptedConfig` has them so.

    Raises:
        DataError: a file is missing or is not what its name says, or it asks for what we don't have, or is for another model.
    """
    try:
        plain, tensors = read_json(folder / CONFIG), load_file(folder / WEIGHTS)
    except (ArtifactError, OSError, SafetensorError) as error:
        raise DataError(f"{folder} has no readable {CONFIG} and {WEIGHTS} ({error}); download both") from None
    if plain.get("peft_type") == OURS:
        adapter, weights = part_from_plain(plain["adapter"]), tensors
        assert isinstance(adapter, Adapter)
    elif plain.get("peft_type") == "LORA":
        adapter, weights = lora_from_peft(base, plain, tensors)
    elif plain.get("peft_type") in KINDS:
        adapter, weights = prompt_from_peft(base, plain, tensors)
    else:
        raise DataError(f"{folder / CONFIG} has peft_type={plain.get('peft_type')!r}, which cannot be read; LORA, {', '.join(KINDS)} can")
    with torch.device("meta"):
        wanted = {name: tuple(p.shape) for name, p in adapter.attach(base.skeleton()).items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wrong := [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]:
        name = min(wrong)
        raise DataError(f"{folder} has {name} as {found.get(name)}, and the model wants {wanted.get(name)}; it is for another model")
    return adapter, weights


def attach_adapter(model: Model, folder: Path) -> Adapter:
    """Puts an adapter that `load_adapter` reads onto a model, and returns it."""
    adapter, weights = load_adapter(folder, model.config)
    parameters: dict[str, Any] = adapter.attach(model)
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
    model.config = AdaptedConfig(base=model.config, adapter=adapter)
    return adapter
