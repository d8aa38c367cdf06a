"""The linear recurrence that state-space layers and linear attention share: step by step, and in chunks; and the cache of such a layer.

    S_t = exp(a_t) · S_{t−1} + k_t v_tᵀ;   y_t = S_tᵀ q_t,   with S = 0 before each document
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.nn.cache import Cache, Make
from bloomery.nn.layout import PADDING, SequenceLayout


def step_scan(
    queries: Float[Tensor, "batch time groups d_state"], keys: Float[Tensor, "batch time groups d_state"],
    values: Float[Tensor, "batch time heads head_dim"], log_decay: Float[Tensor, "batch time #heads"],
    segments: Int[Tensor, "batch time"] | None = None, state: Float[Tensor, "batch heads d_state head_dim"] | None = None,
) -> tuple[Float[Tensor, "batch time heads head_dim"], Float[Tensor, "batch heads d_state head_dim"]]:
    """The recurrence token by token: what `chunked_scan` is held against; the arguments are those of it."""
    groups, heads = keys.shape[2], values.shape[2]
    queries, keys = (x.repeat_interleave(heads // groups, dim=2) for x in (queries, keys))
    if state is None:
        state = values.new_zeros(values.shape[0], heads, keys.shape[-1], values.shape[-1])
    outputs = []
    for t in range(values.shape[1]):
        if segments is not None and t > 0:
            state = state * (segments[:, t] == segments[:, t - 1])[:, None, None, None]
        state = log_decay[:, t, :, None, None].exp() * state + keys[:, t, :, :, None] * values[:, t, :, None, :]
        outputs.append((queries[:, t, :, None] @ state)[:, :, 0])
    return torch.stack(outputs, dim=1), state


def chunked_scan(
    queries: Float[Tensor, "batch time groups d_state"], keys: Float[Tensor, "batch time groups d_state"],
    values: Float[Tensor, "batch time heads head_dim"], log_decay: Float[Tensor, "batch time #heads"],
    segments: Int[Tensor, "batch time"] | None = None, state: Float[Tensor, "batch heads d_state head_dim"] | None = None, chunk: int = 64,
) -> tuple[Float[Tensor, "batch time heads head_dim"], Float[Tensor, "batch heads d_state head_dim"]]:
    """The recurrence as matrix products: within a chunk every token looks at every earlier one, across chunks only states are handed on.

    Args:
        queries: (batch, time, groups, d_state), read by heads / groups neighbouring heads each.
        keys: the same shape.
        values: (batch, time, heads, head_dim).
        log_decay: a ≤ 0, one per head or one for all.
        segments: the state is 0 before each; None for one document per row.
        state: what earlier tokens left; only where segments are None.
        chunk: tokens per chunk, ≥ 1; changes rounding and nothing else.

    Returns:
        the outputs (batch, time, heads, head_dim), and the state behind the last token (batch, heads, d_state, head_dim).

    Source: Dao and Gu (2024), arXiv 2405.21060, section 6 and listing 1. Departure: a document's start cuts the decay to 0 within and
    across chunks, so that packed documents need no loop.
    """
    assert segments is None or state is None, "a state goes on one document per row"
    time, groups = keys.shape[1:3]
    chunk = min(chunk, time)
    n_chunks = -(-time // chunk)
    queries, keys, values, log_decay = (_chunks(x, n_chunks, chunk) for x in (queries, keys, values, log_decay))  # zeros change no state
    values = values.unflatten(3, (groups, -1))  # (batch, chunks, chunk, groups, heads / groups, head_dim)
    log_decay = log_decay.movedim(3, 1)  # (batch, heads or 1, chunks, chunk)
    ends: Tensor | None = None  # the segment of what stands before each chunk, and of the last token
    if segments is not None:
        segments = F.pad(segments[:, None], (0, n_chunks * chunk - time), mode="replicate").unflatten(2, (n_chunks, chunk))
        ends = torch.cat((segments[..., :1, 0], segments[..., -1]), dim=2)  # (batch, 1, chunks + 1)

    within = _grouped(decay_matrix(log_decay, segments), groups)  # (batch, groups, heads / groups, chunks, chunk, chunk), or 1 · 1 for heads
    scores = torch.einsum("bclgn,bcsgn->bgcls", queries, keys)[:, :, None] * within
    outputs = torch.einsum("bgrcls,bcsgrp->bclgrp", scores, values)

    until_end = within[..., -1, :].permute(0, 3, 4, 1, 2)[..., None]  # (batch, chunks, chunk, …): each token's decay to its chunk's end
    made = torch.einsum("bclgn,bclgrp->bcgrnp", keys, values * until_end)  # the states that chunks add
    before = torch.zeros_like(made[:, :1]) if state is None else state.unflatten(1, (groups, -1))[:, None].type_as(made)
    across = _grouped(decay_matrix(F.pad(log_decay.sum(-1), (1, 0)), ends), groups)  # (batch, groups, heads / groups, chunks + 1, chunks + 1)
    states = torch.einsum("bgrcz,bzgrnp->bcgrnp", across, torch.cat((before, made), dim=1))

    since_start = log_decay.cumsum(-1).exp()  # (batch, heads or 1, chunks, chunk)
    if segments is not None and ends is not None:
        since_start = since_start * (segments == ends[..., :-1, None])
    since_start = _grouped(since_start, groups).permute(0, 3, 4, 1, 2)[..., None]
    outputs = outputs + torch.einsum("bclgn,bcgrnp->bclgrp", queries, states[:, :-1]) * since_start
    return outputs.flatten(1, 2)[:, :time].flatten(2, 3), states[:, -1].flatten(1, 2)


def decay_matrix(log_decay: Float[Tensor, "*batch time"], segments: Int[Tensor, "*#batch time"] | None) -> Float[Tensor, "*batch time time"]:
    """exp(a_{s+1} + … + a_t) for a token t (second last axis) and s ≤ t of its segment, else 0: how much of s is left at t.

    Each entry is a sum of its own rather than a difference of two long ones, which would round away what short distances say.
    """
    time = log_decay.shape[-1]
    earlier = torch.ones(time, time, dtype=torch.bool, device=log_decay.device).tril(-1)
    sums = log_decay[..., :, None].expand(*log_decay.shape, time).masked_fill(~earlier, 0.0).cumsum(-2)
    seen = earlier | torch.eye(time, dtype=torch.bool, device=log_decay.device)
    if segments is not None:
        seen = seen & (segments[..., :, None] == segments[..., None, :])
    return sums.masked_fill(~seen, -torch.inf).exp()


def _chunks(x: Tensor, n_chunks: int, chunk: int) -> Tensor:
    """(batch, time, …) → (batch, chunks, chunk, …), with zeros behind the end."""
    padded = F.pad(x, (0, 0) * (x.ndim - 2) + (0, n_chunks * chunk - x.shape[1]))
    return padded.unflatten(1, (n_chunks, chunk))


def _grouped(x: Tensor, groups: int) -> Tensor:
    """(batch, heads, …) → (batch, groups, heads / groups, …); what all heads have in common → (batch, 1, 1, …)."""
    return x[:, None] if x.shape[1] == 1 else x.unflatten(1, (groups, -1))


class StateCache(Cache):
    """What a recurrent layer remembers: as much after a million tokens as after one. It goes on where it stopped, and cannot go back.

    Args:
        state: (batch, heads, d_state, head_dim), behind the last token.
        recent: (batch, width − 1, channels), what a convolution still sees of the past; of no channels where there is none.
        read: tokens read in each row.
    """

    def __init__(
        self, state: Float[Tensor, "batch heads d_state head_dim"], recent: Float[Tensor, "batch past channels"], read: Int[Tensor, " batch"]
    ) -> None:
        self.state, self.recent, self.read = state, recent, read

    @classmethod
    def empty(
        cls, batch: int, state: tuple[int, int, int], recent: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> StateCache:
        """Nothing is read yet. The state is a sum over all that will be, and is not held in half precision."""
        exact = torch.promote_types(dtype, torch.float32)
        return cls(
            torch.zeros(batch, *state, dtype=exact, device=device), torch.zeros(batch, *recent, dtype=dtype, device=device),
            torch.zeros(batch, dtype=torch.long, device=device),
        )

    def go_on(self, layout: SequenceLayout) -> Bool[Tensor, "batch time"]:
        """Counts the new tokens; returns which of them are no padding.

        Args:
            layout: of the new tokens: one document per row (segments are 1, or 0 for padding on the right), going on where the last ended.
        """
        packed = layout.segments is not None and int(layout.segments.max()) > 1
        assert not packed, "a cache goes on one document per row, and packed rows hold several"
        real = torch.ones_like(layout.positions, dtype=torch.bool) if layout.segments is None else layout.segments != PADDING
        follows = (layout.positions[:, 0] == self.read) | ~real[:, 0]
        assert bool(follows.all()), "a state goes on where it stopped: the first new position of a row is the number of tokens read before"
        self.read += real.sum(1)  # in place, as all that is remembered: others may look at the same rows
        return real

    def select(self, rows: Int[Tensor, " kept"]) -> StateCache:
        return StateCache(self.state[rows], self.recent[rows], self.read[rows])

    def other(self, batch: int, make: Make) -> StateCache:
        return StateCache(*(one.new_zeros(batch, *one.shape[1:]) for one in (self.state, self.recent, self.read)))

    def view(self, rows: slice) -> StateCache:
        return StateCache(self.state[rows], self.recent[rows], self.read[rows])

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        assert isinstance(other, StateCache)
        assert int(other.read[from_row]) == length, "a state is that behind its last token, and no earlier one"
        self.state[row], self.recent[row], self.read[row] = other.state[from_row], other.recent[from_row], length

    @property
    def by_place(self) -> bool:
        return False
