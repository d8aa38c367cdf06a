"""The matrices inside parameters, of which a rank may hold parts only: where they lie, and sums over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bloomery.mesh.held import sum_each
from bloomery.mesh.part import Part
from bloomery.optim.groups import Member


class Stack(NamedTuple):
    """Neighbouring matrices of which a part has equally many rows.

    Attributes:
        blocks: which ones, numbered in the whole parameter.
        rows: where their rows lie in the part.
        values: (blocks, rows, columns), a view.
    """

    blocks: slice
    rows: slice
    values: Tensor


class Blocks:
    """The matrices that a parameter holds, one above the other, as far as a part of it has them. A vector is a matrix of one row.

    Args:
        heights: rows of each in the whole, where all dimensions but the last count as rows.
        part: of the parameter.
        device: where indices are wanted.

    Attributes:
        heights: rows of each in the whole.
        width: columns of all in the whole.
        counts: rows of each in the part.
        rows: number, within the whole, of each row of the part.
        block: number of the matrix of each row of the part.
        within: number, within its matrix, of each row of the part.
        columns: number, within the whole, of each column of the part.
        sizes: (blocks,), numbers in each whole matrix.
    """

    def __init__(self, heights: Sequence[int], part: Part, device: torch.device) -> None:
        ends, rows = np.cumsum(heights), np.arange(prod(part.shape[:-1])).reshape(part.shape[:-1])
        for dim, runs in enumerate(part.runs[:-1]):
            rows = np.take(rows, _indices(runs), axis=dim)
        rows = rows.flatten()
        block = np.searchsorted(ends, rows, side="right")
        self.heights, self.width = tuple(heights), part.shape[-1]
        self.counts: list[int] = np.bincount(block, minlength=len(ends)).tolist()
        within, sizes = rows - (ends - np.array(heights))[block], np.array(heights) * self.width
        self.rows, self.block, self.within, self.columns, self.sizes = (
            torch.tensor(numbers, dtype=torch.long, device=device) for numbers in (rows, block, within, _indices(part.runs[-1]), sizes)
        )

    @classmethod
    def of(cls, member: Member) -> Blocks:
        """Those of what this rank has of a member."""
        part = Part.whole(member.parameter.shape) if member.held is None else member.held.part
        return cls(member.blocks, part, member.parameter.device)

    def flat(self, part: Tensor) -> Tensor:
        """(rows, columns) of a tensor that is shaped like the part; a view where it can be."""
        return part.reshape(len(self.rows), len(self.columns))

    def stacks(self, part: Tensor) -> Iterator[Stack]:
        """The matrices' parts in a tensor that is shaped like the part, in order, as few stacks as can be."""
        flat, first, row = self.flat(part), 0, 0
        while first < len(self.counts):
            height, last = self.counts[first], first + 1
            while last < len(self.counts) and self.counts[last] == height:
                last += 1
            end = row + height * (last - first)
            yield Stack(slice(first, last), slice(row, end), flat[row:end].view(last - first, height, flat.shape[1]))
            first, row = last, end

    def squares(self, part: Tensor) -> Tensor:
        """(blocks,): the sum of the squares of what the part has of each matrix."""
        return torch.cat([torch.linalg.vector_norm(stack.values, dim=(1, 2)).square() for stack in self.stacks(part)])

    def sums(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Of what the part has: the sum of each row, (rows of the whole,), and of each column of each matrix, (blocks · columns of the
        whole,)."""
        rows, columns = part.new_zeros(sum(self.heights)), part.new_zeros(len(self.heights), self.width)
        rows[self.rows] = self.flat(part).sum(1)
        for stack in self.stacks(part):
            columns[stack.blocks, self.columns] = stack.values.sum(1)
        return rows, columns.flatten()

    def scale(self, part: Tensor, factors: Tensor) -> None:
        """Multiplies each matrix's part, in place, by its factor, of (blocks,)."""
        assert part.is_contiguous(), "what is not contiguous has no view to write to"
        for stack in self.stacks(part):
            stack.values.mul_(factors[stack.blocks, None, None])


def _indices(runs: Sequence[range]) -> np.ndarray:
    return np.concatenate([np.arange(0), *(np.arange(run.start, run.stop) for run in runs)])


class Shapes:
    """The matrices in each of some parameters, and sums over them wherever their parts lie.

    Args:
        members: the parameters.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members: Mapping[Tensor, Member] = {member.parameter: member for member in members}
        self.blocks: Mapping[Tensor, Blocks] = {member.parameter: Blocks.of(member) for member in members}

    def add_up(self, parameters: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
        """Adds up, in place, what each rank says of its parts of some parameters, over the ranks that share each."""
        held = [self.members[parameter].held for parameter in parameters]
        sum_each((one.cut, number) for one, number in zip(held, numbers, strict=True) if one is not None)

    def norms(self, parameters: Sequence[Tensor], *tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """The norm of each whole matrix in each of some lists of tensors, which are shaped like parameters: (blocks,) each."""
        squares = [[self.blocks[p].squares(x) for p, x in zip(parameters, some, strict=True)] for some in tensors]
        self.add_up([*parameters] * len(tensors), [one for some in squares for one in some])
        return [[one.sqrt() for one in some] for some in squares]
