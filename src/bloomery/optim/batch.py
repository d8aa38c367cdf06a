"""The size of a batch: ramps that begin with smaller ones, and rates that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, sqrt
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens


class Level(NamedTuple):
    """So many steps of so many rows."""

    rows: int
    steps: int


@dataclass(frozen=True)
class Batches:
    """How many rows each step of a run reads, in closed forms of the step: a resumed run cannot lose its place.

    Attributes:
        rows: of a step once the ramp is over.
        levels: those of the ramp, one after the other.
    """

    rows: int
    levels: tuple[Level, ...] = ()

    def rows_of(self, step: int) -> int:
        """Rows that `step` (from 0) reads."""
        return next(rows for begin, end, _, rows in self._stretches() if step < end)

    def rows_before(self, step: int) -> int:
        """Rows that all steps before `step` read, which is the number of the first that it reads."""
        return next(before + (step - begin) * rows for begin, end, before, rows in self._stretches() if step <= end)

    def steps_for(self, total: int) -> int:
        """The fewest steps that read `total` rows."""
        until = ((begin, before, rows) for begin, end, before, rows in self._stretches() if total <= before + (end - begin) * rows)
        begin, before, rows = next(until)
        return begin - (before - total) // rows

    def check_readers(self, readers: int) -> None:
        """Refuses ranks that cannot share the rows of each step evenly.

        Args:
            readers: how many ranks read rows of their own.
        """
        for rows in dict.fromkeys(rows for *_, rows in self._stretches()):
            if left := rows % readers:
                raise ConfigError(
                    f"replicate · shard = {readers} ranks read rows of their own and cannot share a step of {rows} rows: "
                    f"{rows} = {rows // readers}·{readers} + {left}; give it {_near(rows, readers)} rows, or take other ranks"
                )

    def _stretches(self) -> Iterator[tuple[int, float, int, int]]:
        """(first step, step after the last, rows before, rows per step) of each level, and of what comes after, which has no end."""
        begin = before = 0
        for level in self.levels:
            yield begin, begin + level.steps, before, level.rows
            begin, before = begin + level.steps, before + level.steps * level.rows
        yield begin, inf, before, self.rows


class BatchRamp(Config):
    """How a run comes to its full batch. Subclasses write `levels`."""

    def levels(self, rows: int, time: int) -> tuple[Level, ...]:
        """The smaller batches that come first.

        Args:
            rows: of a full batch.
            time: tokens per row.

        Raises:
            ConfigError: a batch of so many rows cannot be come to like that.
        """
        raise NotImplementedError

    def batches(self, rows: int, time: int) -> Batches:
        """The batches of a run, for the arguments of `levels`."""
        return Batches(rows, self.levels(rows, time))


class NoRamp(BatchRamp):
    """Full batches from the first step on."""

    def levels(self, rows: int, time: int) -> tuple[Level, ...]:
        return ()


class Doublings(BatchRamp):
    """The batch doubles at given steps, the last time to its full size:  rows(k) = rows / 2^(doublings after step k).

    Source: Smith et al. (2018), arXiv 1711.00489, who grow the batch where others lower the rate; here, like McCandlish et al. (2018), arXiv
    1812.06162, it grows early on, when gradients agree and small batches do.
    """

    at: tuple[Annotated[int, Ge(1)], ...]
    """Steps (from 0) at which it doubles, in ascending order."""

    def check(self) -> None:
        if list(self.at) != sorted(set(self.at)) or not self.at:
            raise self.refuse("at", "is not a list of ascending steps; (100, 300) would be")

    def levels(self, rows: int, time: int) -> tuple[Level, ...]:
        if rows % (times := 2 ** len(self.at)):
            raise self.refuse("at", f"halves a batch of {rows} rows {len(self.at)} times, and {rows} is no multiple of {times}; batch_tokens "
                                    f"of {_near(rows, times, time)} would do")  # fmt: skip
        steps = [end - begin for begin, end in zip((0, *self.at), self.at, strict=False)]
        return tuple(Level(rows >> (len(self.at) - i), n) for i, n in enumerate(steps))


class Rising(BatchRamp):
    """The batch grows in proportion to the tokens read, in equal jumps, from one jump's size to its full size.

        rows at level i = i · rows / n,  i = 1 … n;  each level but the last reads tokens / (n − 1), rounded up to whole steps

    Source: Brown et al. (2020), GPT-3, arXiv 2005.14165, appendix B; in jumps as in Megatron-LM (Shoeybi et al. 2019, arXiv 1909.08053).
    """

    tokens: Tokens
    """Tokens that are read before the batch is full."""
    jumps: Annotated[int, Ge(2)] = 8
    """n: how many sizes there are, the full one included."""

    def levels(self, rows: int, time: int) -> tuple[Level, ...]:
        if rows % self.jumps:
            raise self.refuse("jumps", f"does not divide a batch of {rows} rows; batch_tokens of {_near(rows, self.jumps, time)} would do")
        sizes = [i * rows // self.jumps for i in range(1, self.jumps)]
        return tuple(Level(size, -(-self.tokens // (len(sizes) * size * time))) for size in sizes)


class BatchRule(Config):
    """Learning rates that follow the batch, a growing one too.

        factor = (tokens in the step / base_tokens)^p,  p = 1 (linear) or ½ (sqrt)

    Source: linear: Goyal et al. (2017), arXiv 1706.02677, for SGD; sqrt: Krizhevsky (2014), arXiv 1404.5997, and for Adam Malladi et al.
    (2022), arXiv 2205.10287. Departure from the last: β and ε stay as they are.
    """

    base_tokens: Tokens
    """Tokens in a step at which the rates are those that are given."""
    power: Literal["linear", "sqrt"] = "sqrt"
    """p."""

    def factor(self, tokens: int) -> float:
        """The factor on the rates of a step of so many tokens."""
        ratio = tokens / self.base_tokens
        return sqrt(ratio) if self.power == "sqrt" else ratio


def _near(rows: int, divisor: int, time: int = 1) -> str:
    """The multiples of a divisor below and above a number of rows, in tokens where a row has `time`."""
    below = rows // divisor * divisor
    return " or ".join(str(n * time) for n in (below, below + divisor) if n)
