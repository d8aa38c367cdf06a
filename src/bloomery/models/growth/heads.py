"""Fewer key-value heads: multi-head attention made grouped-query or multi-query attention."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.growth.change import ModelChange, carry, fresh, parts_of, resized
from bloomery.models.growth.components import merge
from bloomery.models.model import ModelConfig
from bloomery.models.transformer import Transformer
from bloomery.nn.attention import Attention, GroupedHeadsConfig, divisors
from bloomery.nn.positions import NoPositionsConfig, PositionsConfig, RotaryConfig


class GroupHeads(ModelChange):
    """Fewer key-value heads, each made of a group of neighbouring ones; the query heads stay.

    The function moves, unless the heads of a group were alike; training on about 5 % of the tokens mends most of it. The cache shrinks.

    Source: Ainslie et al. (2023), arXiv 2305.13245, section 2.1; components: see `components.merge`.
    """

    keeps_function: ClassVar[bool] = False

    n_kv_heads: int = Field(gt=0)
    """Key-value heads of the new model: 1 makes it multi-query attention."""
    by: Literal["mean", "first", "components"] = "mean"
    """Whether a group becomes the mean of its keys and values; its first head, which loses the others; or the principal components of what its
    heads do, in groups of those that go together best (see `components.py`), which loses least."""

    def config_of(self, config: ModelConfig) -> ModelConfig:
        parts = parts_of(config, str(self))
        grouped = [mixer for mixer in parts.mixers if isinstance(mixer, GroupedHeadsConfig)]
        if not grouped:
            kinds = ", ".join(sorted({mixer.kind() for mixer in parts.mixers}))
            raise ConfigError(f"{self} finds no key-value heads in a model of {kinds}; take one with AttentionConfig")
        for mixer in grouped:
            if self.n_kv_heads >= mixer.n_kv_heads or mixer.n_kv_heads % self.n_kv_heads:
                fewer = ", ".join(str(n) for n in divisors(mixer.n_kv_heads)[:-1]) or "none"
                raise self.refuse("n_kv_heads", f"cannot be made of n_kv_heads={mixer.n_kv_heads} in equal groups; possible: {fewer}")
            if mixer.qk_norm is not None and mixer.qk_norm_over == "all":
                raise self.refuse("n_kv_heads", "has no rule for qk_norm_over='all', where heads are normed together; take another model")
            if self.by == "components" and (mixer.qk_norm is not None or not _may_turn(mixer.positions)):
                raise self.refuse("by", f"turns and reorders heads, which the qk_norm or the positions of {mixer} tell apart; take by='mean'")
        mixers = tuple(m.replace(n_kv_heads=self.n_kv_heads) if isinstance(m, GroupedHeadsConfig) else m for m in parts.mixers)
        return resized(config, parts.replace(mixers=mixers), {"n_kv_heads": self.n_kv_heads}, str(self))

    def weights_of(self, model: Transformer, config: ModelConfig) -> Transformer:
        new = fresh(config, config.init, 0)
        for name, module in new.named_children():
            if name != "blocks":
                carry(getattr(model, name), module)
        for ours, theirs in zip(new.blocks, model.blocks, strict=True):
            for name, part in ours.named_children():
                old = getattr(theirs, name)
                if isinstance(part, Attention):
                    self._group(old, part)
                else:
                    carry(old, part)
        return new

    @torch.no_grad()
    def _group(self, old: Attention, new: Attention) -> None:
        for name, part in new.named_children():
            if name != "qkv":
                carry(getattr(old, name), part)
        if self.by == "components":
            self._merge(old, new)
            return
        new.qkv.weight.copy_(self._pooled(old.qkv.weight, old, new))
        if new.qkv.bias is not None:
            new.qkv.bias.copy_(self._pooled(old.qkv.bias, old, new))

    def _merge(self, old: Attention, new: Attention) -> None:
        merged = merge(old, new.n_kv_heads)
        rows = torch.cat((merged.queries, merged.keys, merged.values)).flatten(0, 1).type_as(new.qkv.weight)
        new.qkv.weight.copy_(rows[:, : new.qkv.in_features])
        if new.qkv.bias is not None:
            new.qkv.bias.copy_(rows[:, -1])
        new.out.weight.copy_(merged.out.flatten(1))

    def _pooled(self, rows: Tensor, old: Attention, new: Attention) -> Tensor:
        """The rows of queries, keys and values with those of each group of keys and of values made one head's."""
        queries, keys, values = rows.unflatten(0, (-1, old.head_dim)).split((old.n_heads, old.n_kv_heads, old.n_kv_heads))
        groups = [kv.unflatten(0, (new.n_kv_heads, -1)) for kv in (keys, values)]
        pooled = [group.mean(1) if self.by == "mean" else group[:, 0] for group in groups]
        return torch.cat((queries, *pooled)).flatten(0, 1)


def _may_turn(positions: PositionsConfig) -> bool:
    """Whether all heads and all rotary pairs of a head know places in the same way, so that heads may change places and pairs be turned."""
    return isinstance(positions, NoPositionsConfig) or (isinstance(positions, RotaryConfig) and positions.share == 1.0)
