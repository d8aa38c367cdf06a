"""What a family makes of the fields of the library's `config.json`, for the tests of families with experts."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import transformers

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import HubConfig

NEUTRAL = {
    "_name_or_path", "architectures", "attention_dropout", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id", "id2label",
    "initializer_range", "label2id", "model_type", "output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id",
    "pretraining_tp", "problem_type", "return_dict", "router_aux_loss_coef", "transformers_version", "use_cache",
}  # fmt: skip
"""Fields that change no logits: tokens, dropout and losses of training alone, precision, tasks."""


def library_config(config: HubConfig, **fields: Any) -> dict[str, Any]:
    """All fields of the library's config, its defaults where nothing is given."""
    return getattr(transformers, config.hub_architecture).config_class(**fields).to_dict()


def ignored(config: HubConfig, neutral: set[str]) -> list[str]:
    """Fields of the library's config that are neither read nor refused when they change."""
    plain = {name: value for name, value in config.to_hub().items() if name != "rope_scaling"}  # as version 5 writes it
    found, every = [], library_config(config, **plain)
    for name in sorted(every.keys() - NEUTRAL - neutral):
        with suppress(DataError, ConfigError):
            changed = type(config).from_hub(plain | {name: other(plain.get(name, every[name]))})
            found += [name] if changed == type(config).from_hub(plain) else []
    return found


def silent(config: HubConfig, **fields: Any) -> tuple[HubConfig, HubConfig]:
    """What we read from a `config.json` that gives nothing but the sizes that every family needs, and what from all that it stands for.

    Args:
        config: of the family.
        fields: what the latter has instead of the library's default.
    """
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    every = library_config(config, **fields)
    return type(config).from_hub({name: every[name] for name in sizes}), type(config).from_hub(every)


def other(value: Any) -> Any:
    """Some other value of a field."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        return value | {"rope_type": "other"}
    return "other" if isinstance(value, str) else (value or 0) + 2
