"""`WiredInit`: an initialisation in which looking things up is already possible, so that training need not stumble upon it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.nn.attention import Attention, AttentionConfig
from bloomery.nn.init import FanInInit, Stack
from bloomery.nn.positions import Rope, RotaryConfig

FAST_PAIRS = 4  # rotary pairs that tell a place from its neighbours
SLOW_TURN = 0.012  # radians per token, below which a pair hardly turns within a paragraph


class WiredInit(FanInInit):
    """Fan-in initialisation with circuits laid down in a few heads; everything stays trainable, and the architecture is unchanged.

    Stretches of the residual stream, head_dim wide, get a meaning. Feature 0 is the same for all tokens. The next stretches are empty in the
    embedding and will tell the token *one back* and the one *two back*; the stretch behind them is the part of a token's embedding by which it
    is told from others, its *own*.

    - *Looking back* (layer 0): queries and keys read feature 0 alone, the key turned by s places, so that
      q_m · k_n ∝ Σ_i cos(θ_i (n − m + s))  over the fastest rotary pairs peaks at n = m − s; what is seen there goes to the stretch for s.
    - *What came next* (induction; later layers): queries read the own stretch, keys the one back, on the slow rotary pairs: the head attends to
      what followed earlier occurrences of the present token.
    - *The same again* (later layers): queries and keys both read the own stretch: earlier occurrences of the present token.
    - *What stood before* (later layers): queries read the two back, keys the own stretch, values the two back: in "Tom Moss is the …" it finds
      Tom Moss where he was "the baker Tom Moss", and what stood before his name.

    Each key-value group has one of the circuits, as far as there are groups and room. A small model on a few million tokens spends most of them
    before such circuits form by themselves. What the first layer writes keeps the scale that the embedding had at first, so an embedding that
    starts small and grows drowns it: start it near where it ends (0.4, say), and let it learn slowly. See docs/log.md.

    Source: Olsson et al. (2022), arXiv 2209.11895, for the circuits, and for the observation that models given the previous token ("smeared
    keys") form induction heads at once; Trockman and Kolter (2023), arXiv 2305.09828, for initialising attention by its known structure.
    Departures: the shift is made with rotary positions, in an unchanged architecture.
    """

    wires: ClassVar[bool] = True

    contract: ClassVar[int] = 2  # 2: two back, and what stood before

    constant: float = Field(default=0.5, gt=0)
    """Feature 0, in units of the embedding's standard deviation times √d_model."""
    sharpness: float = Field(default=60.0, gt=0)
    """Scale of the looking-back scores; at 60 the next nearest place is about 7 nats below the peak (head_dim 32)."""
    match: float = Field(default=2.0, gt=0)
    """Scale of the matching queries and keys."""

    def residual_std(self, fan_in: int, n_layers: int) -> float:
        return 0.0  # nothing but the looking-back heads speaks at first; random voices would drown them

    def check_model(self, model: Stack) -> None:
        widths = []
        for i, mixer in enumerate(model.mixers):
            if not (isinstance(mixer, AttentionConfig) and mixer.positions == RotaryConfig(theta=getattr(mixer.positions, "theta", 1.0))):
                raise ConfigError(f"init=WiredInit wires attention with rotary positions, and mixers[{i}]={mixer} is no such; use FanInInit")
            widths.append(mixer.width(model.d_model))
            if widths[-1] != widths[0]:
                raise ConfigError(f"init=WiredInit wires heads of one width, and those of mixers[{i}] differ from the first; use FanInInit")
        if model.d_model <= 2 * widths[0]:
            raise ConfigError(f"init=WiredInit needs d_model={model.d_model} above 2 · head_dim={2 * widths[0]}; use more heads, or FanInInit")
        if model.d_embedding != model.d_model:
            raise ConfigError(f"init=WiredInit needs d_embedding={model.d_embedding} to be d_model={model.d_model}; use FanInInit")

    @torch.no_grad()
    def wire(self, embedding: Float[Tensor, "vocab d_model"], mixers: Sequence[Attention], seed: int) -> None:
        first, rope, (_, d_model) = mixers[0], mixers[0].rope, embedding.shape
        assert isinstance(rope, Rope)
        width, half, group = first.head_dim, first.head_dim // 2, first.n_heads // first.n_kv_heads
        looks = min(2, first.n_kv_heads, (d_model - 1) // width - 1)  # one back, and two back where there is room
        *back, own = (slice(1 + i * width, 1 + (i + 1) * width) for i in range(looks + 1))

        std = float(embedding.std())
        shared = self.constant * std * d_model**0.5
        embedding[:, : own.start] = 0.0
        embedding *= std * d_model**0.5 / embedding.norm(dim=1, keepdim=True)  # rows of one length, so that no token shouts others down
        embedding[:, 0] = shared
        normed = shared / (std**2 + shared**2 / d_model) ** 0.5  # feature 0 behind the first norm
        turn = rope.theta ** (-torch.arange(half) / half)  # radians per token of each pair

        fast = slice(min(FAST_PAIRS, half))
        scale = self.sharpness**0.5 / normed
        for kv, stretch in enumerate(back):
            query, key, value = _cleared(first, kv)
            query[:half][fast, 0] = scale
            places = (kv + 1) * turn[fast]
            key[:half][fast, 0], key[half:][fast, 0] = scale * places.cos(), scale * places.sin()
            value[:, own] = torch.eye(width)
            out = first.out.weight[:, kv * group * width :][:, :width]  # (d_model, head_dim)
            out.zero_()
            out[stretch] = torch.eye(width) * std  # as large as the embedding is elsewhere

        matching = torch.diag((turn < SLOW_TURN).float().repeat(2)) * self.match
        circuits = [(own, back[0]), (own, own), (back[-1], own)][: 3 if looks == 2 else 2]
        for mixer in mixers[1:]:
            for kv, (asks, has) in enumerate(circuits[: mixer.n_kv_heads]):
                query, key, value = _cleared(mixer, kv, values=kv == 2)
                query[:, asks], key[:, has] = matching, matching
                if kv == 2:
                    value[:, asks] = torch.eye(width)


def _cleared(mixer: Attention, kv: int, values: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The query, key and value matrices, each (head_dim, d_model), of the first head of a key-value group; zeroed, the values if asked to."""
    queries, keys, every_value = heads_of(mixer)
    query, key, value = queries[kv * (mixer.n_heads // mixer.n_kv_heads)], keys[kv], every_value[kv]
    for matrix in (query, key, value)[: 3 if values else 2]:
        matrix.zero_()
    return query, key, value


def heads_of(mixer: Attention) -> tuple[Tensor, Tensor, Tensor]:
    """Views of the query, key and value matrices by head, each (heads, head_dim, d_model)."""
    matrices = mixer.qkv.weight.unflatten(0, (-1, mixer.head_dim))
    queries, keys, values = matrices.split((mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads))
    return queries, keys, values
