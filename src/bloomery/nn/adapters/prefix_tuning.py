"""`PrefixTuning`: keys and values that all tokens of all layers see, and nobody wrote."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.adapter import Adapter, added
from bloomery.nn.adapters.prompts import reader_of
from bloomery.nn.adapters.shells import Added
from bloomery.nn.attention import Attention
from bloomery.nn.cache import PlacedCache
from bloomery.nn.init import Draw
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.linear import Linear, Use


class PrefixTuning(Adapter):
    """Attention to keys [K; W_k·x] and values [V; W_v·x], with a K and a V of n_tokens places for each layer, which every document sees. They
    are not turned by their positions; the document's own begin behind them.

    Source: Li and Liang (2021), arXiv 2101.00190, section 4; with `projection` as in its section 4.3.
    """

    starts_at_base: ClassVar[bool] = False

    n_tokens: Annotated[int, Gt(0)] = 20
    """Places of the prefix."""
    projection: Annotated[int, Gt(0)] | None = None
    """Width of the hidden layer of a network that makes them of n_tokens vectors; None trains them themselves."""

    @property
    def n_virtual(self) -> int:
        return self.n_tokens

    def add(self, model: nn.Module) -> None:
        reader = reader_of(model, self)
        if any(isinstance(module, Prefix) for module in added(model)):
            raise ConfigError("the model has a prefix already; take one")
        mixers = [block.mixer for block in reader.blocks]
        for mixer in mixers:
            if type(mixer) is not Attention or mixer.bias is not None:
                raise ConfigError(f"PrefixTuning is for attention to all that came before, without a bias for distances, and the model has "
                                  f"{type(mixer).__name__}; take PromptTuning")  # fmt: skip
        if len({(mixer.n_kv_heads, mixer.head_dim) for mixer in mixers}) > 1 or len(set(map(id, mixers))) < len(mixers):
            raise ConfigError("PrefixTuning is for layers that are alike and do not share weights; take PromptTuning")
        prefix = Prefix(self.name, self.n_tokens, len(mixers), mixers[0].n_kv_heads, mixers[0].head_dim, self.projection)
        if not hasattr(reader, "adapters"):
            reader.adapters = nn.ModuleDict()
        reader.adapters[self.name] = prefix
        reader.hidden = partial(read_behind, reader.hidden, prefix)
        for layer, mixer in enumerate(mixers):
            mixer.whole = partial(with_prefix, mixer.whole, mixer, prefix, layer)
            mixer.new_cache = partial(filled_cache, mixer.new_cache, prefix, layer)


class Prefix(Added):
    """See `PrefixTuning`. Parameters: weight, (n_tokens, layers · 2 · kv_heads · head_dim); or, with a projection, weight,
    (n_tokens, kv_heads · head_dim), and into.{weight, bias}, out.{weight, bias}."""

    def __init__(self, by: str, n_tokens: int, layers: int, n_kv_heads: int, head_dim: int, projection: int | None) -> None:
        super().__init__(by)
        self.n_tokens, self.heads = n_tokens, (n_kv_heads, head_dim)
        width = n_kv_heads * head_dim
        self.weight = nn.Parameter(torch.empty(n_tokens, 2 * layers * width if projection is None else width))
        self.into = nn.Identity() if projection is None else Linear(width, projection, Use.OTHER, bias=True)
        self.out = nn.Identity() if projection is None else Linear(projection, 2 * layers * width, Use.OTHER, bias=True)

    def initialise(self, draw: Draw) -> None:
        """The vectors are normal, a network uniform."""
        draw.normal(self.weight, 1.0)
        for linear in (self.into, self.out):
            for parameter in linear.parameters():
                bound = 1 / sqrt(linear.in_features)  # type: ignore[arg-type]
                draw.copy(parameter, draw.uniform(parameter, -bound, bound))

    def everything(self) -> Float[Tensor, "n all"]:
        """Keys and values of all layers."""
        return self.weight if isinstance(self.out, nn.Identity) else self.out(torch.tanh(self.into(self.weight)))

    def of(self, layer: int) -> tuple[Float[Tensor, "n kv_heads head_dim"], Float[Tensor, "n kv_heads head_dim"]]:
        """Keys and values of a layer."""
        both = self.everything().view(self.n_tokens, -1, *self.heads)  # (n, layers · 2, kv_heads, head_dim)
        return both[:, 2 * layer], both[:, 2 * layer + 1]


def read_behind(hidden: Callable[..., Tensor], prefix: Prefix, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, *rest: Any) -> Tensor:
    """A model's `hidden`, where the places of documents begin behind the prefix."""
    if not prefix.active:
        return hidden(tokens, layout, *rest)
    moved = SequenceLayout(layout.positions + prefix.n_tokens, layout.segments, layout.causal, layout.prefix, layout.parts, layout.whole)
    return hidden(tokens, moved, *rest)


def with_prefix(
    whole: Callable[..., Tensor], attention: Attention, prefix: Prefix, layer: int, queries: Tensor, keys: Tensor, values: Tensor,
    layout: SequenceLayout,
) -> Tensor:
    """An attention's `whole`, to the prefix as well."""
    if not prefix.active:
        return whole(queries, keys, values, layout)
    more, view, n = prefix.of(layer), layout.view, prefix.n_tokens
    keys, values = (
        torch.cat((ours.to(x.dtype).expand(len(x), -1, -1, -1), x), dim=1) for ours, x in zip(more, (keys, values), strict=True)
    )
    before = torch.arange(-n, 0, device=keys.device).expand(len(view.keys), -1)
    seen = view.seen
    mask = torch.cat((seen.new_ones(*seen.shape[:3], n), seen), dim=-1)
    return attention.mix(queries, keys, values, View(view.queries, torch.cat((before, view.keys), dim=1), mask, view.causal))


@torch.no_grad()
def filled_cache(
    new_cache: Callable[..., PlacedCache], prefix: Prefix, layer: int, batch: int, capacity: int, dtype: torch.dtype, device: torch.device,
) -> PlacedCache:  # fmt: skip
    """A cache that has the prefix in its first slots."""
    if not prefix.active:
        return new_cache(batch, capacity, dtype, device)
    cache = new_cache(batch, capacity + prefix.n_tokens, dtype, device)
    for slots, vectors in zip(cache.slots, prefix.of(layer), strict=True):
        slots.begin(batch, vectors)
    return cache
