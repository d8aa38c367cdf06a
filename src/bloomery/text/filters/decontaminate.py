"""`Decontaminate`: nothing of the examination in the lessons."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le, MinLen

from bloomery.text.filters.cutting import character_spans, replaced
from bloomery.text.filters.filter import SPANS, Filter, Measure, Verdicts
from bloomery.text.readers.reader import Reader
from bloomery.text.shingles import U64, Words, ranges, shingles, windows, windows_at, words_of

MASK = "[masked]"
"""What stands for words that are masked: a word, so that what it parts makes no new run."""
MAX_SLOT_BITS = 27  # of a table that says, of most runs of words at one look, that they are in no test: 128 MB


class Decontaminate(Filter):
    """Drops documents in which items of a test stand, or masks what stands there of them.

    A test is any source of documents: each is an item, a question with its passage, choices and answer, say. It counts as its runs of `words`
    words, whatever their case and punctuation, and has leaked into a document that contains more than `max_share` of them. An item with fewer
    words is one run as a whole, unless it has fewer than `min_words`: so few would be found by chance. Runs that more than `max_items` items
    share are the test's own form ("Choose the right answer: …") and do not count. `blind` names the items of which nothing is left to look for.

    The verdict names the item with the largest share, and the spans are what stands there of all items that leaked.

    `max_share=0` is the strictest reading: a single run is a leak. Stories after templates, such as the tales, share runs though nothing has
    leaked; there, any share between 0.1 and 0.5 parts the two.

    Source: Brown et al. (2020), arXiv 2005.14165, appendix C, for runs of 8 to 13 words, lower case and without punctuation; Chowdhery et al.
    (2022), arXiv 2204.02311, for the share. Departures: runs are too common by the items that share them, and not by the documents that do,
    since a question that many pages copy has leaked all the same; documents go whole, or lose the words, and not 200 characters around them.
    """

    tests: Annotated[tuple[Reader, ...], MinLen(1)]
    """What must not be learnt: each document of them is an item."""
    words: Annotated[int, Ge(2)] = 13
    """Words in a run."""
    min_words: Annotated[int, Ge(2)] = 8
    """Items with fewer words are not looked for."""
    max_share: Annotated[float, Ge(0), Le(1)] = 0.3
    """The share of an item's runs up to which a document may stay as it is."""
    max_items: Annotated[int, Ge(1)] = 10
    """Runs that stand in more items than this do not count."""
    action: Literal["drop", "mask"] = "drop"
    """"drop": the document goes. "mask": the words give way to "[masked]"; conversations go all the same: a masked turn teaches nothing."""

    def check(self) -> None:
        if self.min_words > self.words:
            raise self.refuse("min_words", f"is above words={self.words}; use at most that")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        found = self._found(batch.column("text"))
        if not len(found.rows):
            return replace(Verdicts.keep(batch), measures=(found.share,))
        index, n = self._index(), batch.num_rows
        reasons = np.full(n, None, object)
        best = np.lexsort((found.items, -found.shares, found.rows))[::-1]
        names = index.ids.take(pa.array(found.items[best])).to_pylist()
        reasons[found.rows[best]] = [f"leak of {id}" for id in names]  # of a document's items, the one with the largest share is said last
        column = pa.array(reasons, pa.string())
        leaky = column.is_valid()
        every = Verdicts(
            batch=batch, reasons=column, dropped=leaky, values=pc.if_else(leaky, found.share.values, None), threshold=self.max_share,
            spans=character_spans(batch.column("text"), found.starts, found.ends), measures=(found.share,),
        )  # fmt: skip
        return every if self.action == "drop" else self._masked(every, found)

    def _masked(self, every: Verdicts, found: _Found) -> Verdicts:
        """The verdicts that mask what others would drop."""
        batch, talk = every.batch, every.batch.column("messages").is_valid()
        text = before = batch.column("text")
        while len(found.starts):  # beside a mask, words may come to stand that were apart; each round leaves fewer words
            masked = replaced(text, found.starts, found.ends, MASK)
            text = pc.if_else(talk, before, masked)
            found = self._found(pc.if_else(talk, "", masked))
        places = [[{"start": m.start(), "end": m.end()} for m in re.finditer(re.escape(MASK), t)] if leaky else None
                  for t, leaky in zip(text.to_pylist(), every.dropped.to_pylist(), strict=True)]  # fmt: skip
        return replace(
            every, batch=batch.set_column(batch.schema.get_field_index("text"), batch.schema.field("text"), text),
            dropped=pc.and_(every.dropped, talk), spans=pc.if_else(talk, every.spans, pa.array(places, SPANS)),
        )  # fmt: skip

    def leaks(self, batch: pa.RecordBatch) -> pa.Table:
        """All leaks into some documents: a row for each document and item, with the columns `item`, `document` and `share`."""
        found = self._found(batch.column("text"))
        items, documents = self._index().ids.take(pa.array(found.items)), batch.column("id").take(pa.array(found.rows))
        return pa.table({"item": items, "document": documents, "share": found.shares})

    def blind(self) -> list[str]:
        """The ids of the items that cannot be looked for: too short, or nothing but runs that many items share."""
        index = self._index()
        return index.ids.filter(pa.array(index.sizes == 0)).to_pylist()

    def _index(self) -> _Index:
        return _read(_Tests(self.tests, repr(self.tests)), self.words, self.min_words, self.max_items)

    def _found(self, text: pa.StringArray) -> _Found:
        index, words = self._index(), words_of(text)
        key, row, start, length = index.hits(words)
        count = np.diff(index.starts)[key]
        hit = np.repeat(np.arange(len(key)), count)
        item = index.items[ranges(index.starts[key], count)]
        pair = row[hit] * len(index.ids) + item
        runs = np.unique(np.stack([pair, key[hit]]), axis=1)[0]  # each run of an item once, however often a document has it
        pairs, shared = np.unique(runs, return_counts=True)
        rows, items = np.divmod(pairs, max(1, len(index.ids)))
        shares = shared / index.sizes[items]
        most = np.zeros(len(text))
        np.maximum.at(most, rows, shares)
        leaked = shares > self.max_share
        at = np.unique(hit[np.isin(pair, pairs[leaked])])
        return _Found(
            rows[leaked], items[leaked], shares[leaked], words.starts[start[at]], words.ends[start[at] + length[at] - 1],
            Measure(name="leaked_share", values=pa.array(most), high=self.max_share),
        )  # fmt: skip


def leak_report(leaks: Iterable[pa.Table]) -> pa.Table:
    """What leaked, by item: `item`, `documents` (a list of ids) and `share` (the largest); items in the order in which they were met.

    Args:
        leaks: what `Decontaminate.leaks` says of each batch.
    """
    empty = pa.table({"item": pa.array([], pa.string()), "document": pa.array([], pa.string()), "share": pa.array([], pa.float64())})
    grouped = pa.concat_tables([empty, *leaks]).group_by("item", use_threads=False).aggregate([("document", "list"), ("share", "max")])
    return grouped.select(["item", "document_list", "share_max"]).rename_columns(["item", "documents", "share"])


class _Found(NamedTuple):
    """Leaks into some texts: whose, of which items, and what share; where all that leaked lies in the bytes; the largest share of each text."""

    rows: np.ndarray
    items: np.ndarray
    shares: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    share: Measure


class _Index(NamedTuple):
    """The runs of words to look for.

    Attributes:
        ids: of the items.
        sizes: how many runs each item has.
        keys: uint64, ascending: the hash of each run.
        starts: the items that have run i are `items[starts[i]:starts[i + 1]]`.
        lengths: how many words runs have.
        beginning: how many words the shortest run can have.
        slots: whether a run that begins with so many words may be among the keys, by what is left of their hash when shifted.
        shift: how far.
    """

    ids: pa.StringArray
    sizes: np.ndarray
    keys: np.ndarray
    starts: np.ndarray
    items: np.ndarray
    lengths: list[int]
    beginning: int
    slots: np.ndarray
    shift: np.uint64

    def hits(self, words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where runs stand in some texts: the numbers of the key, the row and the first word, and the length."""
        found = [(np.empty(0, np.int64),) * 4]
        maybe = np.flatnonzero(self.slots[windows(words.hashes, self.beginning) >> self.shift])
        rows = np.searchsorted(words.bounds, maybe, "right") - 1
        for length in self.lengths:
            within = maybe + length <= words.bounds[rows + 1]
            start, row = maybe[within], rows[within]
            run = windows_at(words.hashes, start, length)
            key = np.minimum(np.searchsorted(self.keys, run), len(self.keys) - 1)
            same = self.keys[key] == run
            found.append((key[same], row[same], start[same], np.full(int(same.sum()), length)))
        key, row, start, length = (np.concatenate(column) for column in zip(*found, strict=True))
        return key, row, start, length


@dataclass(frozen=True)
class _Tests:
    """Readers that can be remembered by: some have fields without a hash."""

    readers: tuple[Reader, ...] = field(compare=False)
    fields: str


@lru_cache(maxsize=4)
def _read(tests: _Tests, words: int, min_words: int, max_items: int) -> _Index:
    ids, keys, owners, beginnings, lengths = [], [], [], [], set[int]()
    count = 0
    for batch in (batch for test in tests.readers for batch in test.batches()):
        found = words_of(batch.column("text"))
        sizes = np.diff(found.bounds)
        runs, bounds = shingles(found, words)
        item = np.repeat(np.arange(batch.num_rows), np.diff(bounds))
        long = sizes[item] >= min_words
        keys.append(runs[long])
        owners.append(count + item[long])
        beginnings.append(windows_at(found.hashes, ranges(found.bounds[:-1], np.diff(bounds))[long], min_words))
        lengths |= set(np.minimum(sizes[sizes >= min_words], words).tolist())
        ids.append(batch.column("id"))
        count += batch.num_rows
    run = np.unique(np.stack([np.concatenate([*keys, np.empty(0, U64)]), np.concatenate([*owners, np.empty(0, np.int64)]).astype(U64)]), axis=1)
    key, shared = np.unique(run[0], return_counts=True)
    rare = np.repeat(shared <= max_items, shared)
    key, items = key[shared <= max_items], run[1][rare].astype(np.int64)
    bits = min(MAX_SLOT_BITS, max(16, len(key).bit_length() + 4))  # so that hardly one look in 16 is in vain
    slots, shift = np.zeros(1 << bits, bool), U64(64 - bits)
    for beginning in beginnings:
        slots[beginning >> shift] = True
    return _Index(
        pa.concat_arrays([pa.array([], pa.string()), *ids]), np.bincount(items, minlength=count), key,
        np.concatenate([[0], np.cumsum(shared[shared <= max_items])]), items, sorted(lengths) if len(key) else [], min_words, slots, shift,
    )  # fmt: skip
