"""Mamba-2: a state-space layer whose state decays by what it reads."""

from __future__ import annotations

from math import inf, log
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.attention import divisors, near
from bloomery.nn.cache import Cache
from bloomery.nn.init import Draw, Initialised
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.mixer import MixerConfig, SequenceMixer
from bloomery.nn.norms import RMSNorm
from bloomery.nn.part import Shared
from bloomery.nn.scan import StateCache, chunked_scan

A_RANGE = (1.0, 16.0)  # decay rates per unit of step size at first, as published


class Mamba2Config(MixerConfig):
    """See `Mamba2`."""

    reads_both_ways = False

    expand: Annotated[int, Gt(0)] = 2
    """Width inside, in units of d_model: expand · d_model = n_heads · head_dim."""
    head_dim: Annotated[int, Gt(0)] = 64
    """Features per head; there are expand · d_model / head_dim heads."""
    d_state: Annotated[int, Gt(0)] = 128
    """Features of the state's keys and queries (B and C)."""
    n_groups: Annotated[int, Gt(0)] = 1
    """Neighbouring heads in so many groups share keys and queries; a divisor of the number of heads. The norm is by group, too."""
    conv_width: Annotated[int, Gt(0)] = 4
    """Tokens that the convolution sees, the present one included."""
    conv_bias: bool = True
    """Whether the convolution has a bias."""
    bias: bool = False
    """Whether the maps in and out have biases."""
    norm_eps: Annotated[float, Gt(0)] = 1e-5
    """Added to the mean square in the gated norm."""
    dt_range: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.001, 0.1)
    """Step sizes at first: drawn log-uniformly from it."""
    dt_floor: Annotated[float, Gt(0)] = 1e-4
    """No step size starts below it."""
    dt_limit: tuple[float, float] | None = None
    """Step sizes are held within it; None leaves them as they are, above 0."""
    chunk: Annotated[int, Gt(0)] = 64
    """Tokens per chunk of the scan; changes rounding and speed."""

    def check(self) -> None:
        if self.dt_range[0] > self.dt_range[1]:
            raise self.refuse("dt_range", "is not from low to high; swap its ends")
        if self.dt_limit is not None and not 0 <= self.dt_limit[0] < self.dt_limit[1]:
            raise self.refuse("dt_limit", "is not from low to high, from 0 on; None sets no limit")

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        inner = self.expand * d_model
        if inner % self.head_dim:
            would = near(self.head_dim, divisors(inner))
            raise self.refuse("head_dim", f"does not divide expand · d_model = {self.expand} · {d_model} = {inner}; {would} would")
        heads = self.n_heads(d_model)
        if heads % self.n_groups:
            would = near(self.n_groups, divisors(heads))
            raise self.refuse("n_groups", f"does not divide the {heads} heads that head_dim={self.head_dim} makes; {would} would")

    def n_heads(self, d_model: int) -> int:
        """Heads in a model of this width."""
        return self.expand * d_model // self.head_dim

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> Mamba2:
        return Mamba2(d_model, self)

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        """The maps in and out; the chunk before each token, half of it on average; and the state, written and read."""
        inner, keys = self.expand * d_model, self.n_groups * self.d_state
        maps = 2.0 * d_model * (3 * inner + 2 * keys + self.n_heads(d_model))
        return maps + 2.0 * (keys + inner) * min(self.chunk, seq_len) / 2 + 4.0 * inner * self.d_state


class Mamba2(SequenceMixer, Initialised):
    """A gated state-space layer.

        z, xBC, δ = split(W_in · u);   x, B, C = split(silu(conv(xBC)));   Δ = softplus(δ + dt_bias)
        S_t = exp(−Δ_t e^{a_log}) · S_{t−1} + Δ_t B_t x_tᵀ;   y_t = S_tᵀ C_t + skip · x_t     for each head
        out = W_out · norm(y ⊙ silu(z))

    The state S and the convolution begin anew with each document.

    Args:
        d_model: width of input and output.
        config: what it is made of.

    Source: Dao and Gu (2024), arXiv 2405.21060, section 7 and its published code, from which the start is, too: decay rates from U(1, 16),
    skip at 1, dt_bias such that Δ is log-uniform where δ = 0.
    """

    def __init__(self, d_model: int, config: Mamba2Config) -> None:
        super().__init__()
        self.config, self.n_heads = config, config.n_heads(d_model)
        inner, keys = config.expand * d_model, config.n_groups * config.d_state
        self.into = Linear(d_model, (inner, inner, keys, keys, self.n_heads), (Use.OTHER,) * 5, config.bias)  # z, x, B, C, δ
        self.conv = CausalConv(inner + 2 * keys, config.conv_width, config.conv_bias)
        self.a_log, self.dt_bias, self.skip = (nn.Parameter(torch.empty(self.n_heads)) for _ in range(3))
        self.dt_limit = config.dt_limit or (0.0, inf)
        self.norm = GroupedRMSNorm(inner, config.norm_eps, config.n_groups)
        self.out = Linear(inner, d_model, Use.MIXER_OUT, config.bias)

    def initialise(self, draw: Draw) -> None:
        low, high = self.config.dt_range
        dt = draw.uniform(self.dt_bias, log(low), log(high)).exp().clamp(min=self.config.dt_floor)
        draw.copy(self.dt_bias, dt + (-torch.expm1(-dt)).log())  # softplus of it is dt
        draw.copy(self.a_log, draw.uniform(self.a_log, *A_RANGE).log())
        draw.fill(self.skip, 1.0)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        assert layout.causal, "a state knows nothing of what comes after"
        assert layout.prefix is None, "a state knows nothing of what comes after, in a prefix either"
        inner, keys = self.norm.weight.shape[0], self.config.n_groups * self.config.d_state
        gate, mixed, delta = self.into(x).split((inner, inner + 2 * keys, self.n_heads), dim=-1)
        exact = torch.promote_types(x.dtype, torch.float32)  # of decays over long times
        dt = F.softplus((delta + self.dt_bias).to(exact)).clamp(*self.dt_limit)
        if cache is None:
            segments, state = layout.segments, None
            convolved = self.conv(mixed, segments)
        else:
            assert isinstance(cache, StateCache)
            real, segments, state = cache.go_on(layout), None, cache.state
            convolved = self.conv(mixed, None, cache.recent)
            cache.recent.copy_(_last(torch.cat((cache.recent, mixed.type_as(cache.recent)), dim=1), real.sum(1), cache.recent.shape[1]))
            dt = dt * real[..., None]  # a step of no size leaves the state as it is
        values, b, c = F.silu(convolved).split((inner, keys, keys), dim=-1)
        values, b, c = values.unflatten(-1, (self.n_heads, -1)), *(one.unflatten(-1, (self.config.n_groups, -1)) for one in (b, c))
        y, state = chunked_scan(
            c.to(exact), b.to(exact), values * dt[..., None], -self.a_log.exp() * dt, segments, state, self.config.chunk
        )
        if cache is not None:
            cache.state.copy_(state)
        y = (y + self.skip[:, None] * values).flatten(2) * F.silu(gate)
        return self.out(self.norm(y).type_as(x))

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> StateCache:
        state = (self.n_heads, self.config.d_state, self.config.head_dim)
        return StateCache.empty(batch, state, (self.config.conv_width - 1, self.conv.channels), dtype, device)


class CausalConv(nn.Module, Initialised):
    """Each channel convolved with its past, within its document:  y_t = b + Σ_j w_j · x_{t − width + 1 + j}.

    Args:
        channels: each with taps of its own.
        width: taps; the last is the present token's.
        bias: whether there is a b.
    """

    def __init__(self, channels: int, width: int, bias: bool) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.weight = nn.Parameter(torch.empty(channels * width))  # a vector to optimisers: no product of matrices is made with it
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def initialise(self, draw: Draw) -> None:
        """Both from U(±1/√width), as torch starts a convolution."""
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                draw.copy(parameter, draw.uniform(parameter, -(self.width**-0.5), self.width**-0.5))

    def forward(
        self, x: Float[Tensor, "batch time channels"], segments: Int[Tensor, "batch time"] | None,
        before: Float[Tensor, "batch past channels"] | None = None,
    ) -> Float[Tensor, "batch time channels"]:
        """The convolved x.

        Args:
            x: (batch, time, channels).
            segments: what is in another segment counts as 0; None for one document per row.
            before: (batch, width − 1, channels), what stands before x; None for zeros.
        """
        time, past = x.shape[1], self.width - 1
        x = F.pad(x, (0, 0, past, 0)) if before is None else torch.cat((before.type_as(x), x), dim=1)
        taps = self.weight.view(self.channels, self.width)
        total = x[:, past:] * taps[:, past]
        for back in range(1, self.width):
            term = x[:, past - back : past - back + time] * taps[:, past - back]
            if segments is not None:
                term = term * (segments == F.pad(segments, (back, 0))[:, :time])[..., None]
            total = total + term
        return total if self.bias is None else total + self.bias


class GroupedRMSNorm(RMSNorm):
    """`RMSNorm` by groups of neighbouring features:  y = w · x / √(mean_group(x²) + eps)."""

    def __init__(self, dim: int, eps: float, n_groups: int) -> None:
        super().__init__(dim, eps)
        self.n_groups = n_groups

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        grouped = x.unflatten(-1, (self.n_groups, -1))
        return F.rms_norm(grouped, grouped.shape[-1:], None, self.eps).flatten(-2) * self.weight


def _last(x: Float[Tensor, "batch all_time channels"], ends: Int[Tensor, " batch"], n: int) -> Float[Tensor, "batch n channels"]:
    """The n places of each row that end n behind `ends`."""
    at = ends[:, None] + torch.arange(n, device=x.device)  # (batch, n)
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
