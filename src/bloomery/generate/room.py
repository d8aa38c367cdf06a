"""`Room`: where an engine keeps what its model has read, of texts under way and of those that are done; in rows, or in pages of one pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch

from bloomery.core.errors import ConfigError
from bloomery.models.model import CausalModel
from bloomery.nn.cache import Cache
from bloomery.nn.slots import Paged

Kept = TypeVar("Kept")
LEAST_SHARED = 16  # tokens that a text has in common with one that is remembered; fewer are read faster than copied
PAGE = 32  # places of a page: fewer take longer to find, more leave more of the last page of each text empty


class Room(ABC, Generic[Kept]):
    """Texts under way have rows, side by side from 0 on. One more is on the desk, until it is read.

    Args:
        model: whose.
        remembers: tokens of texts that are done with, altogether, of which is kept what was read.

    Attributes:
        desk: a cache of one row, of the text that is being read.
        known: what is remembered, by its tokens; what was used last is the last.
    """

    desk: Cache

    def __init__(self, model: CausalModel, remembers: int) -> None:
        self._remembers = remembers
        self._blank = model.new_cache(1, 1)
        self._first = max((slots.capacity for slots in self._blank.slots), default=1) - 1  # places of adapters, before or among the tokens
        self.known: OrderedDict[tuple[int, ...], Kept] = OrderedDict()

    @abstractmethod
    def open(self, ids: Sequence[int], fresh: bool) -> int | None:
        """Clears the desk for a text; returns how much of it is remembered and needs not be read, or None while there is no room for it.

        Args:
            ids: all its tokens; the last one is read in any case, for what comes behind it.
            fresh: whether all of it is to be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Takes from the desk what lies there."""

    @abstractmethod
    def seat(self, row: int, length: int) -> None:
        """Gives what is on the desk, of so many tokens, a row: that behind the last one."""

    @abstractmethod
    def grow(self, row: int, length: int) -> bool:
        """Whether a row has room for so many tokens, or gets it."""

    @abstractmethod
    def view(self, rows: int) -> Cache:
        """The cache of the first rows."""

    @abstractmethod
    def leave(self, row: int, read: tuple[int, ...], last: int, length: int) -> None:
        """Lets go of a row, and has the last one take its place.

        Args:
            row: which.
            read: its tokens that were read.
            last: the last row, which may be the same.
            length: tokens that were read of that.
        """

    def _alike(self, ids: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """How much of a text is remembered, and of which one."""
        shared, best = 0, tuple[int, ...]()
        for known in self.known:
            alike = common(known, ids[: len(ids) - 1])
            if alike > shared and (self._blank.by_place or alike == len(known)):
                shared, best = alike, known
        if shared < LEAST_SHARED:
            return 0, ()
        self.known.move_to_end(best)
        return shared, best

    def _worth_keeping(self, read: tuple[int, ...]) -> bool:
        return LEAST_SHARED <= len(read) <= self._remembers and read not in self.known

    def _forget(self) -> None:
        """Forgets what was used longest ago."""
        self.known.popitem(last=False)

    def _keep(self, read: tuple[int, ...], kept: Kept) -> None:
        self.known[read] = kept
        while sum(map(len, self.known)) > self._remembers:
            self._forget()


class Rows(Room[Cache]):
    """Each row has room for the longest text, in memory that is taken once. What is remembered is copied, there and back.

    Args:
        model: whose.
        rows: of texts under way.
        capacity: tokens of each.
        remembers: see `Room`.
    """

    def __init__(self, model: CausalModel, rows: int, capacity: int, remembers: int) -> None:
        super().__init__(model, remembers)
        self._model, self._capacity = model, capacity
        self._cache, self.desk = model.new_cache(rows, capacity), model.new_cache(1, capacity)

    def open(self, ids: Sequence[int], fresh: bool) -> int:
        shared, best = (0, ()) if fresh else self._alike(ids)
        if shared:
            self.desk.put(0, self.known[best], 0, shared + self._first)
        elif not self.desk.by_place:
            self.desk = self._model.new_cache(1, self._capacity)  # a state that has read something cannot go back
        return shared

    def close(self) -> None:
        """Nothing: what comes next writes over it."""

    def seat(self, row: int, length: int) -> None:
        self._cache.put(row, self.desk, 0, length + self._first)

    def grow(self, row: int, length: int) -> bool:
        return True

    def view(self, rows: int) -> Cache:
        return self._cache.view(slice(0, rows))

    def leave(self, row: int, read: tuple[int, ...], last: int, length: int) -> None:
        if self._worth_keeping(read):
            cache = self._model.new_cache(1, len(read))
            cache.put(0, self._cache, row, len(read) + self._first)
            self._keep(read, cache)
        if row < last:
            self._cache.put(row, self._cache, last, length + self._first)


class Pages(Room[list[int]]):
    """Rows take pages from one pool as they grow, and give them back. A text that begins like one that is remembered has its whole pages in
    common with it, which nobody writes to, and a copy of the one in which they part.

    Args:
        model: whose; one that can go back.
        rows: of texts under way.
        capacity: tokens of each, at most.
        remembers: see `Room`; forgotten as soon as its pages are needed.
        tokens: that the pool has room for.

    Source: Kwon et al. (2023), arXiv 2309.06180, section 4.
    """

    def __init__(self, model: CausalModel, rows: int, capacity: int, remembers: int, tokens: int) -> None:
        super().__init__(model, remembers)
        if not self._blank.by_place:
            raise ConfigError(f"a {model.config.kind()} has states, which are not kept by place and have no pages; leave the pool out")
        most, count = self._pages(capacity), self._pages(tokens)
        if most > count:
            raise ConfigError(f"a pool of {tokens} tokens has no room for one text of capacity={capacity}; give as many, or less capacity")
        self._table = torch.zeros(rows + 1, most, dtype=torch.long, device=model.device)
        cache = self._blank.other(rows + 1, lambda slots: Paged(slots.pages(count + 1, PAGE), self._table))
        self._slots = [slots for slots in cache.slots if isinstance(slots, Paged)]
        self._cache, self.desk, self._desk = cache, cache.view(slice(rows, rows + 1)), rows
        self._own: list[list[int]] = [[] for _ in range(rows + 1)]
        self._used = [0] * (count + 1)  # by how many rows and texts that are remembered
        self._free = list(range(count, 0, -1))  # page 0 is nobody's: it stands where a row has none

    def open(self, ids: Sequence[int], fresh: bool) -> int | None:
        shared, best = (0, ()) if fresh else self._alike(ids)
        whole, wanted = shared // PAGE, self._pages(len(ids) + 1)
        known = self.known.get(best, [])
        kept = known[: self._pages(shared)] if shared else []
        self._use(kept)
        under_way = sum(map(bool, self._own[: self._desk]))
        if not self._make_room(wanted - whole + under_way):  # a page for each of those that grow, lest they are put back at once
            self._give_back(kept)
            return None
        pages = kept[:whole] + [self._free.pop() for _ in range(wanted - whole)]
        for copy, page in zip(pages[whole:], kept[whole:], strict=False):
            for slots in self._slots:
                slots.pool.put(copy, slots.pool, page, PAGE)
        self._use(pages[whole:])
        self._give_back(kept[whole:])
        self._set(self._desk, pages)
        if not shared and self._first:
            self.desk.put(0, self._blank, 0, self._first)
        return shared

    def close(self) -> None:
        self._give_back(self._own[self._desk])
        self._set(self._desk, [])

    def seat(self, row: int, length: int) -> None:
        self._set(row, self._own[self._desk])
        self._set(self._desk, [])

    def grow(self, row: int, length: int) -> bool:
        more = self._pages(length) - len(self._own[row])
        if not self._make_room(more):
            return False
        new = [self._free.pop() for _ in range(more)]
        self._use(new)
        if new:
            self._set(row, self._own[row] + new)
        return True

    def view(self, rows: int) -> Cache:
        return self._cache.view(slice(0, rows))

    def leave(self, row: int, read: tuple[int, ...], last: int, length: int) -> None:
        if self._worth_keeping(read):
            pages = self._own[row][: self._pages(len(read))]
            self._use(pages)
            self._keep(read, pages)
        self._give_back(self._own[row])
        self._set(row, self._own[last] if row < last else [])
        if row < last:
            self._set(last, [])

    def _forget(self) -> None:
        self._give_back(self.known.popitem(last=False)[1])

    def _make_room(self, count: int) -> bool:
        """Whether so many pages are free, or get free when texts are forgotten."""
        while len(self._free) < count and self.known:
            self._forget()
        return len(self._free) >= count

    def _pages(self, tokens: int) -> int:
        """In how many pages there is room for so many tokens of a text."""
        return -(-(tokens + self._first) // PAGE)

    def _set(self, row: int, pages: list[int]) -> None:
        self._own[row] = pages
        self._table[row] = torch.tensor(pages + [0] * (self._table.shape[1] - len(pages)))

    def _use(self, pages: Sequence[int]) -> None:
        for page in pages:
            self._used[page] += 1

    def _give_back(self, pages: Sequence[int]) -> None:
        for page in pages:
            self._used[page] -= 1
            if not self._used[page]:
                self._free.append(page)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
