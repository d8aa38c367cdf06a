"""`PersonalData`: addresses, numbers and accounts that lead to a person, masked or reason enough to drop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import SPANS, Filter, Measure, Verdicts, with_texts
from bloomery.text.filters.personal_rules import RULES, Kind, Rule

Found = tuple[int, int, Kind]
"""Where a datum begins and ends, in characters, and what it is."""

ROUNDS = 4  # a mask can uncover another datum, whose neighbour it became; hardly any text needs a second round
MASK = re.compile(f"<(?:{'|'.join(get_args(Kind))})>")


class PersonalData(Filter):
    """Masks what leads to a person ("<email>"), or drops the documents that have it.

    Each kind has patterns, and a check where there is one: an e-mail address; a telephone number, international, in the forms of North America
    and Europe, or beside a word such as "call"; IPv4 and IPv6, those that name no host aside; a street address of the forms common in English,
    French, German, Spanish, Italian and Dutch; a credit card by its issuer and Luhn's sum; an IBAN by its country's length and its remainder
    by 97; identity numbers of the USA, Britain, Spain, France and Italy. Names of persons are not looked for.

    Masked text is masked again until nothing is found; a document that goes on for more than four rounds, which no honest text does, is
    dropped. The spans of a rewritten document are its masks, those that were there before included.

    Source: SantaCoder's redaction, Ben Allal et al. (2023), arXiv 2301.03988, for masking by kind; check sums by ISO/IEC 7812-1
    and ISO 13616; the patterns are ours.
    """

    kinds: tuple[Kind, ...] = get_args(Kind)
    """What is looked for."""
    action: Literal["mask", "drop"] = "mask"
    """What happens to it: "mask" writes "<email>" in its place; "drop" drops the document."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        text = batch.column("text")
        found = self._found(text)
        if self.action == "drop":
            return Verdicts.by_measures(batch, self._measures(found, high=0), spans=spans_of(found))

        texts = text.to_pylist()
        messages = batch.column("messages").to_pylist() if batch.column("messages").null_count < batch.num_rows else [None] * batch.num_rows
        contents: list[str] = []
        endless = np.zeros(batch.num_rows, bool)
        for i, turns in enumerate(messages):
            if turns is not None:
                masked = [self._mask(turn["content"]) for turn in turns]
                endless[i] = any(value is None for value in masked)
                new = [turn["content"] if endless[i] else value or "" for turn, value in zip(turns, masked, strict=True)]
                contents += new
                texts[i] = texts[i] if new == [turn["content"] for turn in turns] else "\n\n".join(new)
            elif found[i]:
                value = self._mask(texts[i])
                endless[i] = value is None
                texts[i] = texts[i] if value is None else value
        after = with_texts(batch, pa.array(texts, pa.string()), pa.array(contents, pa.string()) if contents else None)
        marks: list[list[Found]] = [
            [(m.start(), m.end(), "email") for m in MASK.finditer(value)] if value != old else []
            for value, old in zip(texts, text.to_pylist(), strict=True)
        ]  # fmt: skip
        rewritten = Verdicts.rewrite(batch, after, "personal data masked", spans_of(marks))
        return Verdicts(
            batch=after, reasons=pc.if_else(endless, "personal data without end", rewritten.reasons), dropped=pa.array(endless),
            spans=rewritten.spans, measures=tuple(self._measures(found)),
        )  # fmt: skip

    def find(self, text: str, rules: Sequence[Rule] = RULES) -> list[Found]:
        """The personal data of a text, in order, none overlapping another."""
        every = []
        for order, rule in enumerate(rules):
            if rule.kind in self.kinds:
                every += [(start, order, end, rule.kind) for start, end in rule.find(text)]
        found: list[Found] = []
        for start, _, end, kind in sorted(every):
            if not found or start >= found[-1][1]:
                found.append((start, end, kind))
        return found

    def _found(self, text: pa.Array) -> list[list[Found]]:
        """The personal data of many texts; a pattern is tried only on those that have what it cannot do without."""
        hints = {hint: pc.match_substring_regex(text, hint).to_numpy(zero_copy_only=False) for hint in {rule.hint for rule in RULES}}
        worth = np.array([hints[rule.hint] for rule in RULES])
        return [
            self.find(value, [rule for rule, look in zip(RULES, looks, strict=True) if look]) if looks.any() else []
            for value, looks in zip(text.to_pylist(), worth.T, strict=True)
        ]

    def _mask(self, text: str) -> str | None:
        """The text masked so that nothing more is found; None if it has no end."""
        for _ in range(ROUNDS):
            found = self.find(text)
            if not found:
                return text
            begins = [0, *(end for _, end, _ in found)]
            pieces = [f"{text[begin:start]}<{kind}>" for begin, (start, _, kind) in zip(begins, found, strict=False)]
            text = "".join([*pieces, text[begins[-1] :]])
        return None if self.find(text) else text

    def _measures(self, found: list[list[Found]], high: int | None = None) -> list[Measure]:
        counts = [Counter(kind for _, _, kind in spans) for spans in found]
        return [Measure(name=kind, values=pa.array([float(c[kind]) for c in counts], pa.float64()), high=high) for kind in self.kinds]


def spans_of(found: list[list[Found]]) -> pa.Array:
    """Spans of each row, as Arrow has them."""
    return pa.array([[{"start": start, "end": end} for start, end, _ in spans] or None for spans in found], SPANS)
