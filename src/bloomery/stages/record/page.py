"""What the Data page shows, gathered once; `html` only lays it out."""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.stages.record.histogram import Histogram, histograms
from bloomery.stages.record.pairs import Leak, Pair, leaking, leaks, original, pairs
from bloomery.stages.record.record import Found, Record
from bloomery.stages.record.rules import Rule, rules

LEAKS_SHOWN = 200


@dataclass(frozen=True)
class Page:
    """All that the Data page shows.

    Attributes:
        title: the reference of the corpus.
        figures: (figure, what it is), for the head.
        rules: the filters and what they did.
        dropped: filter → some random documents that it dropped, and how many there are on record.
        histograms: of everything that was measured.
        pairs: filter → some duplicates that it dropped, beside what they repeat, and how many there are.
        leaks: test items that were met; the most frequent ones.
        leak_total: how many there are.
        leaking: some documents that were dropped for it.
        kept: some documents that stayed.
        seed: of all choices.
    """

    title: str
    figures: list[tuple[str, str]]
    rules: list[Rule]
    dropped: dict[str, tuple[list[Found], int]]
    histograms: list[Histogram]
    pairs: dict[str, tuple[list[Pair], int]]
    leaks: list[Leak]
    leak_total: int
    leaking: list[Found]
    kept: list[Found]
    seed: int


def page_of(record: Record, n: int = 10, seed: int = 0) -> Page:
    """Gathers the page: n random documents for each filter, n pairs, n that stayed."""
    told, met = rules(record), leaks(record)
    takers = [rule.flow.filter for rule in told if rule.dropped] if record.files("dropped") else []
    dropped = {filter: record.dropped(n, seed, filter=filter) for filter in takers}
    repeaters = [filter for filter, (found, _) in dropped.items() if any(one.drop and original(one.drop.reason) for one in found)]
    return Page(
        title=record.artifact.reference, figures=figures(record), rules=told, dropped=dropped, histograms=histograms(record),
        pairs={filter: pairs(record, n, seed, filter) for filter in repeaters},
        leaks=met[:LEAKS_SHOWN], leak_total=len(met), leaking=leaking(record, n, seed), kept=record.sample("documents", n, seed)[0], seed=seed,
    )  # fmt: skip


def figures(record: Record) -> list[tuple[str, str]]:
    """The figures at the head: what came in, what stayed, what went."""
    from bloomery.core.units import human_bytes

    summary = record.summary
    read, kept, aside = summary["documents_read"], summary["documents"], summary["held_out_documents"]
    found = [(f"{read:,}", f"documents read, {human_bytes(summary['bytes_read'])}"), (f"{kept:,}", f"kept, {human_bytes(summary['bytes'])}")]
    if aside:
        found.append((f"{aside:,}", "held out for evaluation"))
    found.append((share(read - kept - aside, read), f"dropped: {read - kept - aside:,} documents"))
    if summary.get("damaged"):
        found.append((f"{summary['damaged']:,}", "records that could not be read"))
    return found


def share(part: float, whole: float) -> str:
    """A share in per cent, with one digit that counts: "12.3 %", "0.04 %"."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    return f"{percent:.1f} %" if percent >= 1 else f"{percent:.1g} %"
