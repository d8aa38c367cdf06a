"""`TrainNgram`: counts of word sequences; and `Perplexity`: documents that are improbable by them, or all too probable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le

from bloomery.core.errors import DataError
from bloomery.core.units import Bytes
from bloomery.stages.learned.sample import sample, scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace
from bloomery.text.filters import Filter, Measure, Operator, Verdicts
from bloomery.text.learned.features import Words, portions, words
from bloomery.text.learned.ngram import load_ngram
from bloomery.text.learned.ngram_counts import count_sequences, count_words, write_model


class TrainNgram(Stage):
    """Learns a modified Kneser–Ney model of word sequences from a corpus of good text. What it leaves: an `NgramModel`.

    Counts are sorted on the disk, which takes some 100 bytes for each word of the sample while it works; memory takes some 150 MB and two bytes
    for each byte of the sample, files that are mapped aside.

    Example:
        >>> Perplexity(model=TrainNgram(corpus=encyclopedia), max_perplexity=1000)
    """

    corpus: Prepare
    """What is to count as ordinary."""
    order: Annotated[int, Ge(2), Le(5)] = 3
    """Words in the longest sequences."""
    min_word_count: Annotated[int, Ge(1)] = 2
    """How often a word must occur to be known. With 1, nothing teaches the model what unknown words are like."""
    max_words: Annotated[int, Gt(0), Le(1 << 24)] = 1 << 20
    """The most words that are known; the commonest are."""
    min_counts: tuple[int, ...] = ()
    """For each order from 2, how often a sequence must occur to be kept, not falling: (1, 2) for order 3 halves the model. Empty keeps all."""
    sample_bytes: Bytes = 128 << 20
    """Text to learn from, in bytes."""

    def check(self) -> None:
        least = self.min_counts
        if least and (len(least) != self.order - 1 or list(least) != sorted(least) or least[0] < 1):
            raise self.refuse("min_counts", f"must be {self.order - 1} numbers from 1 on that do not fall, one for each order from 2 on")

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        def texts() -> Iterator[Words]:
            for batch in sample(inputs[self.corpus], self.sample_bytes):
                for portion in portions(batch.column("text")):
                    yield words(portion, digits=False)

        with scratch(workspace) as folder:
            vocabulary, unknown_kinds, read = count_words(texts(), folder, self.max_words, self.min_word_count)
            if not read:
                raise DataError(f"{self.reference}: {inputs[self.corpus].reference} holds no words to learn from; check its filters")
            counts, tables = count_sequences(folder, vocabulary, self.order, lambda line: context.progress(f"{self.reference}: {line}"))
            least = self.min_counts or (1,) * (self.order - 1)
            orders = write_model(workspace.path, folder, vocabulary, unknown_kinds, counts, tables, least)
        return {"words_read": read, "words": len(vocabulary), "unknown_kinds": unknown_kinds, "orders": orders}


class Perplexity(Filter):
    """Drops documents that an n-gram model finds too improbable (rubbish, other languages) or too probable (templates, repetition).

    The perplexity is exp(−mean ln p) over the words of the document and its end: how many words there seem to be to choose from. It depends
    on the corpus and on the order; look at the measures before you choose a bound. A document without words has none.
    """

    model: TrainNgram
    """Who judges."""
    max_perplexity: Annotated[float, Gt(1)] | None = None
    """The most that stays; None is no limit. CCNet took the best third of each language for its head."""
    min_perplexity: Annotated[float, Ge(1)] | None = None
    """The least that stays; None is no limit."""

    def check(self) -> None:
        if self.max_perplexity is not None and self.min_perplexity is not None and self.max_perplexity < self.min_perplexity:
            raise self.refuse("max_perplexity", f"is below min_perplexity={self.min_perplexity}, so nothing would stay; raise it")

    def open(self, folder_of: Callable[[Any], Path]) -> Operator:
        return JudgePerplexity(folder_of(self.model), self.min_perplexity, self.max_perplexity)


@dataclass(frozen=True)
class JudgePerplexity:
    """`Perplexity` at work: the model's folder, and the bounds."""

    folder: Path
    low: float | None
    high: float | None

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts on a batch."""
        values = load_ngram(self.folder).perplexity(batch.column("text"))
        measured = pa.array(values, mask=np.isnan(values))
        return Verdicts.by_measures(batch, [Measure(name="perplexity", values=measured, low=self.low, high=self.high)])
