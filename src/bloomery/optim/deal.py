"""Dealing matrices that several ranks have parts of out to these ranks, so that each has some of them whole for a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from bloomery.mesh.exchange import routed
from bloomery.optim.blocks import Blocks
from bloomery.optim.groups import Member


class Matrix(NamedTuple):
    """One of the matrices in a parameter.

    Attributes:
        member: number of the parameter.
        block: number of the matrix in it.
        owner: the rank that has it whole.
    """

    member: int
    block: int
    owner: int


def is_shared(member: Member) -> bool:
    """Whether several ranks have parts of it."""
    return member.held is not None and member.held.cut.size > 1


def deals(members: Iterable[Member]) -> list[Deal]:
    """A deal for each set of ranks that share some of these parameters."""
    by_ranks: dict[tuple[int, ...], list[Member]] = {}
    for member in members:
        if member.held is not None and is_shared(member):
            by_ranks.setdefault(member.held.cut.ranks, []).append(member)
    return [Deal(shared) for shared in by_ranks.values()]


class Deal:
    """The matrices in parameters that the same ranks share, dealt out by how long they take: the longest first, to whom has least to do.

    Args:
        members: the parameters, in the same order on all of the ranks.

    Source: the longest-first rule: Graham (1969), "Bounds on multiprocessing timing anomalies".
    """

    def __init__(self, members: Sequence[Member]) -> None:
        held = [member.held for member in members if member.held is not None]
        self.axis, self.parameters = held[0].cut, [member.parameter for member in members]
        device = members[0].parameter.device
        self.blocks = [[Blocks(m.blocks, part, device) for part in one.parts] for m, one in zip(members, held, strict=True)]
        matrices = [(number, block) for number, member in enumerate(members) for block in range(len(member.blocks))]
        owners, busy = {}, [0] * self.axis.size
        for number, block in sorted(matrices, key=lambda at: (-self._work(*at), at)):
            owner = owners[number, block] = min(range(self.axis.size), key=busy.__getitem__)
            busy[owner] += self._work(number, block)
        ordered = [Matrix(*at, owners[at]) for at in matrices]
        self.by_owner = [[matrix for matrix in ordered if matrix.owner == rank] for rank in range(self.axis.size)]

    @property
    def own(self) -> list[Matrix]:
        """Those that this rank has whole."""
        return self.by_owner[self.axis.index]

    def collect(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """This rank's matrices whole, from tensors that are shaped like the parameters' parts; all ranks must ask."""
        here = [blocks[self.axis.index] for blocks in self.blocks]
        pieces = [blocks.flat(x).split(blocks.counts) for blocks, x in zip(here, tensors, strict=True)]
        sent = [[pieces[number][block] for number, block, _ in matrices] for matrices in self.by_owner]
        arrived = self._exchange(sent, [[self._shape(matrix, rank) for matrix in self.own] for rank in range(self.axis.size)])
        whole = [tensors[0].new_empty(self.blocks[number][0].heights[block], self.blocks[number][0].width) for number, block, _ in self.own]
        for rank, of_rank in enumerate(arrived):
            for matrix, to, piece in zip(self.own, whole, of_rank, strict=True):
                to[self._place(matrix, rank)] = piece
        return whole

    def give_back(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """What `collect` was given: parts of parameters, from this rank's matrices and the others'; all ranks must ask."""
        here = self.axis.index
        sent = [[x[self._place(matrix, rank)] for matrix, x in zip(self.own, matrices, strict=True)] for rank in range(self.axis.size)]
        arrived = self._exchange(sent, [[self._shape(matrix, here) for matrix in of_rank] for of_rank in self.by_owner])
        pieces: list[list[Tensor]] = [[] for _ in self.parameters]
        for matrix, piece in sorted(zip(chain(*self.by_owner), chain(*arrived), strict=True), key=lambda both: both[0]):
            pieces[matrix.member].append(piece)
        return [torch.cat(of_one).view_as(parameter) for of_one, parameter in zip(pieces, self.parameters, strict=True)]

    def _exchange(self, sent: Sequence[Sequence[Tensor]], shapes: Sequence[Sequence[tuple[int, int]]]) -> list[list[Tensor]]:
        """Sends some matrices to each rank, and gets some of known shapes from each."""
        empty = self.parameters[0].new_empty(0)
        flat = torch.cat([empty, *(piece.flatten() for to_rank in sent for piece in to_rank)])
        sizes = [[rows * columns for rows, columns in of_rank] for of_rank in shapes]
        out = routed(flat, self.axis, [sum(piece.numel() for piece in to_rank) for to_rank in sent], [sum(of_rank) for of_rank in sizes])
        return [
            [piece.view(shape) for piece, shape in zip(said.split(of_rank), shapes_of_rank, strict=True)]
            for said, of_rank, shapes_of_rank in zip(out.split([sum(of_rank) for of_rank in sizes]), sizes, shapes, strict=True)
        ]

    def _shape(self, matrix: Matrix, rank: int) -> tuple[int, int]:
        """Of what a rank has of a matrix."""
        blocks = self.blocks[matrix.member][rank]
        return blocks.counts[matrix.block], len(blocks.columns)

    def _place(self, matrix: Matrix, rank: int) -> tuple[Tensor, Tensor]:
        """Which of a matrix's numbers a rank has, as an index."""
        blocks = self.blocks[matrix.member][rank]
        rows = blocks.within.split(blocks.counts)[matrix.block]
        return rows[:, None], blocks.columns

    def _work(self, number: int, block: int) -> int:
        """Operations that a matrix takes, in proportion."""
        height, width = self.blocks[number][0].heights[block], self.blocks[number][0].width
        return height * width * min(height, width)
