"""Fingerprints of tensors that add up: those of the parts, however a tensor is divided, come to that of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import Tensor

from bloomery.mesh import Part
from bloomery.mesh.part import box

INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
AT_ONCE = 1 << 21  # numbers that are looked at in one go, which bounds the memory
SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)  # an odd number without structure: 2⁶⁴ / the golden ratio


def fingerprint(part: Part, local: Tensor) -> int:
    """What a part of a tensor adds to the fingerprint of the whole.

        Σᵢ bits(xᵢ) · w(i)  mod 2⁶⁴,  w(i) = (iK ⊕ (iK ≫ 29)) | 1,  K = ⌊2⁶⁴ / φ⌋

    over the places i that the part has, as the whole tensor counts them, row by row. w is odd, so that no change of a single number goes
    unseen; numbers that changed places show because w differs from place to place. It is no defence against forgery.

    Args:
        part: which part it is.
        local: its numbers, of any type, on any device.

    Returns:
        A signed integer of 64 bits.
    """
    strides = [prod(part.shape[dim + 1 :]) for dim in range(len(part.shape))]
    found = [_of_box(box(local, piece.local, piece.shape), piece.start, strides) for piece in part.pieces()]
    return summed_up(int(one) for one in found)


def summed_up(prints: Iterable[int]) -> int:
    """The fingerprint that several parts have together."""
    return (sum(prints) + (1 << 63)) % (1 << 64) - (1 << 63)


def _of_box(numbers: Tensor, start: tuple[int, ...], strides: list[int]) -> Tensor:
    numbers = numbers.detach()
    if numbers.ndim == 0:
        numbers, start, strides = numbers[None], (0,), [1]
    total = torch.zeros((), dtype=torch.int64, device=numbers.device)
    rows = max(1, AT_ONCE // prod(numbers.shape[1:]))
    for first in range(0, numbers.shape[0], rows):
        some = numbers[first : first + rows].contiguous()
        index = torch.zeros((), dtype=torch.int64, device=numbers.device)
        for dim, length in enumerate(some.shape):
            low = start[dim] + (first if dim == 0 else 0)
            places = torch.arange(low, low + length, device=numbers.device) * strides[dim]
            index = index[..., None] + places
        mixed = index.mul_(SPREAD)
        weights = mixed.bitwise_xor_(mixed >> 29).bitwise_or_(1)
        total += weights.mul_(some.view(INTEGERS[some.element_size()])).sum()
    return total
