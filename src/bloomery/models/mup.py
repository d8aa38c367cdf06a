"""A model under µP: its parts with the scales that the initialisation is made for."""

from __future__ import annotations

from bloomery.core.errors import ConfigError
from bloomery.models.model import ModelConfig
from bloomery.models.transformer import NamedConfig, TransformerConfig
from bloomery.nn.attention import GroupedHeadsConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.mup import MuPInit


def mup(model: ModelConfig, init: MuPInit) -> TransformerConfig:
    """The same architecture under µP, as a member of the open family.

    Example:
        >>> init = MuPInit(base_width=256, base_head_dim=64)
        >>> wide = mup(LlamaConfig(vocab_size=32_000, d_model=2048, n_layers=16, n_heads=32), init)   # trained with the rates found at 256

    Args:
        model: at any width; a named family is taken by its parts, since its names on the hub have no place for the scales.
        init: with the width whose rates it is to be trained with.

    Raises:
        ConfigError: it has parts for which µP has no rule.
    """
    parts = model.transformer if isinstance(model, NamedConfig) else model
    if not isinstance(parts, TransformerConfig):
        raise ConfigError(f"mup has no rule for a {model.kind()}; give a TransformerConfig or a family that is made of one")
    mixers = tuple(
        mixer.replace(scale=init.score_scale(mixer.width(parts.d_model))) if isinstance(mixer, GroupedHeadsConfig) else mixer
        for mixer in parts.mixers
    )
    head = parts.head
    if isinstance(head, TiedConfig | UntiedConfig):
        head = head.replace(scale=init.head_scale(parts.d_model))
    return parts.replace(mixers=mixers, head=head, init=init)
