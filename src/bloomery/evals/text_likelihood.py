"""`TextLikelihood`: how well a model foresees texts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bloomery.data.columns import text_in
from bloomery.evals.estimates import Measure, ratio
from bloomery.evals.likelihood import told_texts
from bloomery.evals.task import EvalTask, Outcome, Progress, Respondent, Sitting


class TextLikelihood(EvalTask):
    """Texts, told token by token:

        bits_per_byte        Σ −log₂ p / Σ bytes of UTF-8, which models of any vocabulary can be compared by
        byte_perplexity      exp(Σ −log p / Σ bytes); word_perplexity by words between blanks, token_perplexity by the model's own tokens

    `<|begin|>` stands before each, its end is not told; what is longer than the model reads is told in rows that follow each other.

    Example:
        >>> TextLikelihood(name="books", rows=Files(path="held_out/*.txt"))

    Source: Gao et al. (2021), lm-evaluation-harness, whose bits_per_byte, byte_perplexity and word_perplexity these are.
    """

    text: str = "text"
    """The column of the texts."""

    def sittings(self, respondent: Respondent, progress: Progress = lambda line: None) -> list[Sitting]:
        rows = self.drawn(self.read())
        texts, groups = [text_in(row.columns, self.text) for row in rows], self.groups(rows)
        told = told_texts(respondent.model, respondent.tokenizer, texts,
                          progress=lambda done: progress(f"{respondent.name}: {self.name}: {done} rows of tokens read"))  # fmt: skip
        outcomes = []
        for row, text, logprob, ids in zip(rows, texts, told, respondent.tokenizer.encode_batch(texts), strict=True):
            numbers = {"nats": -logprob, "bytes": len(text.encode()), "words": len(re.split(r"\s+", text)), "tokens": len(ids)}
            outcomes.append(Outcome(row.id, text, (), "", numbers))
        return [Sitting(self.name, "text", outcomes, measured(outcomes, groups))]


def measured(outcomes: Sequence[Outcome], groups: Sequence[str] | None) -> dict[str, Measure]:
    """The figures of texts."""

    def parts(of: str, scale: float = 1.0) -> Float[np.ndarray, "texts two"]:
        return np.array([[one.numbers["nats"] * scale, one.numbers[of]] for one in outcomes], np.float64)

    perplexities = {"byte_perplexity": "bytes", "word_perplexity": "words", "token_perplexity": "tokens"}
    return {"bits_per_byte": Measure(parts("bytes", 1 / math.log(2)), groups=groups, unit="")} | {
        name: Measure(parts(of), exp_ratio, groups, unit="") for name, of in perplexities.items()}  # fmt: skip


def exp_ratio(sums: Float[np.ndarray, "*draws two"]) -> Float[np.ndarray, "*draws"]:
    """exp(Σa / Σb)."""
    return np.exp(ratio(sums))
