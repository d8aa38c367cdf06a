"""`TaleStories`, `TaleConversations`, `TaleContinuations`, `TalePreferences`, `TaleRows`: made-up stories as documents, questions and what
comes next as conversations and preferences, tasks as rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import pyarrow as pa
from annotated_types import Ge, Le
from pydantic import Field

from bloomery.core.rng import python_rng
from bloomery.text.documents import Document, conversation, in_batches
from bloomery.text.instructions.preferences import Completion, Preference
from bloomery.text.readers.reader import OnDamage, Reader, warn
from bloomery.text.tales import Dirt, Tale, Tales

Count = Annotated[int, Ge(1)]


class _Book(Reader):
    """Pages of a book of tales, in order of their numbers."""

    tales: Tales = Tales()
    """The book."""
    count: Count
    """How many tales to read."""
    first: Annotated[int, Ge(0)] = 0
    """The number of the first one."""

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        start = self.first if after is None else int(after.rpartition("/")[2]) + 1
        yield from in_batches(self._document(index) for index in range(start, self.first + self.count))

    def _document(self, index: int) -> Document:
        raise NotImplementedError


class TaleStories(_Book):
    """Stories, one document each; `meta` has the domain and the questions with their answers, or what is wrong with a spoilt one.

    Example:
        >>> TaleStories(tales=Tales(domain="farm"), count=20_000)
    """

    dirt: Dirt | None = None
    """Spoils some of the stories in known ways, for trying filters on; None leaves all clean."""

    def _document(self, index: int) -> Document:
        if self.dirt is not None:
            spoilt = self.dirt.document(self.tales, index)
            return Document(spoilt.id, spoilt.text, "tales", None, _json({"label": spoilt.label, **asdict(spoilt.detail)}))
        tale = self.tales.tale(index)
        return Document(tale.id, tale.text, "tales", None, _meta(tale, len(tale.questions)))


class TaleConversations(_Book):
    """Conversations about stories: the user tells one and asks, the assistant answers; further questions follow as further turns.

    Example:
        >>> TaleConversations(tales=Tales(), count=5_000, questions=3)
    """

    questions: int = Field(default=1, ge=1)
    """Questions per story, or as many as it has."""

    def _document(self, index: int) -> Document:
        tale = self.tales.tale(index)
        messages = []
        for number, question in enumerate(tale.questions[: self.questions]):
            asked = question.text if number else f"{tale.text}\n\n{question.text}"
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": question.answer}]
        return conversation(tale.id, "tales", messages, _meta(tale, self.questions))


class TalePreferences(_Book):
    """Preferences: the user tells a story, and of two sentences that could come next the one that its world makes true is preferred to one that
    contradicts it.

    Example:
        >>> TalePreferences(tales=Tales(), count=5_000)
    """

    def _document(self, index: int) -> Document:
        tale = self.tales.tale(index)
        told, sides = [{"role": "user", "content": tale.text}], (tale.better, tale.worse)
        ranked = [Completion([{"role": "assistant", "content": text}], rank=rank) for rank, text in enumerate(sides, start=1)]
        preference = Preference(told, ranked)
        about = {"domain": tale.domain, "wrong": tale.reason, "preference": preference.to_meta()}
        return conversation(tale.id, "tales", preference.messages(), _json(about))


class TaleRows(_Book):
    """Tasks about stories, one row of columns for each story, as `Files(rows=Rows(form="columns"))` reads them from files.

        story      it
        summary    where everybody and everything is in the end
        true       a sentence that agrees with it
        false      the same one with one thing in it that does not
        question   something that it answers; with `answer`, and the `kind` of question

    Example:
        >>> Prepare(name="rows", source=TaleRows(tales=Tales(size="short"), count=4_000))
    """

    def _document(self, index: int) -> Document:
        tale = self.tales.tale(index)
        columns = {"story": tale.text, "summary": tale.whereabouts, "true": tale.better, "false": tale.worse}
        asked = tale.questions[0]
        columns |= {"question": asked.text, "answer": asked.answer, "kind": asked.kind}
        return Document(tale.id, "\n\n".join(columns.values()), "tales", None, _json(columns))


class TaleContinuations(_Book):
    """Conversations in which the user tells a story and the assistant goes on by one sentence: one that the story's world makes true, or as
    often as `wrong` says one that contradicts it, as if those who wrote it had not looked.

    Example:
        >>> TaleContinuations(tales=Tales(), count=5_000, wrong=0.5)
    """

    wrong: Annotated[float, Ge(0), Le(1)] = 0.0
    """The share of sentences that contradict the world."""

    def _document(self, index: int) -> Document:
        tale = self.tales.tale(index)
        wrong = python_rng("continuations", tale.id).random() < self.wrong
        told = [{"role": "user", "content": tale.text}, {"role": "assistant", "content": tale.worse if wrong else tale.better}]
        return conversation(tale.id, "tales", told, _json({"domain": tale.domain, "wrong": tale.reason if wrong else None}))


def _meta(tale: Tale, questions: int) -> str:
    asked = [{"question": q.text, "answer": q.answer, "kind": q.kind} for q in tale.questions[:questions]]
    return _json({"domain": tale.domain, "questions": asked})


def _json(plain: dict) -> str:
    return json.dumps(plain, ensure_ascii=False)
