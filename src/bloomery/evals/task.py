"""`EvalTask`: what is put to a model, and how its answers are judged, as a value; a new task is one small file.

    rows      columns of a reader, as `Files(rows=Rows(form="columns"))` has them
    prompts   wordings; the first is the one that counts, the others tell how much of a figure is the wording's
    sittings  what the model makes of each row in each wording: an `Outcome`, which can be read; and figures of all, each with its error
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.core.rng import python_rng
from bloomery.data.columns import value_in
from bloomery.data.folds import Fold
from bloomery.evals.estimates import Measure
from bloomery.evals.prompts import Prompt, Shown
from bloomery.models import CausalModel
from bloomery.text.readers import Reader
from bloomery.text.tokenizer import Tokenizer

Progress = Callable[[str], object]


@dataclass(frozen=True)
class Score:
    """A share of right answers.

    Attributes:
        right: answers judged right.
        asked: answers judged.
    """

    right: int
    asked: int

    @property
    def share(self) -> float:
        """right / asked, in [0, 1]."""
        return self.right / self.asked

    @property
    def standard_error(self) -> float:
        """√(p(1−p)/n) of the share, for samples drawn independently."""
        return math.sqrt(self.share * (1 - self.share) / self.asked)

    def __str__(self) -> str:
        return f"{self.share:.1%} ± {self.standard_error:.1%} ({self.right} of {self.asked})"


class Row(NamedTuple):
    """A row of a task: its id, and its columns by name."""

    id: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Respondent:
    """A model that is asked.

    Attributes:
        name: in tables.
        model: a decoder, in the state in which models are asked.
        tokenizer: its own.
    """

    name: str
    model: CausalModel
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Choice:
    """A choice as a model sees it: its text, log p in nats, and its share of the probability of all choices."""

    text: str
    logprob: float
    probability: float


@dataclass(frozen=True)
class Outcome:
    """What a model makes of a row.

    Attributes:
        id: of the row.
        asked: what was asked, behind `Sitting.before`.
        expected: any of which is right; empty where nothing is.
        said: the answer, or the choice that it finds likeliest.
        numbers: what it is judged by.
        written: all that it wrote, where the answer is taken out of it.
        choices: where it chose.
    """

    id: str
    asked: str
    expected: tuple[str, ...]
    said: str
    numbers: Mapping[str, float]
    written: str = ""
    choices: tuple[Choice, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: value for name, value in vars(self).items() if value not in ("", ())} | (
            {"choices": [vars(choice) for choice in self.choices]} if self.choices else {})  # fmt: skip


@dataclass(frozen=True)
class Sitting:
    """A model's answers to a task in one wording.

    Attributes:
        task, prompt: their names.
        outcomes: of each row, in order.
        measures: by name; the first is the one that counts.
        right: the number of an outcome that says whether it is right; "" where nothing is right or wrong.
        before: what stood before each question: an instruction, examples.
        notes: what else is to be known, in sentences.
    """

    task: str
    prompt: str
    outcomes: Sequence[Outcome]
    measures: Mapping[str, Measure]
    right: str = ""
    before: str = ""
    notes: Sequence[str] = ()

    @property
    def wrong(self) -> list[Outcome]:
        """The outcomes that are not right."""
        return [one for one in self.outcomes if self.right and one.numbers[self.right] < 1]


class EvalTask(Config, ABC):
    """What is asked of a model, and how it is judged. Subclasses write `sittings`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """Of the task, in tables."""
    rows: Reader
    """What is asked: `Files(path=…, rows=Rows(form="columns"))`, say."""
    limit: int | None = Field(default=None, gt=0)
    """Rows asked at most, drawn by the seed; None asks all."""
    belongs: str | None = None
    """A column by whose value rows hang together, such as the passage that they are about: errors count such rows as drawn together."""
    seed: int = 0
    """Of what is drawn: which rows, which examples."""

    @abstractmethod
    def sittings(self, respondent: Respondent, progress: Progress = lambda line: None) -> list[Sitting]:
        """What a model makes of the task, in each wording.

        Args:
            respondent: the model.
            progress: told, as often as you like, what is done.

        Raises:
            DataError: there is no row, or one cannot be asked.
        """

    def read(self) -> list[Row]:
        """All rows, in order."""
        return columns_of(self.rows, self.name)

    def drawn(self, rows: Sequence[Row]) -> list[Row]:
        """As many as are asked, in their order."""
        if self.limit is None or self.limit >= len(rows):
            return list(rows)
        return [rows[i] for i in sorted(python_rng("rows", self.seed).sample(range(len(rows)), self.limit))]

    def groups(self, rows: Sequence[Row]) -> list[str] | None:
        """What each row belongs to."""
        return None if self.belongs is None else [str(value_in(row.columns, self.belongs)) for row in rows]


class Prompted(EvalTask):
    """A task with wordings, and examples before what is asked. Subclasses write `content`, `example`, `put` and `measured`."""

    prompts: tuple[Prompt, ...] = Field(min_length=1)
    """Its wordings; the first one counts, and says by what one row is another one."""
    wordings: tuple[str, ...] = ()
    """Names of those that are put; empty: all of them."""
    examples: Reader | Fold | None = None
    """Where examples are drawn from: rows of another source; or those of `rows` that a fold keeps, which are then not asked; None has none."""
    overlap: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of examples that are among what is asked: "refuse" names one and ends; "leave_out" takes others."""
    shots: int = Field(default=0, ge=0)
    """Examples before each question: the same ones in the same order for all, drawn by the seed."""

    def check(self) -> None:
        if len({prompt.name for prompt in self.prompts}) < len(self.prompts):
            raise self.refuse("prompts", "must have different names; name each for what it does")
        if unknown := set(self.wordings) - {prompt.name for prompt in self.prompts}:
            raise self.refuse("wordings", f"has {min(unknown)!r}; the prompts are {', '.join(prompt.name for prompt in self.prompts)}")
        if self.shots and self.examples is None:
            raise self.refuse("shots", "needs examples to show; give examples=Files(…), or Fold(number=0, of=10) of the rows")
        if isinstance(self.examples, Fold) and self.examples.side != "this":
            raise self.refuse("examples", 'leaves one fold to be asked; take side="this", whose rows are shown')

    @abstractmethod
    def content(self, row: Row) -> str:
        """By what one row is another one."""

    @abstractmethod
    def example(self, prompt: Prompt, row: Row) -> Shown:
        """A row with the right answer to it."""

    @abstractmethod
    def put(self, respondent: Respondent, prompt: Prompt, shown: Sequence[Shown], rows: Sequence[Row], progress: Progress) -> list[Outcome]:
        """What a model makes of rows in a wording, behind examples."""

    @abstractmethod
    def measured(self, outcomes: Sequence[Outcome], groups: Sequence[str] | None) -> dict[str, Measure]:
        """The figures, of which the first counts."""

    @property
    @abstractmethod
    def right(self) -> str:
        """The number by which an outcome is right."""

    def sittings(self, respondent: Respondent, progress: Progress = lambda line: None) -> list[Sitting]:
        rows, shown, notes = self.parts()
        groups, found = self.groups(rows), []
        chosen = [prompt for prompt in self.prompts if not self.wordings or prompt.name in self.wordings]
        for prompt in chosen:
            examples = [self._named(row, lambda row, prompt=prompt: self.example(prompt, row)) for row in shown]
            where = f"{respondent.name}: {self.name}" + (f", {prompt.name}" if len(chosen) > 1 else "")
            outcomes = self.put(respondent, prompt, examples, rows, lambda line, where=where: progress(f"{where}: {line}"))
            before = prompt.context(examples, "")
            found.append(Sitting(self.name, prompt.name, outcomes, self.measured(outcomes, groups), self.right, before, notes))
        return found

    def parts(self) -> tuple[list[Row], list[Row], list[str]]:
        """The rows that are asked, those that are shown as examples, and what is to be known of them.

        Raises:
            DataError: there are too few examples, or one of them is asked, too.
        """
        rows = self.read()
        pool: list[Row] = []
        if isinstance(self.examples, Fold):
            shown_of = self.examples
            kept = {row.id for row in rows if shown_of.keeps(self._content(row))}
            pool, rows = [row for row in rows if row.id in kept], [row for row in rows if row.id not in kept]
        elif self.examples is not None and self.shots:
            pool = columns_of(self.examples, self.name)
        asked = self.drawn(rows)
        if not asked:
            raise DataError(f"task {self.name!r}: the fold of examples leaves no row to be asked; give more rows, or a fold of more")
        notes, free = list[str](), pool
        if self.shots:
            taken = {plain_text(self._content(row)): row.id for row in rows}
            both = {row.id: taken[content] for row in pool if (content := plain_text(self._content(row))) in taken}
            free = [row for row in pool if row.id not in both]
            if both:
                told, (one, same) = f"{len(both)} of {len(pool)} examples of task {self.name!r} are asked, too", next(iter(both.items()))
                if self.overlap == "refuse":
                    raise DataError(f"{told}, so that answers could be copied: {one} is {same}; take another source, or "
                                    f'{self.kind()}(overlap="leave_out")')  # fmt: skip
                notes.append(f"{told}, and are left out")
            if len(free) < self.shots:
                raise DataError(f"task {self.name!r} has {len(free)} examples, fewer than shots={self.shots}; give more, or ask for fewer")
        shown = python_rng("shots", self.seed).sample(free, self.shots)
        return asked, shown, notes

    def _content(self, row: Row) -> str:
        return self._named(row, self.content)

    def _named(self, row: Row, make: Callable[[Row], Any]) -> Any:
        """What is made of a row; errors name it."""
        try:
            return make(row)
        except DataError as error:
            raise DataError(f"task {self.name!r}, row {row.id!r}: {error}") from None


def plain_text(text: str) -> str:
    """A text without case and with one blank for any."""
    return " ".join(text.casefold().split())


def columns_of(reader: Reader, task: str) -> list[Row]:
    """The rows of a reader: what its documents have in `meta`, and where they have no such column, their `text`."""
    found = []
    for batch in reader.batches():
        for id, text, meta in zip(*(batch.column(name).to_pylist() for name in ("id", "text", "meta")), strict=True):
            columns = json.loads(meta) if meta else {}
            found.append(Row(id, {"text": text, **columns}))
    if not found:
        raise DataError(f"task {task!r} has no row to ask; give a source that has some")
    return found
