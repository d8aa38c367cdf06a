"""`AskBack`: conversations as lessons in writing questions; `ReadDrafts`: what a generator has written as conversations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.documents import DOCUMENTS
from bloomery.text.filters.filter import Filter, Verdicts
from bloomery.text.filters.prompts import Change, rewritten
from bloomery.text.instructions.few_shot import Example, QuestionForm, examples_of


class AskBack(Filter):
    """Turns conversations about a passage round: the user gives the passage, and the assistant writes the question and its answer.

    What learns from these is a generator for `FewShot(shots=0)`. Further questions of a conversation become further requests. Rewrites.

    Source: Li et al. (2023), arXiv 2308.06259 (a model that writes the instruction for a text, learnt from seeds).
    """

    form: QuestionForm = QuestionForm()
    """What the user asks for, and how the assistant writes it."""
    passages: bool = True
    """Whether the user's first message is a passage with the question behind its last blank line."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, "asked for the question", self._turn)

    def _turn(self, id: str, text: str, messages: list[dict[str, str]] | None, meta: dict[str, Any]) -> Change | None:
        examples = examples_of(id, messages or [], self.passages)
        if not examples or "asked_back" in meta:
            return None
        talk = []
        for number, example in enumerate(examples):
            asked = self.form.asked("" if number else example.passage)
            talk += [{"role": "user", "content": asked}, {"role": "assistant", "content": self.form.write(example)}]
        return "\n\n".join(m["content"] for m in talk), talk, meta | {"asked_back": True}


class ReadDrafts(Filter):
    """Reads what a generator has written in a form, and makes conversations of it; what is not in the form goes, with the reason.

    Rewrites. The passage that a draft is about stands in its `meta` until then; what failed to be written says there why ("fault").
    Conversations stay as they are.
    """

    form: QuestionForm = QuestionForm()
    """The form that was asked for."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        columns = {name: batch.column(name).to_pylist() for name in ("text", "messages", "meta")}
        reasons: list[str | None] = []
        dropped = np.zeros(batch.num_rows, bool)
        for i, (text, messages, meta) in enumerate(zip(*columns.values(), strict=True)):
            if messages is not None:
                reasons.append(None)
                continue
            known = json.loads(meta) if meta else {}
            known = known if isinstance(known, dict) else {}
            written = self.form.read(text)
            if fault := str(known.get("fault") or written.fault):
                reasons.append(fault)
                dropped[i] = True
                continue
            passage = str(known.pop("passage", ""))
            talk = Example("", passage, written.question, written.answer).messages
            columns["text"][i], columns["messages"][i] = "\n\n".join(m["content"] for m in talk), talk
            columns["meta"][i] = json.dumps(known, ensure_ascii=False) if known else None
            reasons.append("read as a question and its answer")
        after = batch
        for name, values in columns.items():
            at = DOCUMENTS.get_field_index(name)
            after = after.set_column(at, DOCUMENTS.field(name), pa.array(values, DOCUMENTS.field(name).type))
        return Verdicts(batch=after, reasons=pa.array(reasons, pa.string()), dropped=pc.cast(pa.array(dropped), pa.bool_()))
