"""Attention to blocks of keys: neighbours, the first blocks of the document, and a few at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bloomery.core.rng import numpy_rng
from bloomery.nn.attention import Attention, GroupedHeadsConfig
from bloomery.nn.documents import each_document
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.mixer import Looks
from bloomery.nn.part import Shared
from bloomery.nn.positions import ScoreBias

BITS = 31  # of a random number


class BlockSparseAttentionConfig(GroupedHeadsConfig):
    """See `BlockSparseAttention`."""

    block: Annotated[int, Gt(0)] = 64
    """Tokens per block."""
    n_local: Annotated[int, Ge(0)] = 1
    """Blocks that a block sees before itself and, both ways, behind itself."""
    n_global: Annotated[int, Ge(0)] = 2
    """First blocks of a document, which all see and which, both ways, see all."""
    n_random: Annotated[int, Ge(0)] = 3
    """Further blocks that a block sees, drawn from those that are left (with causality, from those before it)."""
    seed: int = 0
    """Of the draw. Layers with other seeds have other patterns."""

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> BlockSparseAttention:
        return BlockSparseAttention(d_model, max_seq_len, self, self.rope(d_model, max_seq_len, shared), self.bias(shared))

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        slots = self.n_global + 1 + self.n_local * (1 if causal else 2) + self.n_random
        reached = slots * self.block + (0 if causal else self.n_global * self.block)  # what the global blocks see, shared among all tokens
        seen = min(seq_len / 2 if causal else seq_len, reached)
        return self.projection_flops(d_model) + 4.0 * self.n_heads * self.width(d_model) * seen


class BlockSparseAttention(Attention):
    """Softmax attention in which a token of block i sees those of block j where

        |i − j| ≤ n_local,   or  j < n_global,   or  i < n_global,   or  j ∈ random(i)

    and, under causality, none behind itself. Blocks are counted from the start of each document, and random(i) follows from the seed, i
    and, both ways, the number of blocks of the document: so a document sees the same wherever it is packed. Work and memory grow with
    time · block · (n_global + 2·n_local + 1 + n_random): the keys that a block of queries sees are gathered, and no square is made unless
    a document is no longer than that.

    Args:
        d_model: width of input and output.
        max_seq_len: positions run below it.
        config: what it is made of.
        rope: turns queries and keys.
        bias: of the scores.

    Source: Zaheer et al. (2020), arXiv 2007.14062, section 2 and appendix D; Beltagy et al. (2020), arXiv 2004.05150; Child et al. (2019),
    arXiv 1904.10509. Departures: global tokens are the first ones of the document (the paper's internal construction); each of n_random
    equal stretches of the blocks that are left gives one random block, so that none is drawn twice; causal too.
    """

    def __init__(self, d_model: int, max_seq_len: int, config: BlockSparseAttentionConfig, rope: nn.Module, bias: ScoreBias | None) -> None:
        super().__init__(d_model, config, rope, bias)
        self.block = config.block
        self.pattern = BlockPattern(config, -(-max_seq_len // config.block))

    def whole(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch time kv_heads head_dim"],
        values: Float[Tensor, "batch time kv_heads head_dim"], layout: SequenceLayout,
    ) -> Float[Tensor, "batch time heads head_dim"]:
        mix = self.forwards if layout.causal else self.both_ways
        return each_document(mix, layout, queries, keys, values)

    def mix(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch past kv_heads head_dim"],
        values: Float[Tensor, "batch past kv_heads head_dim"], view: View,
    ) -> Float[Tensor, "batch time heads head_dim"]:
        """By a mask over all keys; the places of the view are positions."""
        seen = self.pattern.seen(view.queries // self.block, view.keys // self.block)
        return super().mix(queries, keys, values, View(view.queries, view.keys, seen[:, None] & view.seen, causal=True))

    def looks(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Looks | None:
        return None  # no square of all places is ever made

    def forwards(
        self, queries: Float[Tensor, "documents time heads head_dim"], keys: Float[Tensor, "documents time kv_heads head_dim"],
        values: Float[Tensor, "documents time kv_heads head_dim"], lengths: Int[Tensor, " documents"],
    ) -> Float[Tensor, "documents time heads head_dim"]:
        """Documents in which a token sees nothing behind itself."""
        time = queries.shape[1]
        if time <= self.pattern.n_slots(causal=True) * self.block:
            places = torch.arange(time, device=queries.device)[None]
            return self.mix(queries, keys, values, View(places, places, causal=True, plain_causal=True))
        return self.gathered(queries, keys, values, lengths, first=0, n_blocks=None)

    def both_ways(
        self, queries: Float[Tensor, "documents time heads head_dim"], keys: Float[Tensor, "documents time kv_heads head_dim"],
        values: Float[Tensor, "documents time kv_heads head_dim"], lengths: Int[Tensor, " documents"],
    ) -> Float[Tensor, "documents time heads head_dim"]:
        """Documents in which a token sees what is behind it, too."""
        time, n_blocks = queries.shape[1], -(-lengths[:, None] // self.block)
        places = torch.arange(time, device=queries.device)[None]
        there = (places < lengths[:, None])[:, None, None, :]
        if time <= self.pattern.n_slots(causal=False) * self.block:
            seen = self.pattern.seen(places // self.block, places // self.block, n_blocks)[:, None] & there
            return super().mix(queries, keys, values, View(places, places, seen | ~there.mT))
        first = self.pattern.n_global * self.block
        rest = self.gathered(queries[:, first:], keys, values, lengths, self.pattern.n_global, n_blocks)
        if not first:
            return rest
        see_all = View(places[:, :first], places, there.expand(-1, -1, first, -1))
        return torch.cat((super().mix(queries[:, :first], keys, values, see_all), rest), dim=1)

    def gathered(
        self, queries: Float[Tensor, "documents rest heads head_dim"], keys: Float[Tensor, "documents time kv_heads head_dim"],
        values: Float[Tensor, "documents time kv_heads head_dim"], lengths: Int[Tensor, " documents"], first: int,
        n_blocks: Int[Tensor, "documents 1"] | None,
    ) -> Float[Tensor, "documents rest heads head_dim"]:
        """Each block of queries with the keys of the blocks that it sees, as if it were a row.

        Args:
            queries: of the blocks from number `first` onwards.
            keys: of all blocks.
            values: as the keys.
            lengths: of the documents.
            first: number of the first block of queries.
            n_blocks: of the documents; None under causality, which asks for nothing behind a block.
        """
        block, rest = self.block, queries.shape[1]
        queries, keys, values = (F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % block)).unflatten(1, (-1, block)) for x in (queries, keys, values))
        documents, n = keys.shape[:2]
        own, within = torch.arange(first, n, device=keys.device), torch.arange(block, device=keys.device)
        slots = self.pattern.slots(own[None], n_blocks).expand(documents, -1, -1)  # (documents, rows, slots)
        query_places = (own[:, None] * block + within).expand(documents, -1, -1)  # (documents, rows, block)
        key_places = (slots[..., None] * block + within).flatten(2)  # (documents, rows, slots · block), below 0 in empty slots
        ends = lengths[:, None, None]
        seen = ((key_places >= 0) & (key_places < ends))[:, :, None, :]
        if n_blocks is None:
            seen = seen & (key_places[:, :, None, :] <= query_places[..., None])
        seen = seen | (query_places >= ends)[..., None]  # what fills a document up sees anything, so that it is a number
        view = View(query_places.flatten(0, 1), key_places.flatten(0, 1), seen.flatten(0, 1)[:, None], causal=n_blocks is None)
        index = torch.arange(documents, device=keys.device)[:, None, None], slots.clamp(0, n - 1)
        keys, values = (x[index].flatten(2, 3).flatten(0, 1) for x in (keys, values))  # (documents · rows, slots · block, kv_heads, …)
        mixed = super().mix(queries.flatten(0, 1), keys, values, view)
        return mixed.unflatten(0, (documents, -1)).flatten(1, 2)[:, :rest]


class BlockPattern(nn.Module):
    """Which blocks of keys a block of queries sees.

    Args:
        config: how many of each kind.
        n_blocks: blocks of the longest document.
    """

    draws: Tensor

    def __init__(self, config: BlockSparseAttentionConfig, n_blocks: int) -> None:
        super().__init__()
        self.n_local, self.n_global = config.n_local, config.n_global
        self.drawn = (config.seed, n_blocks, config.n_random)
        self.register_buffer("draws", self._draws(None), persistent=False)

    def _draws(self, device: torch.device | None) -> Tensor:
        """(n_blocks, n_random) numbers; those of a block do not depend on how many there are."""
        seed, n_blocks, n_random = self.drawn
        numbers = numpy_rng(seed, "block_sparse").integers(1 << BITS, size=(n_blocks, n_random))
        return torch.from_numpy(numbers).to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BlockPattern:
        """Follows the model to its device (also from "meta"), drawn afresh there."""
        self.draws = self._draws(fn(self.draws).device)
        return self

    def n_slots(self, causal: bool) -> int:
        """The most blocks that a block sees, but for the global ones both ways."""
        return self.n_global + 1 + self.n_local * (1 if causal else 2) + self.draws.shape[1]

    def random(self, own: Int[Tensor, "#documents rows"], n_blocks: Int[Tensor, "documents 1"] | None) -> Int[Tensor, "#documents rows random"]:
        """The blocks that are drawn for blocks, of those that these do not see anyway; −1 where there are fewer.

        Args:
            own: the blocks.
            n_blocks: of the documents, to draw from all; None draws from those before the own one.
        """
        behind = (own + self.n_local + 1).clamp(min=self.n_global)  # the first one behind that is left
        n_before = (own - self.n_local - self.n_global).clamp(min=0)
        n_left = n_before if n_blocks is None else n_before + (n_blocks - behind).clamp(min=0)
        stretch = torch.arange(self.draws.shape[1] + 1, device=own.device) * n_left[..., None] // max(1, self.draws.shape[1])
        low, size = stretch[..., :-1], stretch.diff(dim=-1)
        number = low + (self.draws[own] * size >> BITS)
        block = torch.where(number < n_before[..., None], self.n_global + number, behind[..., None] + number - n_before[..., None])
        return block.masked_fill(size == 0, -1)

    def slots(self, own: Int[Tensor, "1 rows"], n_blocks: Int[Tensor, "documents 1"] | None) -> Int[Tensor, "#documents rows slots"]:
        """The blocks that blocks see, none twice; below 0 where a slot is empty. They may lie behind the end of a document."""
        random = self.random(own, n_blocks)
        shape = (*random.shape[:-1], -1)
        reach = torch.arange(-self.n_local, 1 if n_blocks is None else self.n_local + 1, device=own.device)
        local = own[..., None] + reach
        local = local.masked_fill(local < self.n_global, -1)
        first = torch.arange(self.n_global, device=own.device)
        return torch.cat((first.expand(shape), local.expand(shape), random), dim=-1)

    def seen(
        self, queries: Int[Tensor, "#documents time"], keys: Int[Tensor, "#documents past"], n_blocks: Int[Tensor, "documents 1"] | None = None
    ) -> Bool[Tensor, "#documents time past"]:
        """Whether blocks of queries see blocks of keys; under causality (no `n_blocks`), as far as these are not behind them."""
        from_, to = queries[:, :, None], keys[:, None, :]
        seen = ((from_ - to).abs() <= self.n_local) | (to < self.n_global)
        if n_blocks is not None:
            seen = seen | (from_ < self.n_global)
        for drawn in self.random(queries, n_blocks).unbind(-1):
            seen = seen | (drawn[..., None] == to)
        return seen
