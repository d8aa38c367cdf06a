"""The model families by the names that checkpoints use: the one table through which plain data becomes a config."""

from __future__ import annotations

from typing import Any

from bloomery.core.config import Config
from bloomery.core.errors import ArtifactError
from bloomery.models.adapted import AdaptedConfig
from bloomery.models.agent import AgentConfig
from bloomery.models.albert import AlbertConfig
from bloomery.models.bamba import BambaConfig
from bloomery.models.bert import BertConfig
from bloomery.models.deberta import DebertaConfig
from bloomery.models.deepseek import DeepseekV3Config
from bloomery.models.electra import ElectraConfig, ElectraPairConfig
from bloomery.models.encoder_decoder import EncoderDecoderConfig
from bloomery.models.ensemble import EnsembleConfig
from bloomery.models.gemma import Gemma2Config, Gemma3Config, GemmaConfig
from bloomery.models.gpt2 import Gpt2Config
from bloomery.models.llama import LlamaConfig
from bloomery.models.mamba2 import Mamba2ModelConfig
from bloomery.models.mistral import MistralConfig
from bloomery.models.mixtral import MixtralConfig
from bloomery.models.model import ExportableConfig, HubConfig, ModelConfig
from bloomery.models.olmo2 import Olmo2Config
from bloomery.models.olmoe import OlmoeConfig
from bloomery.models.qwen3 import Qwen3Config
from bloomery.models.roberta import RobertaConfig
from bloomery.models.t5 import T5Config
from bloomery.models.tasks import TaskConfig, with_heads
from bloomery.models.transformer import TransformerConfig
from bloomery.models.transformer2017 import Transformer2017Config
from bloomery.nn.part import Part

FAMILIES: dict[str, type[HubConfig]] = {family.hub_type: family for family in (
    Gpt2Config, LlamaConfig, MistralConfig, Qwen3Config, Olmo2Config, GemmaConfig, Gemma2Config, Gemma3Config,
    MixtralConfig, OlmoeConfig, DeepseekV3Config, T5Config, BertConfig, RobertaConfig, AlbertConfig, ElectraConfig, DebertaConfig,
    Mamba2ModelConfig, BambaConfig,
)}  # fmt: skip
"""`model_type` of a hub folder → config class."""


def config_from_hub(plain: dict[str, Any]) -> ExportableConfig:
    """The model that a hub folder's `config.json` describes, heads for tasks included; raises `DataError` naming whatever we don't support."""
    return with_heads(FAMILIES[plain["model_type"]].from_hub(plain), plain)


def config_from_plain(plain: dict[str, Any]) -> ModelConfig:
    """The model config that `to_plain` or `whole_config` was given.

    Raises:
        ArtifactError: the kind is not one that we have, or was written under another contract.
        ConfigError: its fields cannot be.
    """
    models = {family.kind(): family for family in (
        TransformerConfig, EncoderDecoderConfig, Transformer2017Config, TaskConfig, ElectraPairConfig, AdaptedConfig, EnsembleConfig,
        AgentConfig, *FAMILIES.values(),
    )}  # fmt: skip
    if (kind := plain.get("kind")) not in models:
        raise ArtifactError(f"a config says kind={kind!r}, which is none of {', '.join(models)}; was it written by a newer version?")
    config = _value(plain, models | _parts())
    assert isinstance(config, ModelConfig)
    return config


def part_from_plain(plain: dict[str, Any]) -> Part:
    """A part of a model that `whole_config` was given; raises as `config_from_plain` does."""
    part = _value(plain, _parts())
    assert isinstance(part, Part)
    return part


def _parts() -> dict[str, type[Config]]:
    return {part.kind(): part for part in _below(Part)}


def _below(cls: type[Config]) -> list[type[Config]]:
    return [found for child in cls.__subclasses__() for found in (child, *_below(child))]


def _value(plain: Any, kinds: dict[str, type[Config]]) -> Any:
    if isinstance(plain, list):
        return tuple(_value(one, kinds) for one in plain)
    if not isinstance(plain, dict):
        return plain
    kind, contract = plain.get("kind"), plain.get("contract", 1)
    if kind not in kinds:
        raise ArtifactError(f"a config has a part of kind={kind!r}, which this version does not know; was it written by a newer one?")
    if contract != kinds[kind].contract:
        raise ArtifactError(f"a {kind} was written under contract {contract}, and this version reads {kinds[kind].contract}; make it again")
    return kinds[kind](**{name: _value(value, kinds) for name, value in plain.items() if name not in ("kind", "contract")})
