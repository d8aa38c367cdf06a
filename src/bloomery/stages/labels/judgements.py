"""`Judgements`: an SQLite file to which judgements are only ever added. What it says that it has, it has, also after a kill."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bloomery.core.errors import ArtifactError, DataError, ResourceError
from bloomery.stages.labels.items import Item

Kind = Literal["ranks", "skip", "flag", "undo"]
Line = tuple[str, str, Kind, str | None, str | None, float | None]
"""Item, labeler, kind, ranks, rates, seconds."""
MOST_RATE = 5
WAIT_S = 20.0  # for another process that writes
SCHEMA = """
CREATE TABLE IF NOT EXISTS items (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, prompt TEXT NOT NULL, answers TEXT NOT NULL, gold TEXT);
CREATE TABLE IF NOT EXISTS judgements (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL UNIQUE, item TEXT NOT NULL REFERENCES items (id), labeler TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ranks', 'skip', 'flag', 'undo')), ranks TEXT, seconds REAL, at REAL NOT NULL, rates TEXT
);
CREATE INDEX IF NOT EXISTS by_labeler ON judgements (labeler, item);
CREATE TRIGGER IF NOT EXISTS judgements_stay BEFORE UPDATE ON judgements BEGIN SELECT RAISE(ABORT, 'judgements are only added'); END;
CREATE TRIGGER IF NOT EXISTS judgements_keep BEFORE DELETE ON judgements BEGIN SELECT RAISE(ABORT, 'judgements are only added'); END;
"""


@dataclass(frozen=True)
class Judgement:
    """What somebody has said of an item.

    Attributes:
        item: its id.
        labeler: who.
        kind: "ranks" (which is how good), "skip" (cannot say), "flag" (something is wrong with it).
        ranks: of its answers, as they stand in the item; 1 is best, equal ranks are a tie.
        rates: how good each is by itself, from 1 to 5, the best, where they were rated; their order is that of the ranks.
        seconds: that it took; None where that is not known.
    """

    item: str
    labeler: str
    kind: Kind
    ranks: tuple[int, ...] | None = None
    seconds: float | None = None
    rates: tuple[int, ...] | None = None


class Judgements:
    """The judgements of one set of items. Several processes may share it.

    Args:
        path: of the file; made if it isn't there.

    Raises:
        ArtifactError: the file is no such database.
        ResourceError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as database:
            database.executescript(SCHEMA)
            if not _has_rates(database):  # a file from before answers could be rated
                with database:
                    database.execute("BEGIN IMMEDIATE")
                    if not _has_rates(database):  # another process may have been here
                        database.execute("ALTER TABLE judgements ADD COLUMN rates TEXT")

    def add_items(self, items: Iterable[Item]) -> int:
        """Adds items that are not there yet; returns how many."""
        with self._open() as database, database:
            before = database.execute("SELECT count(*) FROM items").fetchone()[0]
            database.executemany(
                "INSERT OR IGNORE INTO items (id, prompt, answers, gold) VALUES (?, ?, ?, ?)",
                [(item.id, json.dumps(item.prompt), json.dumps(item.answers), json.dumps(item.gold) if item.gold else None) for item in items],
            )
            return database.execute("SELECT count(*) FROM items").fetchone()[0] - before

    def items(self) -> list[Item]:
        """All of them, in the order in which they came."""
        with self._open() as database:
            return [_item(row) for row in database.execute("SELECT prompt, answers, gold FROM items ORDER BY number")]

    def item(self, id: str) -> Item:
        """One of them; raises `DataError` where it is not there."""
        with self._open() as database:
            row = database.execute("SELECT prompt, answers, gold FROM items WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise DataError(f"there is no item {id[:40]!r} here; look at the page again")
        return _item(row)

    def add(self, judgement: Judgement, token: str) -> bool:
        """Adds a judgement; when this returns it is on the disk.

        Args:
            judgement: of an item that is there. "undo" takes back what its labeler has last said of the item.
            token: of the one who sends it, another one for each judgement: one that is sent twice is there once.

        Returns:
            Whether it was not there yet.

        Raises:
            DataError: there is no such item, or the ranks are none of its answers.
        """
        check(judgement, self.item(judgement.item))
        with self._open() as database, database:
            ranks, rates = (None if one is None else json.dumps(one) for one in (judgement.ranks, judgement.rates))
            added = database.execute(
                "INSERT OR IGNORE INTO judgements (token, item, labeler, kind, ranks, rates, seconds, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (token, judgement.item, judgement.labeler, judgement.kind, ranks, rates, judgement.seconds, time.time()),
            )
            return added.rowcount == 1

    def standing(self) -> list[Judgement]:
        """What stands: of each labeler and item the last that was said and not taken back."""
        return [
            Judgement(item, labeler, kind, _numbers(ranks), seconds, _numbers(rates))
            for item, labeler, kind, ranks, rates, seconds in self._standing()
        ]

    def _standing(self) -> list[Line]:
        """The same as it is in the file."""
        with self._open() as database:
            told = database.execute("SELECT item, labeler, kind, ranks, rates, seconds FROM judgements ORDER BY number").fetchall()
        stacks: dict[tuple[str, str], list[Line]] = {}
        for line in told:
            item, labeler, kind, *_ = line
            stack = stacks.setdefault((item, labeler), [])
            if kind == "undo":
                stack[-1:] = []
            else:
                stack.append(line)
        return [stack[-1] for stack in stacks.values() if stack]

    def count(self) -> int:
        """Judgements that were ever made, those that were taken back and the taking back among them."""
        with self._open() as database:
            return database.execute("SELECT count(*) FROM judgements").fetchone()[0]

    def last_of(self, labeler: str) -> Judgement | None:
        """What somebody has last said that still stands; None where nothing does."""
        with self._open() as database:
            told = database.execute("SELECT item, kind FROM judgements WHERE labeler = ? ORDER BY number", (labeler,)).fetchall()
        order: list[str] = []
        for item, kind in told:
            if kind != "undo":
                order.append(item)
            elif item in order:
                del order[len(order) - 1 - order[::-1].index(item)]
        mine = {one.item: one for one in self.standing() if one.labeler == labeler}
        return mine.get(order[-1]) if order else None

    def next_for(self, labeler: str, skip: Sequence[str] = ()) -> tuple[Item | None, int, int]:
        """What somebody is to judge next, those first that the fewest have judged; how many they have judged, and how many there are."""
        with self._open() as database:
            ids = [id for (id,) in database.execute("SELECT id FROM items ORDER BY number")]
        standing = self._standing()
        judged = Counter(item for item, *_ in standing)
        mine = {item for item, who, *_ in standing if who == labeler}
        open_ = [id for id in ids if id not in mine and id not in skip]
        best = min(open_, key=lambda id: judged[id], default=None)
        return None if best is None else self.item(best), len(mine), len(ids)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")  # what is said to be there is on the disk
                database.execute("PRAGMA foreign_keys = ON")
                yield database
        except sqlite3.OperationalError as error:
            raise ResourceError(f"{self.path} cannot be written ({error}); look at the disk, and at who may write there") from None
        except sqlite3.DatabaseError as error:
            raise ArtifactError(f"{self.path} is no file of judgements ({error}); give another name") from None


def _has_rates(database: sqlite3.Connection) -> bool:
    return any(column == "rates" for _, column, *_ in database.execute("PRAGMA table_info(judgements)"))


def check(judgement: Judgement, item: Item) -> None:
    """Raises `DataError` where a judgement is none of its item."""
    if not 0 < len(judgement.labeler.strip()) <= 60:
        raise DataError("who judges needs a name of 1 to 60 characters; give one")
    if (judgement.kind == "ranks") != (judgement.ranks is not None):
        raise DataError("ranks and nothing else have ranks; give one for each answer")
    ranks, n = judgement.ranks, len(item.answers)
    if ranks is not None and (len(ranks) != n or min(ranks) != 1 or max(ranks) > n):
        raise DataError(f"ranks={list(ranks)} are none of {n} answers; give each one, 1 to the best")
    if judgement.rates is not None and ranks != ranks_of(judgement.rates):
        raise DataError(f"rates={list(judgement.rates)} are not in the order of the ranks; rank by ranks_of(rates)")


def ranks_of(rates: Sequence[int]) -> tuple[int, ...]:
    """The ranks that rates come to: 1 to the best, equal rates are a tie.

    Raises:
        DataError: a rate is none of 1 to 5.
    """
    if not all(1 <= rate <= MOST_RATE for rate in rates):
        raise DataError(f"rates={list(rates)} are none of 1 to {MOST_RATE}; give each answer one, {MOST_RATE} to the best")
    return tuple(1 + sum(other > own for other in rates) for own in rates)


def _numbers(told: str | None) -> tuple[int, ...] | None:
    return None if told is None else tuple(json.loads(told))


def _item(row: tuple[str, str, str | None]) -> Item:
    prompt, answers, gold = row
    return Item(tuple(json.loads(prompt)), tuple(json.loads(answers)), _numbers(gold))
