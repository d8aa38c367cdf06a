"""What each filter of a corpus is and was set to: its sentence and source, its bounds, its fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bloomery.stages.record.record import Record
from bloomery.stages.record.what_if import filter_of
from bloomery.text.filters import Filter, Flow

SOURCE = re.compile(r"Source: (.+?)(?:[.;] [Dd]epartures|\n\n|$)", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """One filter of the funnel.

    Attributes:
        flow: what it did.
        sentence: the first one of its description; empty where this version knows no such filter.
        source: what it was published in, if the description says so.
        bounds: in words: "words from 50 to 100000".
        fields: those that are not at their default.
    """

    flow: Flow
    sentence: str
    source: str
    bounds: list[str]
    fields: dict[str, Any]

    @property
    def dropped(self) -> int:
        """Documents that it took."""
        return self.flow.documents_in - self.flow.documents_out


def rules(record: Record) -> list[Rule]:
    """The filters of the corpus, in their order."""
    known = {cls.__name__: cls for cls in _below(Filter)}
    settings = _settings(record)
    found = []
    for place, flow in enumerate(record.funnel):
        cls = known.get(flow.filter.partition("[")[0])
        text = inspect.cleandoc(cls.__doc__ or "") if cls else ""
        source = SOURCE.search(text)
        bounds = [in_words(name.rpartition(".")[2], *pair) for name, pair in record.bounds.items() if filter_of(name) == flow.filter]
        cited = " ".join(source[1].split()).rstrip(".") if source else ""
        sentence = " ".join(text.partition("\n\n")[0].split())
        fields = settings[place] if place < len(settings) else {}
        found.append(Rule(flow, sentence.partition("Source: ")[0].strip(), cited, [words for words in bounds if words], fields))
    return found


def in_words(name: str, low: float | None, high: float | None) -> str:
    """A measure and its bounds; empty if it has none."""
    said = name.replace("_", " ")
    if low is not None and high is not None:
        return f"{said} from {low:g} to {high:g}"
    return f"{said} at least {low:g}" if low is not None else f"{said} at most {high:g}" if high is not None else ""


def _settings(record: Record) -> list[dict[str, Any]]:
    filters = record.artifact.manifest.fields.get("filters", [])
    return [{name: value for name, value in plain.items() if name not in ("kind", "contract")} for plain in filters]


def _below(cls: type[Filter]) -> Iterator[type[Filter]]:
    for child in cls.__subclasses__():
        yield child
        yield from _below(child)
