"""Key-value heads made fewer with the least loss: by the principal components of what the heads of a group do.

A head may be turned as long as its partners turn with it. Values and the output's columns may be changed by any invertible matrix; keys and
queries by a complex number for each rotary pair, since that is what rotation by position leaves alone. So a group keeps, of all that its
values can say to the residual stream, the head_dim strongest directions; of its keys, for each pair, the one that says most; and queries and
output are turned to fit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from bloomery.nn.attention import Attention

ROUNDS = 10  # of exchanging heads between groups, at most; two or three are usual


@dataclass(frozen=True)
class Merged:
    """Heads after merging, the key-value heads group by group, and the query heads in the order of their groups.

    Attributes:
        queries: (n_heads, head_dim, d_in), d_in with a last column for the bias, if there is one.
        keys: (groups, head_dim, d_in).
        values: (groups, head_dim, d_in).
        out: (d_model, n_heads, head_dim).
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    out: Tensor


@torch.no_grad()
def merge(attention: Attention, groups: int) -> Merged:
    """Merges the key-value heads of a layer into so many, choosing which go together by what would be lost.

    Source: Yu et al. (2024), arXiv 2406.07056, section 3 (fewer heads by singular values); Jin et al. (2024), arXiv 2412.20677 (which heads go
    together, and that they may be turned first). Departures: by the weights alone, without a calibration set; keys by one complex component
    for each rotary pair, so that rotation by position needs no change.
    """
    rows = attention.qkv.weight.double()
    if attention.qkv.bias is not None:
        rows = torch.cat((rows, attention.qkv.bias.double()[:, None]), dim=1)
    n, kv, width = attention.n_heads, attention.n_kv_heads, attention.head_dim
    queries, keys, values = rows.unflatten(0, (-1, width)).split((n, kv, kv))
    queries = queries.unflatten(0, (kv, -1))  # (kv, heads of it, head_dim, d_in)
    out = attention.out.weight.double().unflatten(1, (kv, -1, width)).movedim(0, 2)  # (kv, heads of it, d_model, head_dim)
    turned_queries, turned_keys = _complex(queries), _complex(keys)
    strength = turned_queries.abs().square().sum((1, 3)).sqrt()  # (kv, pairs): what a key's pair is multiplied by
    heard = [_root(o.flatten(0, 1)) @ v for o, v in zip(out, values, strict=True)]
    voices = torch.stack(heard)  # (kv, head_dim, d_in): values as loud as they are in the stream
    chosen = _grouped(turned_keys * strength[..., None], voices, groups)
    merged = [
        _merge(turned_queries[group], turned_keys[group], strength[group], values[group], voices[group], out[group]) for group in chosen
    ]
    new_queries, new_keys, new_values, new_out = (torch.stack(part) for part in zip(*merged, strict=True))
    return Merged(
        queries=_real(new_queries).flatten(0, 2), keys=_real(new_keys), values=new_values, out=new_out.flatten(0, 2).movedim(1, 0),
    )


def _merge(
    queries: Complex[Tensor, "heads each pairs d_in"], keys: Complex[Tensor, "heads pairs d_in"], strength: Float[Tensor, "heads pairs"],
    values: Float[Tensor, "heads head_dim d_in"], voices: Float[Tensor, "heads head_dim d_in"],
    out: Float[Tensor, "heads each d_model head_dim"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One group's queries, key, value and output."""
    strongest = torch.linalg.svd((keys * strength[..., None]).transpose(0, 1), full_matrices=False).Vh[:, 0]  # (pairs, d_in), of length 1
    parts = (keys * strongest.conj()).sum(-1)  # (heads, pairs): how much of it is in each head
    size = parts.abs().square().mean(0).sqrt().clamp(min=1e-30)  # the new key is as large as the old ones were
    new_queries = queries * (parts / size).conj()[:, None, :, None]
    directions = torch.linalg.svd(voices.flatten(0, 1), full_matrices=False).Vh[: values.shape[1]]  # (head_dim, d_in)
    loudness = (values.square().mean() / directions.square().mean()).sqrt()
    new_out = out @ (values @ directions.mT / loudness)[:, None]
    return new_queries, strongest * size[:, None], directions * loudness, new_out


def _grouped(keys: Complex[Tensor, "heads pairs d_in"], voices: Float[Tensor, "heads head_dim d_in"], groups: int) -> list[list[int]]:
    """Heads in groups of one size such that merging loses little: neighbours, then better by exchanging two heads at a time."""
    heads = keys.shape[0]
    by_pair = torch.einsum("apd,bpd->pab", keys, keys.conj())  # products of heads, pair by pair
    by_voice = torch.einsum("aid,bjd->aibj", voices, voices)
    all_keys, all_voices = by_pair.diagonal(dim1=1, dim2=2).real.sum(), torch.einsum("aiai->", by_voice)

    def lost(group: list[int]) -> float:
        of_keys = torch.linalg.eigvalsh(by_pair[:, group][:, :, group])[:, :-1].sum()
        gram = by_voice[group][:, :, group].flatten(2).flatten(0, 1)
        of_voices = torch.linalg.eigvalsh(gram)[: -voices.shape[1]].sum()
        return float(of_keys / all_keys + of_voices / all_voices)

    chosen = [list(range(i, i + heads // groups)) for i in range(0, heads, heads // groups)]
    costs = [lost(group) for group in chosen]
    for _ in range(ROUNDS):
        better = False
        for a, b in itertools.combinations(range(groups), 2):
            for i, j in itertools.product(range(heads // groups), repeat=2):
                one, other = chosen[a].copy(), chosen[b].copy()
                one[i], other[j] = other[j], one[i]
                found = [lost(one), lost(other)]
                if sum(found) < costs[a] + costs[b] - 1e-9:
                    chosen[a], chosen[b], (costs[a], costs[b]), better = one, other, found, True
        if not better:
            break
    return [sorted(group) for group in chosen]


def _root(matrix: Tensor) -> Tensor:
    """R with RᵀR = MᵀM, (columns, columns)."""
    _, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    return sizes[:, None] * right


def _complex(x: Tensor) -> Tensor:
    """Rotary pairs (…, head_dim, d_in) as complex numbers (…, head_dim / 2, d_in)."""
    first, second = x.chunk(2, dim=-2)
    return torch.complex(first, second)


def _real(x: Tensor) -> Tensor:
    """Back from `_complex`."""
    return torch.cat((x.real, x.imag), dim=-2)
