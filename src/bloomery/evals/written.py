"""`Generative`: what a model writes to a prompt, beside what was expected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.data.columns import value_in
from bloomery.evals.answers import same_words, shared_words
from bloomery.evals.estimates import Measure
from bloomery.evals.prompts import Prompt, Shown, text_of
from bloomery.evals.task import Outcome, Progress, Prompted, Respondent, Row
from bloomery.evals.texts import bleu_of, bleu_parts, chrf_of, chrf_parts, rouge_each
from bloomery.generate import Decoding, Writer

AT_ONCE = 64
Compared = Literal["exact", "words", "bleu", "chrf", "rouge"]


class Generative(Prompted):
    """Questions that a model writes an answer to. What counts of it may be taken out by a regular expression.

        exact       the share of answers that are an expected one, blanks at the ends apart
        words       same_words: the share that are so without case, signs and articles; shared_words: F1 of their words (both as SQuAD has them)
        bleu, chrf  of all answers together, of 100
        rouge       the means of ROUGE-1, -2 and -L, of 100

    Example:
        >>> Generative(name="sums", rows=…, prompts=(Prompt(ask="{question}\\nAnswer:"),), taken=r"####\\s*(-?[\\d,.]+)", ignored=(",",))
    """

    expected: str = "answer"
    """The column of the expected answer, or of a list of them of which any will do."""
    decoding: Decoding = Decoding(stops=("\n",), max_new_tokens=32)
    """How answers are written."""
    taken: str = ""
    """A regular expression for what counts of an answer: its first group, or all that it finds. Where it finds nothing, nothing was said.
    Empty: all of it."""
    which: Literal["first", "last"] = "first"
    """Of several that it finds."""
    taken_of_expected: str = ""
    """Likewise, of what is expected."""
    ignored: tuple[str, ...] = ()
    """Regular expressions for what does not count on either side, thousands' commas say."""
    compared: tuple[Compared, ...] = Field(default=("exact",), min_length=1)
    """By what answers are judged; the first one counts."""

    def check(self) -> None:
        super().check()
        for field, patterns in (("taken", [self.taken]), ("taken_of_expected", [self.taken_of_expected]), ("ignored", self.ignored)):
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise self.refuse(field, f"is no regular expression: {error}; mend it") from None

    @property
    def right(self) -> str:
        return "same_words" if self.compared[0] == "words" else "exact"

    def content(self, row: Row) -> str:
        return self.prompts[0].asked(row.columns)

    def wanted(self, row: Row) -> tuple[str, ...]:
        """The expected answers; raises `DataError` where there is none."""
        value = value_in(row.columns, self.expected)
        listed = value if isinstance(value, list) else [value]
        if not listed or None in listed:
            raise DataError(f"column {self.expected!r} holds {value!r}, no expected answer; name another")
        return tuple(text_of(one) for one in listed)

    def example(self, prompt: Prompt, row: Row) -> Shown:
        return Shown(prompt.asked(row.columns), self.wanted(row)[0])

    def put(self, respondent: Respondent, prompt: Prompt, shown: Sequence[Shown], rows: Sequence[Row], progress: Progress) -> list[Outcome]:
        model, tokenizer = respondent.model, respondent.tokenizer
        writer = Writer(model, tokenizer, self.decoding)
        room = max(1, model.config.max_seq_len - self.decoding.max_new_tokens)
        asked = [self._named(row, lambda row: prompt.asked(row.columns)) for row in rows]
        outcomes: list[Outcome] = []
        for start in range(0, len(rows), AT_ONCE):
            part = range(start, min(start + AT_ONCE, len(rows)))
            prompts = [prompt.ids(tokenizer, shown, asked[i])[-room:] for i in part]
            written = writer.write(prompts, [derive_seed("answer", self.seed, rows[i].id) for i in part])
            for i, one in zip(part, written, strict=True):
                expected = tuple(self._counted(text, self.taken_of_expected, "last") for text in self._named(rows[i], self.wanted))
                said = self._counted(one.text, self.taken, self.which)
                numbers = {"exact": float(said in expected)}
                if "words" in self.compared:
                    numbers |= {"same_words": same_words(expected, said), "shared_words": shared_words(expected, said)}
                outcomes.append(Outcome(rows[i].id, asked[i], expected, said, numbers, one.text if self.taken else ""))
            progress(f"{len(outcomes)} of {len(rows)} answered")
        return outcomes

    def _counted(self, text: str, pattern: str, which: str) -> str:
        """What counts of a text."""
        if pattern:
            found = list(re.finditer(pattern, text))
            text = "" if not found else (one := found[0 if which == "first" else -1])[1 if one.re.groups else 0] or ""
        for pattern in self.ignored:
            text = re.sub(pattern, "", text)
        return text.strip()

    def measured(self, outcomes: Sequence[Outcome], groups: Sequence[str] | None) -> dict[str, Measure]:
        found: dict[str, Measure] = {}
        first, said = [one.expected[0] for one in outcomes], [one.said for one in outcomes]
        for kind in self.compared:
            if kind in ("exact", "words"):
                for name in ("exact",) if kind == "exact" else ("same_words", "shared_words"):
                    found[name] = Measure.mean([one.numbers[name] for one in outcomes], groups)
            elif kind == "bleu":
                found[kind] = Measure(bleu_parts(first, said), bleu_of, groups, unit="")
            elif kind == "chrf":
                found[kind] = Measure(chrf_parts(first, said), chrf_of, groups, unit="")
            else:
                found |= {name: Measure.mean(scores, groups, unit="") for name, scores in rouge_each(first, said).items()}
        return found
