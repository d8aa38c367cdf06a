"""Attention to keys that fall into the same bucket of a hash: Reformer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bloomery.core.rng import numpy_rng
from bloomery.nn.approximate import Approximate
from bloomery.nn.attention import HeadsConfig
from bloomery.nn.cache import Cache, PlacedCache
from bloomery.nn.documents import each_document
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.linear import Linear, Use
from bloomery.nn.local import Chunks
from bloomery.nn.mixer import SequenceMixer
from bloomery.nn.part import Shared

LONELY = -1e5  # score of a token with itself: it counts where there is nothing else
SHORTEST_CHUNK = 32


class HashedAttentionConfig(HeadsConfig):
    """See `HashedAttention`."""

    n_buckets: Annotated[int, Gt(0)] = 32
    """Buckets of a hash; 1 has all tokens in one."""
    n_rounds: Annotated[int, Gt(0)] = 4
    """Hashes; a token sees what any of them brings together."""
    window: Annotated[int, Gt(0)] = 64
    """Within a bucket, a token sees those less than so many of the bucket's tokens away."""
    seed: int = 0
    """Of the hashes."""

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        super().check_model(d_model, max_seq_len)
        if self.positions.bias(self.n_heads) is not None:
            raise self.refuse("positions", "adds a number to the scores, which the hashes know nothing of; RotaryConfig() would do")

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> HashedAttention:
        return HashedAttention(d_model, self, self.rope(d_model, max_seq_len, shared))

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        width = self.n_heads * self.width(d_model)
        seen = min(seq_len / 2 if causal else seq_len, self.window if causal else 2 * self.window)
        return 6.0 * d_model * width + width * self.n_rounds * (4.0 * seen + 2 * -(-self.n_buckets // 2))


class HashedAttention(SequenceMixer, Approximate):
    """Softmax attention of each token to those whose vectors point nearly the same way, found by hashing (locality-sensitive hashing).

        k = q / |q|;   bucket = argmax (k·R, −k·R) with a random R;   y = W_out · concat_h softmax(q·kᵀ over what is seen) · v

    Queries and keys are one projection. A token sees, in each round, those of its own bucket that are less than `window` of the bucket's
    tokens away from it; what several rounds find counts once. A token sees itself only where it sees nothing else. Sorted by bucket, that
    is attention under a window with buckets for segments: work and memory grow with time · window · n_rounds, and causality holds to the
    letter. With one bucket and a window as long as the document it is softmax attention over all.

    Args:
        d_model: width of input and output.
        config: what it is made of.
        rope: turns queries, and so the keys, before they are hashed.

    Source: Kitaev et al. (2020), arXiv 2001.04451, section 2. Departures: a window counted within the bucket, where the paper cuts the
    sorted order into chunks, whose borders would depend on later tokens; the hashes are drawn once, so that the same weights give the same
    numbers.
    """

    def __init__(self, d_model: int, config: HashedAttentionConfig, rope: nn.Module) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.window = config.n_heads, config.width(d_model), config.window
        width = self.n_heads * self.head_dim
        self.qv = Linear(d_model, (width, width), (Use.QUERY, Use.VALUE), config.qkv_bias)
        self.out = Linear(width, d_model, Use.MIXER_OUT, config.out_bias)
        self.rope, self.hashes = rope, Hashes(config, self.head_dim)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        queries, keys, values = self.heads(x, layout)
        if cache is None:
            mixed = each_document(partial(self.sorted, causal=layout.causal), layout, queries, keys, values)
        else:
            assert isinstance(cache, PlacedCache)
            mixed = self.looked_up(queries, keys, *cache.write(layout, keys, values))
        return self.out(mixed.flatten(2))

    def heads(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, time, n_heads, head_dim) each."""
        queries, values = self.qv(x).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=2)
        queries = self.rope(queries, layout.positions)
        return queries, F.normalize(queries, dim=-1), values

    def exact(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        view = layout.view
        return self.out(attend_to_others(*self.heads(x, layout), view.seen, view).flatten(2))

    def sorted(
        self, queries: Float[Tensor, "documents time heads head_dim"], keys: Float[Tensor, "documents time heads head_dim"],
        values: Float[Tensor, "documents time heads head_dim"], lengths: Int[Tensor, " documents"], causal: bool,
    ) -> Float[Tensor, "documents time heads head_dim"]:
        """Whole documents: for each head and round sorted by bucket, mixed chunk by chunk, and put back into their order."""
        time, rounds = queries.shape[1], self.hashes.n_rounds
        buckets = self.hashes(keys).permute(0, 2, 3, 1).flatten(0, 1)  # (documents · heads, rounds, time)
        behind = torch.arange(time, device=lengths.device) >= lengths.repeat_interleave(self.n_heads)[:, None]
        buckets = buckets.masked_fill(behind[:, None], self.hashes.n_buckets)  # what fills a document up has a bucket of its own
        order = buckets.sort(dim=-1, stable=True).indices  # place in the sorted row → token
        place = order.argsort(dim=-1)  # token → place in the sorted row
        row = torch.arange(len(order), device=order.device)[:, None, None]

        def sort(x: Tensor) -> Tensor:
            """(documents · heads, time, …) → (documents · heads · rounds, time, …)."""
            return x[row, order].flatten(0, 1)

        def put_back(x: Tensor) -> Tensor:
            """(documents · heads · rounds, time, …) → (documents · heads, rounds, time, …)."""
            return x.unflatten(0, (-1, rounds))[row, torch.arange(rounds, device=order.device)[:, None], place]

        # a token is within the window of another in some round if its code there is: one bucket, and near each other in it
        codes = sort((buckets * (time + self.window) + place).mT)  # (documents · heads · rounds, time, rounds)
        chunks = Chunks(max(self.window, SHORTEST_CHUNK), self.window - 1, 0 if causal else self.window - 1)
        view = chunks.view(buckets.gather(-1, order).flatten(0, 1), self.window, causal)
        queries, keys, values = (sort(x.transpose(1, 2).flatten(0, 1)) for x in (queries, keys, values))
        scores = scores_of_others(chunks.own(queries), chunks.reach(keys), view.distances[0])  # (chunks, size, span)
        found = torch.zeros_like(scores)  # in how many rounds
        for mine, theirs in zip(chunks.own(codes).unbind(-1), chunks.reach(codes).unbind(-1), strict=True):
            found += (mine[:, :, None] - theirs[:, None, :]).abs() < self.window
        scores = (scores - found.clamp(min=1).log()).masked_fill(~view.seen[:, 0], -torch.inf)
        total = scores.logsumexp(-1, keepdim=True)
        mixed = (scores - total).exp().type_as(values) @ chunks.reach(values)
        mixed, total = (put_back(chunks.together(x, len(queries), time)) for x in (mixed, total))
        mixed = (total.softmax(1).type_as(mixed) * mixed).sum(1)  # (documents · heads, time, head_dim)
        return mixed.unflatten(0, (-1, self.n_heads)).transpose(1, 2)

    def looked_up(
        self, queries: Float[Tensor, "batch time heads head_dim"], new_keys: Float[Tensor, "batch time heads head_dim"],
        keys: Float[Tensor, "batch past heads head_dim"], values: Float[Tensor, "batch past heads head_dim"], view: View,
    ) -> Float[Tensor, "batch time heads head_dim"]:
        """New tokens of documents whose past is kept: by a mask over all keys."""
        mine, theirs = (self.hashes(x).permute(0, 2, 3, 1) for x in (new_keys, keys))  # (batch, heads, rounds, time or past)
        same = (mine[..., :, None] == theirs[..., None, :]) & view.seen[:, :, None]
        number = same.cumsum(-1)  # of the key among those of the query's bucket
        near = same & (number[..., -1:] - number < self.window)
        return attend_to_others(queries, keys, values, near.any(2), view)

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> PlacedCache:
        return PlacedCache.empty(batch, capacity, ((self.n_heads, self.head_dim),) * 2, dtype, device)


class Hashes(nn.Module):
    """The buckets of vectors: in each head and round, the nearest of n_buckets random directions, which come in opposite pairs.

    Args:
        config: how many, and the seed.
        head_dim: features of a vector.

    Source: Andoni et al. (2015), arXiv 1509.02897.
    """

    directions: Tensor

    def __init__(self, config: HashedAttentionConfig, head_dim: int) -> None:
        super().__init__()
        self.n_buckets, self.n_rounds, self.seed = config.n_buckets, config.n_rounds, config.seed
        self.shape = (config.n_heads, head_dim, config.n_rounds, -(-config.n_buckets // 2))
        self.register_buffer("directions", self._directions(None), persistent=False)

    def _directions(self, device: torch.device | None) -> Tensor:
        return torch.from_numpy(numpy_rng(self.seed, "hashes").standard_normal(self.shape, dtype="float32")).to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Hashes:
        """Follows the model to its device (also from "meta"), drawn afresh there and never cast."""
        self.directions = self._directions(fn(self.directions).device)
        return self

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "batch time heads head_dim"]) -> Int[Tensor, "batch time heads rounds"]:
        along = torch.einsum("bthf,hfrn->bthrn", x.float(), self.directions)
        return torch.cat((along, -along), dim=-1)[..., : self.n_buckets].argmax(-1)


def scores_of_others(
    queries: Float[Tensor, "*batch time head_dim"], keys: Float[Tensor, "*batch past head_dim"], distances: Int[Tensor, "*#batch time past"]
) -> Float[Tensor, "*batch time past"]:
    """q·kᵀ, but next to nothing for a token and itself."""
    return (queries @ keys.mT).float().masked_fill(distances == 0, LONELY)


def attend_to_others(
    queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch past heads head_dim"],
    values: Float[Tensor, "batch past heads head_dim"], seen: Bool[Tensor, "#batch #heads time past"], view: View,
) -> Float[Tensor, "batch time heads head_dim"]:
    """softmax(q·kᵀ) · v over what is seen; a token sees itself only where it sees nothing else."""
    queries, keys, values = (x.transpose(1, 2) for x in (queries, keys, values))
    weights = scores_of_others(queries, keys, view.distances).masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights.type_as(values) @ values).transpose(1, 2)
