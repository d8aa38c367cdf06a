"""Folders as the Hugging Face hub lays them out: `config.json` beside safetensors in one file or in shards. Pickles are not read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError, NumericsError
from bloomery.models.families import FAMILIES, config_from_hub
from bloomery.models.model import ExportableConfig, HubTensor, Model
from bloomery.store.files import atomic_path, write_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
Written = Literal["fp32", "bf16", "fp16"]
"""What weights are written in."""
DTYPES: Mapping[Written, torch.dtype] = MappingProxyType({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16})
NO_TOKEN_IDS: Mapping[str, int] = MappingProxyType({})
OLD_ENDINGS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of checkpoints converted from the first BERT's
DERIVED = ("rotary_emb.inv_freq",)  # buffers of old checkpoints that follow from the config


def save_hub(
    model: Model, config: ExportableConfig, folder: Path, token_ids: Mapping[str, int] = NO_TOKEN_IDS, written: Written = "fp32",
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes weights and `config.json` so that `transformers` (4.57 or 5) reads the same model.

    The weights are `model.safetensors`, or, where they are larger than `max_shard_bytes`, shards with an index that is written last.

    Args:
        model: on any device.
        config: what the model was built from.
        folder: made if it isn't there.
        token_ids: for `config.json` as well, by their names there ("bos_token_id").
        written: what the weights are rounded to.
        max_shard_bytes: of one file; a tensor larger than that has a file of its own.

    Raises:
        ConfigError: the weights were made for other token ids.
        NumericsError: a weight is too large for fp16.
    """
    all_parts, dtype = config.hub_parts(), DTYPES[written]
    shards = _shards(all_parts, max_shard_bytes, dtype.itemsize)
    index: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        held = {name: all_parts[name] for name in names}
        state = {part.name: _rounded(part.name, tensor, dtype) for part, tensor in hub_tensors(model, held)}
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        with atomic_path(folder / file) as temporary:
            save_file(state, temporary, metadata={"format": "pt"})
        index |= dict.fromkeys(state, file)
    if len(shards) == 1:
        (folder / INDEX).unlink(missing_ok=True)
    else:
        total = dtype.itemsize * sum(prod(part.shape) for parts in all_parts.values() for part in parts)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": index})
    plain = config.to_hub() | {"dtype": str(dtype).removeprefix("torch.")}
    for name, token_id in token_ids.items():
        if plain.get(name, token_id) != token_id:
            raise ConfigError(f"the weights of this {config.kind()} were made for {name}={plain[name]}, and the tokenizer has {token_id}; "
                              "build the model for the tokenizer's")  # fmt: skip
    write_json(folder / CONFIG, plain | dict(token_ids))


def hub_tensors(model: Model, parts: Mapping[str, tuple[HubTensor, ...]]) -> Iterator[tuple[HubTensor, Tensor]]:
    """A model's weights as the hub has them, one by one, in float32 on the CPU.

    Args:
        model: on any device.
        parts: of its config's `hub_parts`, those that are wanted.
    """
    ours = dict(model.named_parameters())
    for name, theirs in parts.items():
        flat = ours[name].detach().float().cpu().flatten().split([prod(part.shape) for part in theirs])
        for part, tensor in zip(theirs, flat, strict=True):
            yield part, _theirs(tensor, part)


def take_hub_tensors(model: Model, parts: Mapping[str, tuple[HubTensor, ...]], read: Callable[[HubTensor], Tensor]) -> None:
    """Fills a model with what `hub_tensors` gives.

    Args:
        model: whose weights are written over.
        parts: of its config's `hub_parts`, those that are to be filled.
        read: a tensor as the hub has it.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, theirs in parts.items():
            flat = torch.cat([(read(part).mT if part.transposed else read(part)).flatten() for part in theirs])
            parameters[name].copy_(flat.view(parameters[name].shape))


def load_hub(folder: Path) -> tuple[ExportableConfig, Model]:
    """Reads a model of a family that we know.

    Args:
        folder: holds `config.json` and `model.safetensors`, or shards with `model.safetensors.index.json`.

    Returns:
        our config, and the model on the CPU in float32.

    Raises:
        DataError: a file is missing or is not what its name says, the config asks for what we don't have, or a tensor doesn't fit.
    """
    plain = _read_json(folder / CONFIG)
    model_type = plain.get("model_type")
    if model_type not in FAMILIES:
        raise DataError(f"{folder / CONFIG} has model_type={model_type!r}, which cannot be read; those that can are {', '.join(FAMILIES)}")
    config = config_from_hub(plain)
    model = config.build(seed=0)
    with ExitStack() as opened:
        stored = {_modern(name): (_open(opened, folder / file), name) for name, file in _files_by_tensor(folder).items()}
        prefix = config.hub_optional_prefix
        if not any(name.startswith(prefix) for name in stored):
            stored = {name if name in config.hub_copies() else prefix + name: tensor for name, tensor in stored.items()}
        _refuse_unknown(set(stored), config, folder)
        take_hub_tensors(model, config.hub_parts(), lambda part: _tensor(stored, part, folder))
    return config, model


def _shards(parts: Mapping[str, tuple[HubTensor, ...]], max_bytes: int, itemsize: int) -> list[list[str]]:
    """Our parameters in files of at most so many bytes, in order."""
    shards: list[list[str]] = []
    room = 0
    for name, tensors in parts.items():
        size = itemsize * sum(prod(tensor.shape) for tensor in tensors)
        if not shards or size > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _files_by_tensor(folder: Path) -> dict[str, str]:
    """Tensor name → name of the file in the folder that holds it."""
    if (folder / INDEX).exists():
        files = _read_json(folder / INDEX).get("weight_map", {})
        for file in set(files.values()):
            if Path(file).name != file or not (folder / file).exists():
                raise DataError(f"{folder / INDEX} names the shard {file!r}, which is not in the folder; download it too")
        return files
    if not (folder / WEIGHTS).exists():
        pickled = next(folder.glob("*.bin"), None)
        remedy = f"{pickled.name} is a pickle, which could run code: convert it to safetensors" if pickled else "download it too"
        raise DataError(f"{folder} holds neither {WEIGHTS} nor {INDEX}; {remedy}")
    with ExitStack() as opened:
        return dict.fromkeys(_open(opened, folder / WEIGHTS).keys(), WEIGHTS)


def _open(opened: ExitStack, path: Path) -> Any:
    try:
        return opened.enter_context(safe_open(path, framework="pt"))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a readable safetensors file ({error}); download it again") from None


def _modern(name: str) -> str:
    """The name that a tensor has in newer checkpoints."""
    return next((name.removesuffix(old) + new for old, new in OLD_ENDINGS.items() if name.endswith(old)), name)


def _tensor(stored: Mapping[str, tuple[Any, str]], part: HubTensor, folder: Path) -> Tensor:
    """That of a part; `stored` has, by name, the open file of each and the name that it has there."""
    if part.name not in stored:
        raise DataError(f"{folder} has no tensor {part.name!r}, which its config.json calls for; its files belong to different models")
    try:
        file, name = stored[part.name]
        tensor = file.get_tensor(name)
    except SafetensorError as error:
        raise DataError(f"{folder} has no readable tensor {part.name!r} ({error}); download its file again") from None
    if tuple(tensor.shape) != part.shape:
        shapes = f"has shape {tuple(tensor.shape)}, and its config.json calls for {part.shape}"
        raise DataError(f"{folder}: the tensor {part.name!r} {shapes}; its files belong to different models")
    return tensor.float()


def _rounded(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Raises `NumericsError` where a number that is finite would not be any more."""
    rounded = tensor.to(dtype)
    if not torch.equal(rounded.isfinite(), tensor.isfinite()):
        raise NumericsError(f"{name} has weights up to {float(tensor.abs().max()):.3g}, which {dtype} cannot hold; write bf16 or fp32")
    return rounded


def _theirs(flat: Tensor, part: HubTensor) -> Tensor:
    """Our numbers in the shape that the hub has them in."""
    if not part.transposed:
        return flat.view(part.shape).contiguous()
    *outer, rows, columns = part.shape
    return flat.view(*outer, columns, rows).mT.contiguous()


def _refuse_unknown(names: set[str], config: ExportableConfig, folder: Path) -> None:
    """Names the first tensor that would be left unread. A head beside a tied embedding is a copy of it, and may stay."""
    known = {part.name for parts in config.hub_parts().values() for part in parts} | config.hub_copies()
    for name in sorted(names - known):
        if not name.endswith(DERIVED):
            place = f"for which a {config.kind()} has no place"
            raise DataError(f"{folder} holds the tensor {name!r}, {place}; its files belong to different models")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; a hub folder has one beside its weights") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); download it again") from None
    if not isinstance(plain, dict):
        raise DataError(f"{path} holds a {type(plain).__name__} rather than named values; download it again")
    return plain
