"""`WritingPrompts`: books and papers as answers to a request for them; `Reword`: instructions in other words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from bloomery.text.documents import DOCUMENTS
from bloomery.text.filters.filter import Filter, Verdicts
from bloomery.text.instructions.keyphrases import KeyPhrases, Rake
from bloomery.text.instructions.templates import Templates

WRITE = Templates(wordings=(
    "Write a text titled “{title}”.", "Write “{title}”.", "Please write something under the title “{title}”.",
    "I need a text called “{title}”.",
    "Write a text titled “{title}” that mentions {keywords}.", "Write “{title}”. Cover these points: {keywords}.",
    "Write the chapter “{chapter}” of “{title}”.", "Write the chapter “{chapter}” of “{title}”. Key words: {keywords}.",
    "Write a paper titled “{title}”. Its abstract: {abstract}", "Turn this abstract into the paper “{title}”:\n\n{abstract}",
    "Write a text about {keywords}.", "Write a passage in which these come up: {keywords}.", "Key words: {keywords}\n\nWrite a text on them.",
    "Compose a passage. It should deal with {keywords}.",
))  # fmt: skip
"""Requests for a text by its title, chapter, abstract and key words."""

ASK = Templates(wordings=(
    "{instruction}\n\n{input}", "{input}\n\n{instruction}", "{instruction}\n\nInput: {input}", "Task: {instruction}\n\n{input}",
    "{instruction}\n\n### Input\n{input}", "Here is a text:\n\n{input}\n\n{instruction}", "{instruction}", "Task: {instruction}",
    "Please do the following. {instruction}", "{instruction}\n\nAnswer:",
))  # fmt: skip
"""Layouts of an instruction and its input."""

Change = tuple[str, list[dict[str, str]], dict[str, Any]]


class WritingPrompts(Filter):
    """Makes a conversation of a document: the user asks for a text with such a title, chapter, abstract or key words, and gets the document.

    Title, chapter, abstract, author and keywords come from `meta`; key words that are not there are found in the text. Documents that are
    conversations already, or for which no wording fits, stay as they are. Rewrites; the request is kept in `meta` as the instruction.

    Source: Köksal et al. (2023), arXiv 2304.08460 (documents as answers to made-up instructions); departure: wordings and key phrases in
    place of a language model.
    """

    templates: Templates = WRITE
    """The requests, with the slots {title}, {chapter}, {abstract}, {author} and {keywords}."""
    keyphrases: KeyPhrases | None = Rake()
    """How key words are found; None finds none."""
    answer: str = "text"
    """What the assistant says: the document's text, or a column of `meta` such as "abstract"."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, "made an answer to a request for it", self._ask)

    def _ask(self, id: str, text: str, messages: list[dict[str, str]] | None, meta: dict[str, Any]) -> Change | None:
        answer = text if self.answer == "text" else meta.get(self.answer)
        if messages is not None or not isinstance(answer, str) or not answer.strip():
            return None
        values = {name: " ".join(value.split()) for name, value in meta.items() if isinstance(value, str) and name != self.answer}
        told = meta.get("keywords")
        if isinstance(told, list) and all(isinstance(word, str) for word in told):
            values["keywords"] = ", ".join(told)
        elif "keywords" not in values and self.keyphrases is not None:
            values["keywords"] = ", ".join(self.keyphrases(answer))
        if (prompt := self.templates.fill(id, values)) is None:
            return None
        talk = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return f"{prompt}\n\n{answer}", talk, meta | {"form": "writing_prompt", "instruction": prompt}


class Reword(Filter):
    """Lays instruction and input out in one of several ways, each document in its own.

    Only where the user's message still is what the reader made of `instruction` and `input` in `meta`: what another filter has rewritten,
    to mask personal data perhaps, is not put back. Rewrites, and says in `meta` that it has: {"reworded": true}.

    Source: Longpre et al. (2023), arXiv 2301.13688, section 3.2 (several templates per task).
    """

    templates: Templates = ASK
    """The layouts, with the slots {instruction} and {input}; one that leaves a given input out is not taken."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, "laid out otherwise", self._reword)

    def _reword(self, id: str, text: str, messages: list[dict[str, str]] | None, meta: dict[str, Any]) -> Change | None:
        instruction, given = meta.get("instruction"), meta.get("input", "")
        if messages is None or "reworded" in meta or not isinstance(instruction, str) or not isinstance(given, str):
            return None
        written = f"{instruction}\n\n{given}" if given else instruction
        asked = next((i for i, m in enumerate(messages) if m["role"] == "user" and m["content"] == written), None)
        wordings = tuple(w for w in self.templates.wordings if ("{input}" in w) == bool(given))
        if asked is None or not wordings:
            return None
        prompt = self.templates.replace(wordings=wordings).fill(id, {"instruction": instruction, "input": given})
        if not prompt or prompt == written:
            return None
        talk = [*messages[:asked], {"role": "user", "content": prompt}, *messages[asked + 1 :]]
        return "\n\n".join(m["content"] for m in talk), talk, meta | {"reworded": True}


def rewritten(
    batch: pa.RecordBatch, reason: str, change: Callable[[str, str, list[dict[str, str]] | None, dict[str, Any]], Change | None],
) -> Verdicts:
    """The verdicts of a filter that changes documents one by one.

    Args:
        batch: the documents.
        reason: why those that change do.
        change: from id, text, messages and meta to new text, messages and meta, or None to leave all as it is.
    """
    columns: list[Sequence[Any]] = [batch.column(name).to_pylist() for name in ("id", "text", "messages", "meta")]
    texts, talks, metas = (list(column) for column in columns[1:])
    for i, (id, text, messages, meta) in enumerate(zip(*columns, strict=True)):
        plain = json.loads(meta) if meta else {}
        if (changed := change(id, text, messages, plain if isinstance(plain, dict) else {})) is not None:
            texts[i], talks[i], metas[i] = changed[0], changed[1], json.dumps(changed[2], ensure_ascii=False)
    after = batch
    for name, values in (("text", texts), ("messages", talks), ("meta", metas)):
        at = DOCUMENTS.get_field_index(name)
        after = after.set_column(at, DOCUMENTS.field(name), pa.array(values, DOCUMENTS.field(name).type))
    return Verdicts.rewrite(batch, after, reason)
