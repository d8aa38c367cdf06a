"""`MultipleChoice`: which of some choices a model finds likeliest: as they are, for their length, and beside what they are unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.data.columns import value_in
from bloomery.evals.estimates import Measure, Unit
from bloomery.evals.likelihood import likelihoods
from bloomery.evals.metrics import mean_average_precision
from bloomery.evals.prompts import Prompt, Shown, text_of
from bloomery.evals.task import Choice, Outcome, Progress, Prompted, Respondent, Row
from bloomery.text.learned.metrics import BINS, calibration


class MultipleChoice(Prompted):
    """Questions of which one of several choices is right. A model chooses what it finds likeliest as what follows the question:

        accuracy                  argmax log p(choice | question)
        accuracy_per_character    the same, divided by the characters of the choice; _per_byte by its bytes in UTF-8, _per_token by its tokens
        accuracy_unconditional    argmax log p(choice | question) − log p(choice), of choices by themselves, behind `Prompt.alone`
        map_at_3                  the mean of 1 / rank of the right one, 0 beyond the third; or another k
        f1_macro                  where options are the same for all rows: the mean over them of F1 = 2·both / (right + said) of each
        calibration_error         how far the probability of the likeliest choice is from how often it is right, in tenths
        brier                     the mean of Σ over choices of (p − 1 if it is the right one)²

    where p = softmax of log p over the choices. All come from one pass, which reads the question once.

    Example:
        >>> MultipleChoice(name="arc", rows=Files(path="arc.jsonl", rows=Rows(form="columns")),
        ...                prompts=(Prompt(ask="Question: {question}\\nAnswer:"),))

    Source: Brown et al. (2020), arXiv 2005.14165, section 2.4, for the normalised and the unconditional variant; Gao et al. (2021),
    lm-evaluation-harness, whose acc, acc_norm, acc_bytes and acc_mutual_info (alone="") these are; Guo et al. (2017), arXiv 1706.04599; Brier
    (1950).
    """

    choices: str | tuple[str, ...] = "choices"
    """The column with the list of choices; or a column for each of them, of which a row may leave some empty."""
    options: tuple[str, ...] = ()
    """Choices that are the same for all rows; `choices` is not read then."""
    k: int = Field(default=3, ge=1)
    """Of MAP@k: from which rank on a choice counts nothing."""
    gold: str = "gold"
    """The column that says which is right: its number from 0, its column's name where each has one, a label of a prompt, or its text."""

    @property
    def right(self) -> str:
        return "accuracy"

    def content(self, row: Row) -> str:
        return f"{self.prompts[0].asked(row.columns)}\n{self.of(row)[self.number(row)]}"  # with whatever else there is to choose

    def parts(self) -> tuple[list[Row], list[Row], list[str]]:
        asked, shown, notes = super().parts()
        by_chance = sum(1 / len(self._named(row, self.of)) for row in asked) / len(asked)
        return asked, shown, [f"{self.name}: choosing blindly is right in {by_chance:.1%}", *notes]

    def of(self, row: Row) -> list[str]:
        """The choices of a row; raises `DataError` where there are not two."""
        if self.options:
            return list(self.options)
        columns = self._columns(row)
        listed = value_in(row.columns, self.choices) if isinstance(self.choices, str) else [row.columns[column] for column in columns]
        if not isinstance(listed, list) or len(listed) < 2 or "" in listed or None in listed:
            raise DataError(f"{self.choices} holds no list of two choices or more, but {listed!r}; name another column")
        return [text_of(choice) for choice in listed]

    def _columns(self, row: Row) -> list[str]:
        """Of choices that have a column each, those that are there."""
        return [] if isinstance(self.choices, str) else [column for column in self.choices if value_in(row.columns, column) is not None]

    def number(self, row: Row) -> int:
        """The number of the right choice, from 0; raises `DataError` where that is none."""
        value, choices = value_in(row.columns, self.gold), self.of(row)
        names = self._columns(row)
        labels = next((list(prompt.labels) for prompt in self.prompts if prompt.labels), [])
        number = -1
        if isinstance(value, bool | int | float) and int(value) == value:
            number = int(value)
        elif isinstance(value, str):
            number = next((known.index(value) for known in (names, choices, labels) if value in known), int(value) if value.isdecimal() else -1)
        if not 0 <= number < len(choices):
            raise DataError(f"column {self.gold!r} holds {value!r}, which is none of {len(choices)} choices; give a number from 0, or a text")
        return number

    def answers(self, prompt: Prompt, row: Row) -> list[str]:
        """The choices as answers in a wording: their labels, or their texts."""
        choices = self.of(row)
        return list(prompt.labels[: len(choices)]) if prompt.labels else choices

    def example(self, prompt: Prompt, row: Row) -> Shown:
        return Shown(prompt.asked(row.columns, self.of(row)), self.answers(prompt, row)[self.number(row)])

    def put(self, respondent: Respondent, prompt: Prompt, shown: Sequence[Shown], rows: Sequence[Row], progress: Progress) -> list[Outcome]:
        tokenizer, pairs, sizes = respondent.tokenizer, [], []
        for row in rows:
            answers = self._named(row, partial(self.answers, prompt))
            asked = self._named(row, lambda row: prompt.asked(row.columns, self.of(row)))
            pairs += [*prompt.pairs(tokenizer, shown, asked, answers), *prompt.unasked(tokenizer, answers)]
            sizes.append(len(answers))
        distinct = len(set(pairs))
        told = iter(likelihoods(respondent.model, pairs, progress=lambda done: progress(f"{done} of {distinct} answers weighed")))
        behind, outcomes = iter(pairs), []
        for row, size in zip(rows, sizes, strict=True):
            with_question, alone = (np.array([next(told).logprob for _ in range(size)]) for _ in range(2))
            tokens = np.array([len(pair.after) for pair in islice(behind, 2 * size)][:size])
            answers, right = self.answers(prompt, row), self._named(row, self.number)
            shares = softmax(with_question)
            choices = tuple(Choice(*one) for one in zip(answers, with_question.tolist(), shares.tolist(), strict=True))
            outcomes.append(Outcome(
                id=row.id, asked=prompt.asked(row.columns, self.of(row)), expected=(answers[right],),
                said=answers[int(with_question.argmax())], choices=choices,
                numbers=judged(answers, with_question, alone, tokens, right, self.k),
            ))  # fmt: skip
        return outcomes

    def measured(self, outcomes: Sequence[Outcome], groups: Sequence[str] | None) -> dict[str, Measure]:
        numbers = {name: np.array([one.numbers[name] for one in outcomes]) for name in outcomes[0].numbers}
        units: dict[str, Unit] = {"brier": "", f"map_at_{self.k}": ""}
        found = {name: Measure.mean(values, groups, units.get(name, "%")) for name, values in numbers.items() if name != "confidence"}
        found["calibration_error"] = Measure(tenths(numbers["confidence"], numbers["accuracy"]), calibration_error, groups)
        if self.options:
            answers = [choice.text for choice in outcomes[0].choices]
            right, said = (np.array([answers.index(text) for text in of]) for of in
                           ([one.expected[0] for one in outcomes], [one.said for one in outcomes]))  # fmt: skip
            found["f1_macro"] = Measure(np.eye(len(answers) ** 2)[len(answers) * right + said], f1_macro, groups)
        return found


def judged(
    answers: Sequence[str], given: Float[np.ndarray, " choices"], alone: Float[np.ndarray, " choices"], tokens: Any, right: int, k: int
) -> Mapping[str, float]:
    """What a question counts, by name.

    Args:
        answers: the choices.
        given: log p of each behind the question.
        alone: by itself.
        tokens: of each.
        right: the number of the right one.
        k: of MAP@k.
    """
    characters, octets = (np.array([max(1, len(size)) for size in sizes]) for sizes in (answers, [a.encode() for a in answers]))
    scores = {
        "accuracy": given, "accuracy_per_character": given / characters, "accuracy_per_byte": given / octets,
        "accuracy_per_token": given / np.maximum(tokens, 1), "accuracy_unconditional": given - alone,
    }  # fmt: skip
    shares = softmax(given)
    return {name: float(score.argmax() == right) for name, score in scores.items()} | {
        f"map_at_{k}": mean_average_precision(given[None], np.array([right]), k),
        "brier": float(((shares - (np.arange(len(given)) == right)) ** 2).sum()), "confidence": float(shares.max()),
    }  # fmt: skip


def softmax(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """eˢ / Σ eˢ."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def tenths(confidence: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n parts"]:
    """What the calibration error is a function of the sums of: in each tenth of confidence by how much it is more than was right; and 1."""
    parts = np.zeros((len(confidence), BINS + 1))
    parts[np.arange(len(parts)), np.minimum((confidence * BINS).astype(np.int64), BINS - 1)] = confidence - right
    parts[:, BINS] = 1
    return parts


def calibration_error(sums: Float[np.ndarray, "*draws parts"]) -> Float[np.ndarray, "*draws"]:
    """Σ over the tenths of |Σ confidence − Σ right| / n."""
    return np.abs(sums[..., :BINS]).sum(-1) / sums[..., BINS]


def f1_macro(sums: Float[np.ndarray, "*draws table"]) -> Float[np.ndarray, "*draws"]:
    """The mean F1 of classes, over those that are right or said somewhere, from the table of (right, said)."""
    classes = round(sums.shape[-1] ** 0.5)
    tables = sums.reshape(*sums.shape[:-1], classes, classes)
    both, seen = np.diagonal(tables, axis1=-2, axis2=-1), tables.sum(-1) + tables.sum(-2)
    return (2 * both / np.maximum(seen, 1)).sum(-1) / (seen > 0).sum(-1)


def reliability(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Of each tenth of confidence that is not empty: questions (`examples`), mean confidence (`mean_score`), the `share` that is right."""
    confidence, right = (np.array([one.numbers[name] for one in outcomes]) for name in ("confidence", "accuracy"))
    return calibration(confidence, right > 0, np.ones(len(outcomes)))[1]
