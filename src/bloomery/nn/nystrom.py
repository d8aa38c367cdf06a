"""Attention through a few landmarks: Nyströmformer."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.approximate import LowRankAttention, LowRankConfig
from bloomery.nn.part import Shared


class NystromConfig(LowRankConfig):
    """See `Nystrom`."""

    n_landmarks: Annotated[int, Gt(0)] = 64
    """Stretches of a document whose mean queries and keys stand for all; a document of fewer tokens has as many as it has tokens."""
    n_iterations: Annotated[int, Gt(0)] = 6
    """Steps of the iteration that inverts the landmarks' attention to each other."""

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> Nystrom:
        return Nystrom(d_model, self, self.rope(d_model, max_seq_len, shared))

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        width, n = self.width(d_model), min(self.n_landmarks, seq_len)
        inverse = 2.0 * n * n * (4 * self.n_iterations * n + 2 * width) / seq_len  # per document, shared among its tokens
        means = 4.0 * n * width * (self.n_heads + self.n_kv_heads) / 2
        return self.projection_flops(d_model) + 8.0 * n * width * self.n_heads + inverse * self.n_heads + means


class Nystrom(LowRankAttention):
    """Softmax attention by way of landmarks, the means q̃, k̃ of queries and keys over n_landmarks equal stretches of a document:

        y = W_out · concat_h softmax(q·k̃ᵀ) · softmax(q̃·k̃ᵀ)⁺ · softmax(q̃·kᵀ) · v

    Work and memory grow with time · n_landmarks. Landmarks are means over all of a document, so it reads both ways only.

    Args:
        d_model: width of input and output.
        config: what it is made of.
        rope: turns queries and keys.

    Source: Xiong et al. (2021), arXiv 2102.03902, section 3. Departures: stretches differ by one token where their number does not divide
    the length; the iteration starts from the norms of each matrix, not from the largest ones in the batch; no convolution beside it.
    """

    def __init__(self, d_model: int, config: NystromConfig, rope: nn.Module) -> None:
        super().__init__(d_model, config, rope)
        self.n_landmarks, self.n_iterations = config.n_landmarks, config.n_iterations
        self.scale = config.score_scale(self.head_dim)

    def approximate(
        self, queries: Float[Tensor, "documents time heads head_dim"], keys: Float[Tensor, "documents time kv_heads head_dim"],
        values: Float[Tensor, "documents time kv_heads head_dim"], lengths: Int[Tensor, " documents"],
    ) -> Float[Tensor, "documents time heads head_dim"]:
        time = queries.shape[1]
        n_landmarks = min(self.n_landmarks, time)
        means = stretches(lengths, time, n_landmarks).to(queries.dtype)  # (documents, landmarks, time)
        there, used = (means > 0).any(1)[:, None, None], (means > 0).any(2)[:, None, None]  # tokens and landmarks, as masks of keys
        queries, keys, values = (x.transpose(1, 2) for x in (queries, keys, values))  # (documents, heads, time, head_dim)
        few_queries, few_keys = means[:, None] @ queries, means[:, None] @ keys
        gathered = self.attend(few_queries, keys, values, attn_mask=there.expand(-1, -1, n_landmarks, -1))
        few_keys = few_keys.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
        exact = torch.promote_types(queries.dtype, torch.float32)  # half precision cannot invert
        among = (self.scale * few_queries @ few_keys.mT).to(exact).masked_fill(~used, -torch.inf).softmax(-1) * used.mT
        spread = (pseudo_inverse(among, self.n_iterations) @ gathered.to(exact)).type_as(gathered)
        mixed = self.attend(queries, few_keys, spread, attn_mask=used.expand(-1, -1, time, -1))
        return mixed.transpose(1, 2)


def stretches(lengths: Int[Tensor, " documents"], time: int, most: int) -> Float[Tensor, "documents most time"]:
    """Weights of the means over equal stretches of each document, `most` or as many as it has tokens; rows behind these are 0."""
    token = torch.arange(time, device=lengths.device)
    stretch = token * lengths.clamp(max=most)[:, None] // lengths[:, None]
    stretch = stretch.masked_fill(token >= lengths[:, None], -1)
    member = (stretch[:, None, :] == torch.arange(most, device=lengths.device)[:, None]).float()
    return member / member.sum(-1, keepdim=True).clamp(min=1)


def pseudo_inverse(a: Float[Tensor, "*batch n n"], n_iterations: int) -> Float[Tensor, "*batch n n"]:
    """The Moore–Penrose inverse by products alone:  Z ← ¼ · Z · (13 − AZ · (15 − AZ · (7 − AZ))),  from  Z = Aᵀ / (‖A‖₁ · ‖A‖∞).

    Rows and columns of zeros stay so.

    Source: Razavi et al. (2014), Abstract and Applied Analysis 2014, 563787; as in Xiong et al. (2021).
    """
    one = torch.eye(a.shape[-1], device=a.device, dtype=a.dtype)
    size = a.abs().sum(-1).amax(-1) * a.abs().sum(-2).amax(-1)
    z = a.mT / size[..., None, None]
    for _ in range(n_iterations):
        az = a @ z
        z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
    return z
