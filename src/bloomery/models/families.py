"""The model families by the names that checkpoints use: the one table through which plain data becomes a config."""

from __future__ import annotations

from typing import Any

from bloomery.core.config import Config
from bloomery.core.errors import ArtifactError
from bloomery.models.llama import LlamaConfig
from bloomery.models.model import ModelConfig
from bloomery.nn.init import FanInInit, NormalInit
from bloomery.nn.wired import WiredInit

FAMILIES: dict[str, type[ModelConfig]] = {"llama": LlamaConfig}
"""`model_type` of a hub folder → config class."""

PARTS: tuple[type[Config], ...] = (NormalInit, FanInInit, WiredInit)
"""Configs that occur as fields of model configs."""


def config_from_plain(plain: dict[str, Any]) -> ModelConfig:
    """The model config that `to_plain` or `whole_config` was given.

    Raises:
        ArtifactError: the kind is not one of `FAMILIES`, or was written under another contract.
        ConfigError: its fields cannot be.
    """
    config = _config(plain, {family.kind(): family for family in FAMILIES.values()})
    assert isinstance(config, ModelConfig)
    return config


def _config(plain: dict[str, Any], kinds: dict[str, type[Config]]) -> Config:
    kind, contract = plain.get("kind"), plain.get("contract", 1)
    if kind not in kinds:
        raise ArtifactError(f"a config says kind={kind!r}, which is none of {', '.join(kinds)}; was it written by a newer version?")
    if contract != kinds[kind].contract:
        raise ArtifactError(f"a {kind} was written under contract {contract}, and this version reads {kinds[kind].contract}; make it again")
    parts = {part.kind(): part for part in PARTS}
    fields = {k: _config(v, parts) if isinstance(v, dict) else v for k, v in plain.items() if k not in ("kind", "contract")}
    return kinds[kind](**fields)
