"""More width: a wider residual stream, more heads, wider feed-forward layers, with the same function at first."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.growth.change import ModelChange, carry, fresh, parts_of, resized
from bloomery.models.model import ModelConfig
from bloomery.models.transformer import Transformer, TransformerConfig
from bloomery.nn.attention import Attention, AttentionConfig
from bloomery.nn.block import Sandwich
from bloomery.nn.feedforward import FeedForward, FeedForwardConfig, GatedConfig, GatedFeedForward, PlainConfig
from bloomery.nn.head import TiedConfig, TiedHead, UntiedConfig, UntiedHead
from bloomery.nn.mixer import MixerConfig
from bloomery.nn.norms import CenteredRMSNorm, NoNormConfig, NormConfig, RMSNorm, RMSNormConfig
from bloomery.nn.positions import LearnedPlaces, LearnedPlacesConfig, NoPlacesConfig

Size = Annotated[int, Gt(0)]
FIXED_PARTS = {"transform": None, "n_distinct_layers": None}


class Widen(ModelChange):
    """A wider model that computes what the old one does until it is trained on.

    The stream's new features are 0 everywhere: whatever writes to it (embeddings, outputs of mixers and feed-forward layers) does not write
    there, and writes nothing of what new heads and new hidden features say. What reads is drawn afresh in its new columns, and new heads and
    hidden features are drawn afresh, so that gradients reach all of it within two steps. RMS norms divide by the mean square of D features of
    which d are not 0:

        w ← w·√(d/D),   eps ← eps·d/D,   d features → D

    Features per head stay as they are. Layer norms take the mean of all features, and are refused.

    Source: Chen et al. (2016), arXiv 1511.05641, for growing without changing the function; Gesmundo and Maile (2023), arXiv 2308.06103, for
    zeros instead of copies, with the factors of RMS norms.
    """

    keeps_function: ClassVar[bool] = True

    d_model: Size | None = None
    """Width of the residual stream; None leaves it."""
    n_heads: Size | None = None
    """Query heads; None leaves them."""
    n_kv_heads: Size | None = None
    """Key-value heads; None keeps as many query heads to each as there were, or, where that cannot be, as many as there were."""
    d_ff: Size | None = None
    """Width of the feed-forward layers; None leaves it."""
    seed: int = 0
    """Of the new parts' weights."""

    def check(self) -> None:
        if self.d_model is None and self.n_heads is None and self.d_ff is None and self.n_kv_heads is None:
            raise ConfigError("Widen says nothing to widen; give d_model, n_heads, n_kv_heads or d_ff")

    def config_of(self, config: ModelConfig) -> ModelConfig:
        parts = parts_of(config, str(self))
        wanted = self._parts(parts)
        sizes: dict[str, Any] = {"d_model": wanted.d_model}
        if isinstance(wanted.norm, RMSNormConfig):
            sizes["norm_eps"] = wanted.norm.eps
        for mixer in wanted.mixers:
            if isinstance(mixer, AttentionConfig):
                sizes |= {"n_heads": mixer.n_heads, "n_kv_heads": mixer.n_kv_heads, "head_dim": mixer.width(wanted.d_model)}
        for feed_forward in wanted.feed_forwards:
            if isinstance(feed_forward, GatedConfig | PlainConfig):
                sizes["d_ff"] = feed_forward.d_ff
        return resized(config, wanted, sizes, str(self))

    def _parts(self, parts: TransformerConfig) -> TransformerConfig:
        """The parts of the new model; whatever has no rule is refused."""
        d_model = self.d_model or parts.d_model
        if d_model < parts.d_model:
            raise self.refuse("d_model", f"is less than the d_model={parts.d_model} of the model; nothing is made narrower")
        for name, value in FIXED_PARTS.items():
            if getattr(parts, name) != value:
                raise ConfigError(f"{self} has no rule for {name}={getattr(parts, name)}; take a model without, or Deepen")
        changes: dict[str, Any] = {
            "d_model": d_model, "mixers": tuple(self._mixer(mixer, parts.d_model, d_model) for mixer in parts.mixers),
            "feed_forwards": tuple(self._feed_forward(feed_forward, d_model > parts.d_model) for feed_forward in parts.feed_forwards),
        }
        if d_model > parts.d_model:
            if not isinstance(parts.places, NoPlacesConfig | LearnedPlacesConfig):
                raise ConfigError(f"{self} has no rule for places={parts.places.kind()}, which fill the new features; take a model without")
            if not isinstance(parts.head, TiedConfig | UntiedConfig):
                raise ConfigError(f"{self} has no rule for head={parts.head.kind()}; take a model with TiedConfig or UntiedConfig")
            share = parts.d_model / d_model
            if "d_embedding" in parts.model_fields_set:
                changes["d_embedding"] = d_model  # without a transform, as wide as the stream
            for name in ("norm", "final_norm", "embedding_norm"):
                changes[name] = _thinned(getattr(parts, name), share, f"{self} has no rule for {name}")
        return parts.replace(**changes)

    def _mixer(self, mixer: MixerConfig, before: int, after: int) -> MixerConfig:
        if after == before and self.n_heads is None and self.n_kv_heads is None:
            return mixer
        if not isinstance(mixer, AttentionConfig):
            raise ConfigError(f"{self} has no rule for mixers={mixer.kind()}; take a model with AttentionConfig, or Deepen")
        n_heads, group = self.n_heads or mixer.n_heads, mixer.n_heads // mixer.n_kv_heads
        n_kv_heads = self.n_kv_heads or (n_heads // group if n_heads % group == 0 else mixer.n_kv_heads)
        for name, old, new in (("n_heads", mixer.n_heads, n_heads), ("n_kv_heads", mixer.n_kv_heads, n_kv_heads)):
            if new < old:
                raise self.refuse(name, f"makes {new} of the {old} that the model has; take at least as many, or GroupHeads for fewer")
        if n_heads % n_kv_heads or n_heads // n_kv_heads < group:
            raise self.refuse("n_heads", f"with n_kv_heads={n_kv_heads} cannot hold groups of {group} heads each; {n_kv_heads * group} would")
        if n_heads > mixer.n_heads:
            if mixer.positions.bias(mixer.n_heads) is not None:
                raise self.refuse("n_heads", f"would move the biases of {mixer.positions.kind()}, which go with the heads; leave n_heads")
            if mixer.qk_norm is not None and mixer.qk_norm_over == "all":
                raise self.refuse("n_heads", "has no rule for qk_norm_over='all', where heads are normed together; leave it out")
        width = mixer.width(before)
        follows = mixer.head_dim is None and after == width * n_heads
        return mixer.replace(n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=None if follows else width)

    def _feed_forward(self, feed_forward: FeedForwardConfig | None, widened: bool) -> FeedForwardConfig | None:
        if feed_forward is None or (self.d_ff is None and not widened):
            return feed_forward
        if not isinstance(feed_forward, GatedConfig | PlainConfig):
            raise ConfigError(f"{self} has no rule for feed_forwards={feed_forward.kind()}; take a model with GatedConfig, or Deepen")
        if self.d_ff is not None and self.d_ff < feed_forward.d_ff:
            raise self.refuse("d_ff", f"is less than the d_ff={feed_forward.d_ff} of the model; nothing is made narrower")
        return feed_forward.replace(d_ff=self.d_ff or feed_forward.d_ff)

    def weights_of(self, model: Transformer, config: ModelConfig) -> Transformer:
        new = fresh(config, config.init, self.seed)
        for name, module in new.named_children():
            if name != "blocks":
                _widen(getattr(model, name), module)
        for ours, theirs in zip(new.blocks, model.blocks, strict=True):
            for name, part in ours.named_children():
                _widen(getattr(theirs, name), part)
        return new


@torch.no_grad()
def _widen(old: Any, new: nn.Module) -> None:
    """Puts a part of the old model into a wider, freshly drawn one."""
    match new:
        case Attention():
            _widen_attention(old, new)
        case GatedFeedForward():
            width, wider = old.down.in_features, new.down.in_features
            rows = torch.cat((torch.arange(width), wider + torch.arange(width)))
            _place(old.gate_up, new.gate_up, rows, torch.arange(old.down.out_features))
            _place(old.down, new.down, torch.arange(old.down.out_features), torch.arange(width), silent=True)
        case FeedForward():
            stream, hidden = torch.arange(old.down.out_features), torch.arange(old.down.in_features)
            _place(old.up, new.up, hidden, stream)
            _place(old.down, new.down, stream, hidden, silent=True)
        case nn.Embedding():
            _place(old, new, torch.arange(old.num_embeddings), torch.arange(old.embedding_dim), silent=True)
        case LearnedPlaces():
            _widen(old.table, new.table)
        case UntiedHead():
            _place(old, new, torch.arange(len(old.weight)), torch.arange(old.weight.shape[1]))
        case TiedHead():
            if new.bias is not None:
                new.bias.copy_(old.bias)
        case Sandwich():
            _widen(old.before, new.before)
            _widen(old.after, new.after)
        case RMSNorm() if len(old.weight) < len(new.weight):
            one, share = float(isinstance(new, CenteredRMSNorm)), len(old.weight) / len(new.weight)
            new.weight[: len(old.weight)] = (one + old.weight) * sqrt(share) - one
        case _:
            carry(old, new)


def _widen_attention(old: Attention, new: Attention) -> None:
    """The old heads keep their places within their groups; what other heads say goes nowhere."""
    group, larger = old.n_heads // old.n_kv_heads, new.n_heads // new.n_kv_heads
    heads = torch.tensor([h // group * larger + h % group for h in range(old.n_heads)])
    kv_heads = new.n_heads + torch.arange(old.n_kv_heads)
    width, stream = old.head_dim, torch.arange(old.out.out_features)
    rows = torch.cat((heads, kv_heads, kv_heads + new.n_kv_heads))
    _place(old.qkv, new.qkv, _features(rows, width), stream)
    _place(old.out, new.out, stream, _features(heads, width), silent=True)
    for name, part in new.named_children():
        if name not in ("qkv", "out"):
            carry(getattr(old, name), part)


def _features(heads: Tensor, width: int) -> Tensor:
    """The places of the features of heads."""
    return (heads[:, None] * width + torch.arange(width)).flatten()


def _place(old: Any, new: Any, rows: Tensor, columns: Tensor, silent: bool = False) -> None:
    """Puts a weight (and bias) into certain rows and columns of another; all else stays as it is drawn, or is 0 where it must be silent."""
    if silent:
        new.weight.zero_()
    new.weight[rows[:, None], columns] = old.weight
    if getattr(new, "bias", None) is not None:
        new.bias[rows] = old.bias


def _thinned(norm: NormConfig, share: float, refusal: str) -> NormConfig:
    """A norm of features of which only a share is not 0."""
    if isinstance(norm, NoNormConfig):
        return norm
    if not isinstance(norm, RMSNormConfig):
        raise ConfigError(f"{refusal}={norm}, which zeros among the features would move; take a model with RMSNormConfig, or Deepen")
    return norm.replace(eps=norm.eps * share)
