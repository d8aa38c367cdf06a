"""More layers: new ones that say nothing at first, or copies of the old ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models.growth.change import ModelChange, carry, fresh, parts_of, resized
from bloomery.models.model import ModelConfig
from bloomery.models.transformer import Transformer, TransformerConfig
from bloomery.nn.block import BranchNorm, ParallelNorm, Placement, PreNorm, SandwichNorm
from bloomery.nn.fixup import Fixup
from bloomery.nn.init import WeightInit
from bloomery.nn.linear import Use
from bloomery.nn.norms import CenteredRMSNorm, LayerNorm, RMSNorm

BRANCH_NORMS = ("mixer_norm", "ff_norm")
"""What blocks call the norms of their branches."""


class _Relayered(ModelChange):
    """Another number of layers, each new layer made of an old one or of none."""

    n_layers: int = Field(gt=0)
    """Layers of the new model."""

    def check_parts(self, parts: TransformerConfig) -> None:
        """Refuses parts for which there is no rule, via `self.refuse`."""
        if self.n_layers <= parts.n_layers:
            raise self.refuse("n_layers", f"is not more than the n_layers={parts.n_layers} of the model; {parts.n_layers + 1} would be")
        if parts.n_distinct_layers is not None:
            raise self.refuse("n_layers", f"cannot be had by a model that shares its n_distinct_layers={parts.n_distinct_layers}; "
                              "give its config more n_layers, which costs no parameters")  # fmt: skip

    def origins(self, parts: TransformerConfig) -> list[int | None]:
        """For each layer of the new model, the layer of the old one that it is made of; None for a fresh one."""
        raise NotImplementedError

    def config_of(self, config: ModelConfig) -> ModelConfig:
        parts = parts_of(config, str(self))
        self.check_parts(parts)
        new = resized(config, parts.replace(n_layers=self.n_layers), {"n_layers": self.n_layers}, str(self), by_layer=True)
        deeper = parts_of(new, str(self))
        for layer, origin in enumerate(self.origins(parts)):
            if origin is None:
                continue
            ours, theirs = ((p.mixer(i), p.feed_forward(i)) for p, i in ((deeper, layer), (parts, origin)))
            if ours != theirs:
                raise self.refuse("n_layers", f"makes layer {origin} layer {layer}, where the pattern of the model's layers has another kind; "
                                  f"add a multiple of {self.period(parts)} layers")  # fmt: skip
        return new

    def period(self, parts: TransformerConfig) -> int:
        """After how many layers their kinds repeat; all of them where they do not."""
        kinds = [(parts.mixer(i), parts.feed_forward(i)) for i in range(parts.n_layers)]
        return next(p for p in range(1, parts.n_layers + 1) if all(kind == kinds[i % p] for i, kind in enumerate(kinds)))

    def carry_over(self, old: Transformer, new: Transformer, origins: Sequence[int | None]) -> None:
        """Copies what the new model has of the old one."""
        for name, module in new.named_children():
            if name != "blocks":
                carry(getattr(old, name), module)
        for block, origin in zip(new.blocks, origins, strict=True):
            if origin is not None:
                carry(old.blocks[origin], block)


class Deepen(_Relayered):
    """More layers, the new ones without a voice at first, so that the function stays as it is.

    Fresh layers are drawn as the model's initialisation says, but for the last matrices of their branches (or, where a norm stands behind
    a branch, its factors), which start at 0: gradients reach these at once, and all others after a step.

    Source: Gong et al. (2019), "Efficient Training of BERT by Progressively Stacking" (ICML), for growing in depth; Wu et al. (2024), arXiv
    2401.02415, for new blocks among the old with outputs of 0. Departure: new blocks are drawn, not copied.
    """

    keeps_function: ClassVar[bool] = True

    where: Literal["spread", "top"] = "spread"
    """Where the new layers stand: evenly among the old ones, each group of them behind an old one (or a whole pattern of old ones, where
    layers alternate in kind); or behind the last."""
    seed: int = 0
    """Of the new layers' weights."""

    def check_parts(self, parts: TransformerConfig) -> None:
        super().check_parts(parts)
        _silencer(parts.placement, str(self))
        period = self.period(parts)
        if self.where == "spread" and (self.n_layers % period or parts.n_layers % period):
            raise self.refuse("where", f"breaks the pattern of {period} layers with n_layers={self.n_layers}; take where='top', or a multiple")

    def origins(self, parts: TransformerConfig) -> list[int | None]:
        origins: list[int | None] = [None] * self.n_layers
        period = self.period(parts)
        groups = (self.n_layers // period, parts.n_layers // period)
        for layer in range(parts.n_layers):
            group, within = divmod(layer, period)
            place = layer if self.where == "top" else -(-group * groups[0] // groups[1]) * period + within
            origins[place] = layer
        return origins

    def weights_of(self, model: Transformer, config: ModelConfig) -> Transformer:
        parts = parts_of(model.config, str(self))
        silence, origins = _silencer(parts.placement, str(self)), self.origins(parts)
        new = fresh(config, config.init if silence else SilentInit(inner=config.init), self.seed)
        self.carry_over(model, new, origins)
        for block, origin in zip(new.blocks, origins, strict=True):
            if origin is None and silence is not None:
                for name, norm in block.named_children():
                    if name in BRANCH_NORMS:
                        _mute(silence(norm), str(self))
        return new


class Duplicate(_Relayered):
    """More layers by taking the model twice: the lower part of one copy below the upper part of another, overlapping in the middle.

    It does not keep the function: training has to mend the seam. How far the logits move is measured and told.

    Source: Kim et al. (2023), arXiv 2312.15166, section 2 (depth up-scaling): 32 layers become 48, the lower 24 and the upper 24.
    """

    keeps_function: ClassVar[bool] = False

    def check_parts(self, parts: TransformerConfig) -> None:
        super().check_parts(parts)
        if self.n_layers > 2 * parts.n_layers:
            raise self.refuse("n_layers", f"is more than twice the n_layers={parts.n_layers} of the model; {2 * parts.n_layers} is the most")

    def origins(self, parts: TransformerConfig) -> list[int | None]:
        lower = -(-self.n_layers // 2)
        return [*range(lower), *range(parts.n_layers - (self.n_layers - lower), parts.n_layers)]

    def weights_of(self, model: Transformer, config: ModelConfig) -> Transformer:
        new = fresh(config, config.init, 0)
        self.carry_over(model, new, self.origins(parts_of(model.config, str(self))))
        return new


class SilentInit(WeightInit):
    """Another initialisation, but for the matrices that write to the residual stream, which start at 0."""

    inner: WeightInit
    """Of all other matrices."""

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        return 0.0 if use.residual else self.inner.std_of(use, fan_in, fan_out, n_layers)

    def embedding_std(self, d_model: int) -> float:
        return self.inner.embedding_std(d_model)

    def matrix_std(self, fan_in: int) -> float:
        return self.inner.matrix_std(fan_in)


def _silencer(placement: Placement, change: str) -> Callable[[Any], nn.Module] | None:
    """Branch's norm → the norm behind the branch, which silences it; None where its last matrix does; other placements are refused."""
    match placement:
        case PreNorm() | ParallelNorm() | Fixup():
            return None
        case BranchNorm():
            return lambda norm: norm
        case SandwichNorm():
            return lambda norm: norm.after
    raise ConfigError(f"{change} cannot keep the function of a model with placement={placement}, whose norms change the stream even where "
                      "a branch is silent; take Duplicate, which does not promise it, or widen instead")  # fmt: skip


@torch.no_grad()
def _mute(norm: nn.Module, change: str) -> None:
    """Lets a norm give 0, whatever it reads."""
    if not isinstance(norm, RMSNorm | LayerNorm):
        raise ConfigError(f"{change} has no rule for a {type(norm).__name__} behind a branch; take RMSNormConfig or LayerNormConfig there")
    norm.weight.fill_(-1.0 if isinstance(norm, CenteredRMSNorm) else 0.0)
    if isinstance(norm, LayerNorm) and norm.bias is not None:
        norm.bias.zero_()
