"""Slots: where a cache keeps a vector, or one for each head, of each place of its rows; as it is, in 8 bits, or in pages of a pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny


class Slots(ABC):
    """Room for what is kept of each place, by rows. What was never written must still be numbers, since it is masked and not left out."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Places of a row."""

    @abstractmethod
    def write(self, rows: Int[Tensor, "some _"], places: Int[Tensor, "some time"], new: Shaped[Tensor, "some time ..."]) -> None:
        """Keeps something of some places of some rows.

        Args:
            rows: one for each row of places, or for each place.
            places: in these rows.
            new: what is kept of each.
        """

    @abstractmethod
    def read(self, past: int) -> Shaped[Tensor, "batch past ..."]:
        """What is kept of the first places of all rows; not to be changed."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " kept"]) -> Slots:
        """Those of some of the rows, copied."""

    @abstractmethod
    def view(self, rows: slice) -> Slots:
        """Those of some neighbouring rows, in the same memory."""

    @abstractmethod
    def pages(self, count: int, size: int) -> Slots:
        """Empty ones of the same kind for so many rows of so many places, which are to be read a row at a time."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that they take."""

    def begin(self, batch: int, kept: Shaped[Tensor, "places ..."]) -> None:
        """Keeps the same of the first places of all rows, of which there are so many."""
        rows, places = torch.arange(batch, device=kept.device), torch.arange(len(kept), device=kept.device)
        self.write(rows[:, None], places.expand(batch, -1), kept.expand(batch, *kept.shape))

    def put(self, row: int, other: Slots, from_row: int, length: int) -> None:
        """Keeps of the first places of a row what others keep of those of one of theirs; no more than they have places."""
        its = other.view(slice(from_row, from_row + 1)).read(min(length, other.capacity))
        places = torch.arange(its.shape[1], device=its.device)[None]
        self.write(torch.full_like(places[:, :1], row), places, its)


class Plain(Slots):
    """Slots that keep numbers as they are, or rounded to the precision of their memory.

    Args:
        held: (batch, capacity, …).
    """

    def __init__(self, held: Shaped[Tensor, "batch capacity ..."]) -> None:
        self.held = held

    @classmethod
    def empty(cls, batch: int, capacity: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Plain:
        """Room for a tensor of a shape, (width,) or (heads, width), of each place."""
        *heads, width = shape  # in memory, head by head: so attention reads them, a quarter faster
        return cls(torch.zeros(batch, *heads, capacity, width, dtype=dtype, device=device).movedim(-2, 1))

    @property
    def capacity(self) -> int:
        return self.held.shape[1]

    @property
    def nbytes(self) -> int:
        return self.held.nbytes

    def write(self, rows: Int[Tensor, "some _"], places: Int[Tensor, "some time"], new: Shaped[Tensor, "some time ..."]) -> None:
        self.held[rows, places] = new.to(self.held.dtype)

    def read(self, past: int) -> Shaped[Tensor, "batch past ..."]:
        return self.held[:, :past]

    def select(self, rows: Int[Tensor, " kept"]) -> Plain:
        if self.held.is_contiguous():
            return Plain(self.held.index_select(0, rows))
        return Plain(self.held.movedim(1, -2).index_select(0, rows).movedim(-2, 1))  # which leaves heads where they are in memory

    def view(self, rows: slice) -> Plain:
        return Plain(self.held[rows])

    def put(self, row: int, other: Slots, from_row: int, length: int) -> None:
        if isinstance(other, Plain):
            length = min(length, other.capacity)
            self.held[row, :length] = other.held[from_row, :length]
        else:
            super().put(row, other, from_row, length)

    def pages(self, count: int, size: int) -> Plain:
        return Plain(self.held.new_zeros(count, size, *self.held.shape[2:]))  # in memory, place by place: pages follow each other


class Int8(Slots):
    """Slots that keep vectors in 8 bits: 255 equal steps from −max to max of each vector, which is of one head at one place.

        |error of a number| ≤ ½ · step,   step = max |x| / 127

    Args:
        codes: what is kept of each vector.
        steps: the step of each, (…, 1).

    Source: per token and head as in Hooper et al. (2024), KVQuant, arXiv 2401.18079, section 3, for values; here for keys, too, which are
    kept as they are turned.
    """

    def __init__(self, codes: Slots, steps: Slots) -> None:
        self.codes, self.steps = codes, steps

    @classmethod
    def empty(cls, batch: int, capacity: int, shape: Sequence[int], device: torch.device) -> Int8:
        """Room for a tensor of a shape, (width,) or (heads, width), of each place."""
        codes = Plain.empty(batch, capacity, shape, torch.int8, device)
        return cls(codes, Plain.empty(batch, capacity, (*shape[:-1], 1), torch.float32, device))

    @property
    def capacity(self) -> int:
        return self.codes.capacity

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.steps.nbytes

    def write(self, rows: Int[Tensor, "some _"], places: Int[Tensor, "some time"], new: Float[Tensor, "some time ..."]) -> None:
        steps = (new.float().abs().amax(-1, keepdim=True) / 127).clamp_(min=TINY)
        self.codes.write(rows, places, (new / steps).round_())
        self.steps.write(rows, places, steps)

    def read(self, past: int) -> Float[Tensor, "batch past ..."]:
        return self.codes.read(past) * self.steps.read(past)

    def select(self, rows: Int[Tensor, " kept"]) -> Int8:
        return Int8(self.codes.select(rows), self.steps.select(rows))

    def view(self, rows: slice) -> Int8:
        return Int8(self.codes.view(rows), self.steps.view(rows))

    def put(self, row: int, other: Slots, from_row: int, length: int) -> None:
        if isinstance(other, Int8):
            self.codes.put(row, other.codes, from_row, length)
            self.steps.put(row, other.steps, from_row, length)
        else:
            super().put(row, other, from_row, length)

    def pages(self, count: int, size: int) -> Int8:
        return Int8(self.codes.pages(count, size), self.steps.pages(count, size))


class Paged(Slots):
    """Slots whose rows are pages of a pool: places s to 2s − 1 of a row are in the second page that the row has, wherever that lies.

    Who sees to it which pages a row has writes them into the table; several rows may have a page in common that none of them writes to. There
    is no kernel that would read pages where they lie, so that to read them copies them.

    Args:
        pool: its rows are the pages.
        table: (batch, most) numbers of pages; any page will do where a row has none.

    Source: Kwon et al. (2023), arXiv 2309.06180, section 4.
    """

    def __init__(self, pool: Slots, table: Int[Tensor, "batch most"]) -> None:
        self.pool, self.table = pool, table

    @property
    def capacity(self) -> int:
        return self.table.shape[1] * self.pool.capacity

    @property
    def nbytes(self) -> int:
        return self.pool.nbytes + self.table.nbytes

    def write(self, rows: Int[Tensor, "some _"], places: Int[Tensor, "some time"], new: Shaped[Tensor, "some time ..."]) -> None:
        self.pool.write(self.table[rows, places // self.pool.capacity], places % self.pool.capacity, new)

    def read(self, past: int) -> Shaped[Tensor, "batch past ..."]:
        pages = self.table[:, : -(-past // self.pool.capacity)]
        found = self.pool.select(pages.flatten()).read(self.pool.capacity)  # (batch · pages, size, …)
        return found.unflatten(0, pages.shape).flatten(1, 2)[:, :past]

    def select(self, rows: Int[Tensor, " kept"]) -> Slots:
        raise NotImplementedError("pages of a pool belong to the rows that they are of, and rows of them are not copied")

    def view(self, rows: slice) -> Paged:
        return Paged(self.pool, self.table[rows])

    def pages(self, count: int, size: int) -> Slots:
        return self.pool.pages(count, size)
