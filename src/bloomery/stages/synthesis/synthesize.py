"""`Synthesize`: seeds shown to a generator, and what it writes kept as drafts, each with where it came from.

    documents-00000.parquet   the drafts as they were written, for `ReadDrafts` to read; `meta` says of each
                              what it was made of: {"seeds", "about", "passage", "generator", "prompt", "sampling_seed", "licence"}
    written.jsonl             what was said to each prompt, refusals and attempts included
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.synthesis.generator import Generator, Said, Task, written
from bloomery.store import Artifact, Journal, Workspace
from bloomery.text.documents import Document, to_batch, write_parquet
from bloomery.text.instructions import Example, FewShot, examples_of

JOURNAL, ROWS_PER_SHARD = "written.jsonl", 20_000


class Synthesize(Stage):
    """Has a generator write questions with answers after the manner of seeds, about texts or about nothing in particular.

    Nothing is checked here: a `Prepare` whose source is `LeftBy(stage=…)` reads the drafts and checks them, so that other checks cost no other
    drafts. Killed and started again, it asks for what is missing only; with a model of ours the bytes are the same as without.

    Example:
        >>> Prepare(source=LeftBy(stage=drafts), known=(seeds,), filters=(ReadDrafts(), Length(), Asked(), Decontaminate(tests=(exam,))))
    """

    seeds: Prepare
    """Conversations that show what is wanted."""
    about: Prepare | None = None
    """Texts to write about, one after the other and round again; None for questions that stand for themselves. With them, the seeds' first
    messages are passages with a question behind the last blank line."""
    generator: Generator
    """Who writes: `Ours(model=…)` or `Endpoint(url=…, model=…)`."""
    prompt: FewShot = FewShot()
    """How it is asked."""
    count: int = Field(gt=0)
    """Drafts."""
    licence: str = Field(min_length=1)
    """What may be done with what is written, and why: the terms of seeds, texts and generator, in words. It goes with every row."""
    seed: int = 0
    """Of the seeds that are shown and of what is drawn."""

    def estimate(self) -> str:
        return f"{self.count} drafts by {self.generator.reference}"

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        shown = self._seeds(inputs[self.seeds])
        passages = [("", "")] if self.about is None else _texts(inputs[self.about], self.count)
        chosen = [self.prompt.choose(shown, self.seed, number) for number in range(self.count)]
        abouts = [passages[number % len(passages)] for number in range(self.count)]
        tasks = [
            Task(number, self.prompt.prompt(examples, text), derive_seed("draft", self.seed, number))
            for number, (examples, (_, text)) in enumerate(zip(chosen, abouts, strict=True))
        ]
        said = written(self.generator, tasks, Journal(workspace.path / JOURNAL), context, inputs, self.reference)
        workspace.count(JOURNAL, rows=len(said))
        drafts = [self._draft(task, examples, about, one) for task, examples, about, one in zip(tasks, chosen, abouts, said, strict=True)]
        for shard, start in enumerate(range(0, len(drafts), ROWS_PER_SHARD)):
            rows = drafts[start : start + ROWS_PER_SHARD]
            name = f"documents-{shard:05d}.parquet"
            write_parquet(workspace.path / name, pa.Table.from_batches([to_batch(rows)]))
            workspace.count(name, rows=len(rows), bytes=sum(len(row.text.encode()) for row in rows))
        return {
            "documents": len(drafts), "refused": sum(bool(one.fault) for one in said), "generator": self.generator.reference,
            "licence": self.licence, "seeds": len(shown), "passages": len(passages), "tokens": sum(one.tokens for one in said),
            "asked_again": sum(one.attempts - 1 for one in said),
        }  # fmt: skip

    def _seeds(self, corpus: Artifact) -> list[Example]:
        rows = [row for batch in documents(corpus, columns=("id", "messages")) for row in batch.to_pylist() if row["messages"]]
        shown = [example for row in rows for example in examples_of(row["id"], row["messages"], self.about is not None)]
        if not shown and self.prompt.shots:
            raise DataError(f"{corpus.reference} holds no conversations to show a generator; give some, or prompt=FewShot(shots=0)")
        return shown

    def _draft(self, task: Task, examples: list[Example], about: tuple[str, str], said: Said) -> Document:
        meta: dict[str, Any] = {
            "seeds": [example.id for example in examples], "generator": self.generator.reference, "sampling_seed": task.seed,
            "prompt": [dict(message) for message in task.messages], "licence": self.licence,
        }  # fmt: skip
        if self.about is not None:
            meta |= {"about": about[0], "passage": about[1]}
        if said.fault:
            meta["fault"] = said.fault
        told = json.dumps(meta, ensure_ascii=False)
        return Document(f"synthetic/{self.name}/{task.number:06d}", said.text, self.generator.reference, None, told)


def _texts(corpus: Artifact, count: int) -> list[tuple[str, str]]:
    """Id and text of the first documents."""
    found: list[tuple[str, str]] = []
    for batch in documents(corpus, columns=("id", "text")):
        found += [(row["id"], row["text"]) for row in batch.to_pylist()]
        if len(found) >= count:
            break
    return found[:count]
