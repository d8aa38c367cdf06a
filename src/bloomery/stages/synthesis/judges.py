"""`Judge`: what a model says of each row of a corpus, as a number; and `Judged`: the check that keeps rows by it.

    judgements-00000.parquet   a row for each row of the corpus: `id`, `value`, and what else is known
    answers.jsonl              of `Answered`: all that was said
"""

from __future__ import annotations

import string
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from annotated_types import Ge, Gt, Le

from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.evals.likelihood import told_tokens
from bloomery.models import Model
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.synthesis.generator import Generator, Task, written
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Artifact, Journal, Workspace
from bloomery.text.chat import ChatTemplate, Rendered
from bloomery.text.documents import write_parquet
from bloomery.text.filters import Filter, Measure, Operator, Verdicts

JUDGEMENTS, ANSWERS = "judgements-00000.parquet", "answers.jsonl"
ROWS = 32  # per forward pass
Row = tuple[str, list[dict[str, str]]]


class Judge(Stage):
    """Gives each conversation of a corpus a number from 0 to 1. Subclasses write `judge`."""

    corpus: Prepare
    """The conversations; their last turn is what is judged."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        rows = list(_conversations(inputs[self.corpus]))
        if not rows:
            raise DataError(f"{inputs[self.corpus].reference} holds no conversation to judge; read drafts with ReadDrafts() first")
        table = self.judge(rows, context, inputs, workspace)
        write_parquet(workspace.path / JUDGEMENTS, table)
        workspace.count(JUDGEMENTS, rows=len(table))
        return {"judged": len(table), "mean": round(pc.mean(table["value"]).as_py(), 4)}

    @abstractmethod
    def judge(self, rows: Sequence[Row], context: RunContext, inputs: Inputs, workspace: Workspace) -> pa.Table:
        """A table of the rows' ids and values, in order; more columns are kept beside."""


class Answered(Judge):
    """The share of a second model's answers that are the row's own: it is asked the question itself, without being shown the answer.

    With one sample this verifies; with several it is their agreement, and with the generator itself as `by`, self-consistency. Answers are the
    same if they are so in small letters, without white space and full stops around them.

    Source: Wang et al. (2022), arXiv 2203.11171 (self-consistency); Alberti et al. (2019), arXiv 1906.05416 (a question counts if it is
    answered as it was meant).
    """

    by: Generator
    """Who answers."""
    samples: Annotated[int, Ge(1)] = 1
    """How often each question is asked."""
    seed: int = 0
    """Of what is drawn."""

    def judge(self, rows: Sequence[Row], context: RunContext, inputs: Inputs, workspace: Workspace) -> pa.Table:
        tasks = [
            Task(number, messages[:-1], derive_seed("answer", self.seed, number))
            for number, (_, messages) in ((i * self.samples + k, row) for i, row in enumerate(rows) for k in range(self.samples))
        ]
        said = written(self.by, tasks, Journal(workspace.path / ANSWERS), context, inputs, self.reference)
        workspace.count(ANSWERS, rows=len(said))
        answers = [[one.text for one in said[i * self.samples : (i + 1) * self.samples]] for i in range(len(rows))]
        values = [
            sum(plainly(answer) == plainly(messages[-1]["content"]) for answer in found) / self.samples
            for (_, messages), found in zip(rows, answers, strict=True)
        ]
        return pa.table({"id": [id for id, _ in rows], "value": pa.array(values, pa.float64()), "answers": answers})


class Likelihood(Judge):
    """How likely a model finds the answer, given the question:  exp(mean over its tokens of ln p), the geometric mean of their probabilities.

    Source: mean log-likelihood of the target as a measure of quality, as in Chen et al. (2021), arXiv 2107.03374, section 3.3.
    """

    by: Trained
    """Who reads: a model that was trained here, on conversations."""

    def judge(self, rows: Sequence[Row], context: RunContext, inputs: Inputs, workspace: Workspace) -> pa.Table:
        trained = inputs[self.by]
        trained.checked("model/model.safetensors")
        model = opened(trained, context.device)
        tokenizer = tokenizer_of(trained)
        values: list[float | None] = []
        for start in range(0, len(rows), ROWS):
            rendered = ChatTemplate().render_batch([messages for _, messages in rows[start : start + ROWS]], tokenizer)
            values += likelihoods(model, rendered, context.device)
            context.progress(f"{self.reference}: {len(values)} of {len(rows)} read")
        return pa.table({"id": [id for id, _ in rows], "value": pa.array(values, pa.float64())})


def likelihoods(model: Model, talks: Sequence[Rendered], device: str = "cpu") -> list[float | None]:
    """For each conversation, exp of the mean log-probability of its last turn's tokens; None for one that is longer than the model reads."""
    told = told_tokens(model, [(talk.ids, _last_turn(talk)) for talk in talks], device)
    sums = torch.zeros(len(talks), device=device).index_add_(0, told.rows, told.logprobs)
    means = (sums / told.rows.bincount(minlength=len(talks))).exp().tolist()
    longest = model.config.max_seq_len
    return [None if len(talk.ids) > longest or len(talk.ids) < 2 else mean for talk, mean in zip(talks, means, strict=True)]


def _last_turn(talk: Rendered) -> list[bool]:
    """Which tokens are of the last answer: those behind the last one that is not learnt; none where nothing is."""
    begin = len(talk.mask) - talk.mask[::-1].index(False) if True in talk.mask else len(talk.ids)
    return [place >= begin for place in range(len(talk.ids))]


class Judged(Filter):
    """Drops rows whose judgement is too low; one that was not judged counts as 0. The value is on record for every row.

    Example:
        >>> Judged(by=Answered(corpus=drafts, by=Ours(model=answerer, sampler=Random(temperature=0.7)), samples=5), at_least=0.8)
    """

    by: Judge
    """Who judges: `Answered(…)` or `Likelihood(…)` of the corpus that is filtered."""
    at_least: Annotated[float, Gt(0), Le(1)] = 1.0
    """The least that stays."""

    def open(self, folder_of: Callable[[Any], Path]) -> Operator:
        return _Judged(folder_of(self.by), "answered alike" if isinstance(self.by, Answered) else "likelihood", self.at_least)


@dataclass(frozen=True)
class _Judged:
    """`Judged` at work."""

    folder: Path
    name: str
    at_least: float

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        known = _values(self.folder)
        values = pa.array([known.get(id, 0.0) for id in batch.column("id").to_pylist()], pa.float64())
        return Verdicts.by_measures(batch, [Measure(name=self.name.replace(" ", "_"), values=values, low=self.at_least)])


def plainly(answer: str) -> str:
    """An answer as it is compared: small letters, single blanks, nothing around it."""
    return " ".join(answer.lower().split()).strip(string.whitespace + ".")


@lru_cache(maxsize=4)
def _values(folder: Path) -> dict[str, float]:
    table = pq.read_table(Artifact.open(folder).checked(JUDGEMENTS), columns=["id", "value"])
    return dict(zip(table["id"].to_pylist(), pc.fill_null(table["value"], 0.0).to_pylist(), strict=True))


def _conversations(corpus: Artifact) -> Iterator[Row]:
    for batch in documents(corpus, columns=("id", "messages")):
        for row in batch.to_pylist():
            if row["messages"]:
                yield row["id"], [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
