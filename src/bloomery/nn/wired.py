"""`WiredInit`: an initialisation in which looking things up is already possible, so that training need not stumble upon it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.nn.attention import Attention
from bloomery.nn.init import FanInInit

FAST_PAIRS = 4  # rotary pairs that tell a place from its neighbours
SLOW_TURN = 0.012  # radians per token, below which a pair hardly turns within a paragraph


class WiredInit(FanInInit):
    """Fan-in initialisation with circuits laid down in a few heads; everything stays trainable, and the architecture is unchanged.

    Three stretches of the residual stream get a meaning: feature 0 is the same for all tokens; the next head_dim are empty in the
    embedding and will tell the *previous* token; the next head_dim are the part of a token's embedding by which it is told from others.

    - *Previous token* (layer 0, head 0): queries and keys read feature 0 alone, the key turned by one place, so that
      q_m · k_n ∝ Σ_i cos(θ_i (n − m + 1))  over the fastest rotary pairs peaks at n = m − 1; it writes what it sees to the empty stretch.
    - *Induction* (later layers, head 0): queries read the token, keys the previous token, on the slow rotary pairs: it attends to what came
      after earlier occurrences of the present token.
    - *Same token* (later layers, in the next key-value group): queries and keys both read the token: it attends to earlier occurrences.

    A small model on a few million tokens spends most of them before such circuits form by themselves; see docs/log.md.

    Source: Olsson et al. (2022), arXiv 2209.11895, for the circuits, and for the observation that models given the previous token ("smeared
    keys") form induction heads at once; Trockman and Kolter (2023), arXiv 2305.09828, for initialising attention by its known structure.
    Departures: the shift is made with rotary positions, in an unchanged architecture.
    """

    constant: float = Field(default=0.5, gt=0)
    """Feature 0, in units of the embedding's standard deviation times √d_model."""
    sharpness: float = Field(default=60.0, gt=0)
    """Scale of the previous-token scores; at 60 the next nearest place is about 7 nats below the peak (head_dim 32)."""
    match: float = Field(default=2.0, gt=0)
    """Scale of the matching queries and keys."""

    def residual_std(self, fan_in: int, n_layers: int) -> float:
        return 0.0  # nothing but the previous-token head speaks at first; random voices would drown it

    @torch.no_grad()
    def wire(self, embedding: Float[Tensor, "vocab d_model"], mixers: Sequence[Attention], rope_theta: float, seed: int) -> None:
        first, (_, d_model) = mixers[0], embedding.shape
        width, half = first.head_dim, first.head_dim // 2
        if d_model < 2 * width + 1:
            raise ConfigError(f"WiredInit needs d_model > 2 · head_dim, and {d_model} is not above {2 * width}; use more heads, or FanInInit")
        std = float(embedding.std())
        shared = self.constant * std * d_model**0.5
        previous, own = slice(1, 1 + width), slice(1 + width, 1 + 2 * width)
        embedding[:, 0], embedding[:, previous] = 0.0, 0.0
        embedding *= std * d_model**0.5 / embedding.norm(dim=1, keepdim=True)  # rows of one length, so that no token shouts others down
        embedding[:, 0] = shared
        normed = shared / (std**2 + shared**2 / d_model) ** 0.5  # feature 0 behind the first norm
        turn = rope_theta ** (-torch.arange(half) / half)  # radians per token of each pair
        fast = slice(min(FAST_PAIRS, half))

        queries, keys, values = (part[0] for part in heads_of(first))  # each (head_dim, d_model)
        for matrix in (queries, keys, values):
            matrix.zero_()
        scale = self.sharpness**0.5 / normed
        queries[:half][fast, 0] = scale
        keys[:half][fast, 0], keys[half:][fast, 0] = scale * turn[fast].cos(), scale * turn[fast].sin()
        values[:, own] = torch.eye(width)
        out = first.out.weight[:, :width]  # (d_model, head_dim)
        out.zero_()
        out[previous] = torch.eye(width) * std  # as large as the embedding is elsewhere

        matching = torch.diag((turn < SLOW_TURN).float().repeat(2)) * self.match
        for mixer in mixers[1:]:
            queries, keys, _ = heads_of(mixer)
            queries[0], keys[0] = 0.0, 0.0
            queries[0, :, own], keys[0, :, previous] = matching, matching
            if mixer.n_kv_heads > 1:
                same = mixer.n_heads // mixer.n_kv_heads  # the first query head of the second group
                queries[same], keys[1] = 0.0, 0.0
                queries[same, :, own], keys[1, :, own] = matching, matching


def heads_of(mixer: Attention) -> tuple[Tensor, Tensor, Tensor]:
    """Views of the query, key and value matrices by head, each (heads, head_dim, d_model)."""
    matrices = mixer.qkv.weight.unflatten(0, (-1, mixer.head_dim))
    queries, keys, values = matrices.split((mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads))
    return queries, keys, values
