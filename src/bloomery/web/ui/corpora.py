"""What the Data page is told: of each corpus its funnel, what was dropped and why, other thresholds, repetitions, test items that were met."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.stages.record import Found, Piece, Record, differences, excerpt, figures, inert, leaks, pairs, story, what_if
from bloomery.stages.record.histogram import histograms
from bloomery.stages.record.pairs import DUPLICATE
from bloomery.stages.record.record import KINDS, containing
from bloomery.stages.record.rules import rules
from bloomery.store import Store
from bloomery.web.admission import RefusedError
from bloomery.web.ui.strips import finished

SHOWN = 12  # documents at a time
PAIRS = 8
LEAKS = 100
CHARS = 700  # of a document
REMEMBERED = 8  # corpora whose figures are kept


class Corpora:
    """The prepared corpora of a store. What is worked out of one is kept, since an artifact never changes.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def all(self) -> list[dict[str, Any]]:
        """Each with how many documents it has read and kept, the newest first."""
        return [
            {"reference": one.reference, "read": one.manifest.summary["documents_read"], "kept": one.manifest.summary["documents"],
             "held_out": one.manifest.summary["held_out_documents"], "bytes": one.manifest.summary["bytes"]}
            for one in reversed(self.store.artifacts()) if "funnel" in one.manifest.summary
        ]  # fmt: skip

    def corpus(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Its figures and filters, how each measure is spread, the test items that were met, and what has read it in which proportions."""
        record = self._record(asked)
        reference = record.artifact.reference
        if reference not in self._known:
            self._known[reference] = self._worked_out(record)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[reference] | {"mixtures": mixtures(self.store, reference)}

    def documents(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Some documents: "dropped", "documents" or "held_out"; of one filter, with some words in them; another seed shows others."""
        record, kind = self._record(asked), asked.get("kind", "dropped")
        filter, words, seed = asked.get("filter") or None, asked.get("search") or None, asked.get("seed", "0")
        if kind not in KINDS or not seed.isdecimal():
            raise RefusedError(400, f"kind={kind[:40]!r} is none of {', '.join(KINDS)}, or seed={seed[:40]!r} no number")
        number = int(seed) % (1 << 31)
        if kind == "dropped":
            found, total = record.dropped(SHOWN, number, filter=filter, search=words)
        elif words is None:
            found, total = record.sample(kind, SHOWN, number)
        else:
            found, total = record.sample(kind, SHOWN, number, lambda table: containing(table["text"], words), ["text"])
        return {"total": total, "documents": [_document(one, words) for one in found]}

    def pairs(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Some repetitions beside what they repeat, with what differs marked."""
        seed = asked.get("seed", "0")
        found, total = pairs(self._record(asked), PAIRS, int(seed) if seed.isdecimal() else 0)
        told = []
        for pair in found:
            if pair.twin is None:
                sides: Sequence[list[Piece]] = (excerpt(inert(pair.dropped.text)), [Piece("its text is not on record", "gap")])
            else:
                sides = differences(inert(pair.dropped.text), inert(pair.twin.text), CHARS)
            told.append({"id": pair.dropped.id, "of": pair.of, "why": _why(pair.dropped), "sides": [_pieces(side) for side in sides]})
        return {"total": total, "pairs": told}

    def margin(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """What other bounds of a measure would change, and the documents nearest to them."""
        record, measure = self._record(asked), asked.get("measure", "")
        known = self.corpus(asked)["measures"]
        if measure not in {one["measure"] for one in known}:
            raise RefusedError(404, f"{record.artifact.reference} measured no {measure[:80]!r}")
        found = what_if(record, measure, (_bound(asked, "low"), _bound(asked, "high")), SHOWN // 2)
        return {
            "before": found.before, "after": found.after, "reached": found.reached, "dropped": found.dropped, "released": found.released,
            "lost": found.lost, "lost_kept": found.lost_kept,
            "examples": [{"value": value} | _document(one) for value, one in found.examples],
        }  # fmt: skip

    def story(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """All that happened to one document."""
        told = story(self._record(asked), asked.get("id", ""))
        return {
            "id": told.id, "where": told.found.where if told.found else "its text is not on record", "repeats": told.repeats,
            "steps": [
                {"filter": filter, "what": what, "why": said.reason + said.compared if said else ""} for filter, what, said in told.steps
            ],
            "measures": told.measures, "text": _pieces(excerpt(inert(told.found.text), told.found.spans, 4 * CHARS)) if told.found else [],
        }  # fmt: skip

    def _record(self, asked: Mapping[str, str]) -> Record:
        reference = asked.get("ref", "")
        if (artifact := finished(self.store, reference)) is None:
            raise RefusedError(404, f"the store holds no corpus {reference[:200]!r}")
        return Record(artifact)

    def _worked_out(self, record: Record) -> dict[str, Any]:
        met = leaks(record)
        funnel = [
            {"filter": one.flow.filter, "came": one.flow.documents_in, "left": one.flow.documents_out, "dropped": one.dropped,
             "bytes": one.flow.bytes_in - one.flow.bytes_out, "rewritten": one.flow.rewritten, "told": one.sentence, "source": one.source,
             "bounds": one.bounds}
            for one in rules(record)
        ]  # fmt: skip
        return {
            "reference": record.artifact.reference, "figures": figures(record), "funnel": funnel, "texts": bool(record.files("dropped")),
            "measures": [{"measure": one.measure, "bounds": one.bounds, "bars": one.bars()} | one.plain() for one in histograms(record)],
            "leaks": [vars(leak) for leak in met[:LEAKS]], "leak_total": len(met),
            "repeats": any(table.num_rows for table in record.verdicts(lambda table: containing(table["reason"], DUPLICATE), ["reason"])),
        }  # fmt: skip


def mixtures(store: Store, corpus: str) -> list[dict[str, Any]]:
    """The trainings that read a corpus: of each of their sources the share of the rows, from one row on where it changes."""
    found = []
    for artifact in reversed(store.artifacts()):
        sources = artifact.manifest.fields.get("sources")
        names = [one for name, one in artifact.manifest.inputs.items() if name.startswith("sources[")]
        if not sources or not any(corpus in _corpora(store, name) for name in names):
            continue
        phases = artifact.manifest.summary.get("mixture") or [(0, _given(sources))]
        found.append({"reference": artifact.reference, "phases": [
            {"from": first, "shares": {name: part / sum(parts.values()) for name, part in parts.items()}} for first, parts in phases
        ]})  # fmt: skip
    return found


def _given(sources: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {share["tokens"]["name"]: share.get("proportion", 1.0) for share in sources}


def _corpora(store: Store, tokens: str) -> list[str]:
    artifact = store.find(tokens)
    return [] if artifact is None else list(artifact.manifest.inputs.values())


def _document(found: Found, words: str | None = None) -> dict[str, Any]:
    """As it is shown: what gave offence is marked, or the words that were looked for."""
    text = inert(found.text)
    return {
        "id": found.id, "source": found.source, "where": found.where, "filter": found.filter, "why": _why(found),
        "pieces": _pieces(excerpt(text, places(text, words) if words else found.spans, CHARS)),
    }  # fmt: skip


def places(text: str, words: str, most: int = 50) -> list[tuple[int, int]]:
    """Where words stand in a text, in upper or lower case."""
    folded, wanted, found, at = text.lower(), words.lower(), list[tuple[int, int]](), 0
    while wanted and len(found) < most and (at := folded.find(wanted, at)) >= 0:
        found.append((at, at := at + len(wanted)))
    return found


def _why(found: Found) -> dict[str, Any] | None:
    said = found.drop or (found.judgements[-1] if found.judgements else None)
    return None if said is None else {
        "filter": said.filter, "action": said.action, "reason": said.reason, "value": said.value, "threshold": said.threshold,
    }  # fmt: skip


def _pieces(pieces: Sequence[Piece]) -> list[list[str]]:
    return [[piece.text, piece.kind] for piece in pieces]


def _bound(asked: Mapping[str, str], name: str) -> float | None:
    try:
        return float(asked[name]) if asked.get(name) else None
    except ValueError:
        raise RefusedError(400, f"{name}={asked[name][:40]!r} is no number") from None
