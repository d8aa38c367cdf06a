"""The card of a data set: Markdown below a YAML head, as the hub lays it out. It may lie as README.md beside the shards."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bloomery.core.units import human_bytes
from bloomery.stages.inert import inert, one_line
from bloomery.stages.markdown import fenced, plain, table, yaml_head
from bloomery.stages.record.census import Census, census
from bloomery.stages.record.page import figures, share
from bloomery.stages.record.pairs import DUPLICATE, LEAK_FILTER, leaks
from bloomery.stages.record.record import Found, Record, containing
from bloomery.stages.record.rules import Rule, rules

SAMPLE_CHARS = 600
ROWS = 20  # of a table


def card(record: Record, n: int = 3, seed: int = 0) -> str:
    """The card: what is in the corpus and where from, what was taken out and why, and n random documents."""
    counted, told = census(record), rules(record)
    repeated = sum(found.num_rows for found in record.verdicts(lambda t: containing(t["reason"], DUPLICATE), ["reason"]))
    parts = [
        _head(record, counted), f"# {plain(record.artifact.manifest.name)}", "", "Prepared by Bloomery. " + _sentence(record), "",
        "## What is in it", "", *_counts("source", counted.sources), *_counts("language", counted.languages),
        *(_counts("licence", counted.licences) or ["The documents do not say under which licence they stand; ask their sources.", ""]),
        "## How it was filtered", "", *_filters(told), "## What was removed, and why", "", *_removed(record, told),
        "## Repetitions and test items", "", *_judged_together(record, told, repeated),
        "## Some documents", "", *_samples(record.sample("documents", n, seed)[0], seed),
        "## Where it came from", "", *_lineage(record),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def _head(record: Record, counted: Census) -> str:
    """The YAML head. Values are written as JSON, which is YAML, too."""
    summary = record.summary
    head: dict[str, Any] = {"pretty_name": record.artifact.manifest.name}
    documents = summary["documents"] + summary["held_out_documents"]
    if codes := sorted(language for language in counted.languages if re.fullmatch("[a-z]{2,3}", language)):
        head["language"] = codes
    licence = next(iter(counted.licences), "unknown")  # the hub's word, if all documents tell the same one
    head["license"] = licence if counted.licences[licence] in (0, documents) and re.fullmatch(r"[a-z0-9.\-]+", licence) else "other"
    files = {"train": "documents", "validation": "held_out"}
    splits = [{"split": split, "path": f"{kind}-*.parquet"} for split, kind in files.items() if record.files(kind)]
    head |= {"size_categories": [_size(documents)], "task_categories": ["text-generation"], "tags": ["bloomery"]}
    head["configs"] = [{"config_name": "default", "data_files": splits}]
    return yaml_head(head)


def _size(documents: int) -> str:
    """The hub's word for a number of documents."""
    tens = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    names = ("n<1K", *(f"{low}<n<{high}" for low, high in pairwise(tens)), "n>1T")
    return names[min(len(names) - 1, max(0, len(str(documents)) - 3))]


def _sentence(record: Record) -> str:
    return "; ".join(f"{figure} {what}" for figure, what in figures(record)) + "."


def _counts(name: str, counted: Counter[str]) -> list[str]:
    if not counted:
        return []
    whole = counted.total()
    rows = [(plain(value), f"{documents:,}", share(documents, whole)) for value, documents in counted.most_common(ROWS)]
    more = [f"… and {len(counted) - ROWS:,} more.", ""] if len(counted) > ROWS else []
    return [*table((name, "documents", "share"), rows), *more]


def _filters(told: Sequence[Rule]) -> list[str]:
    lines = []
    for place, rule in enumerate(told, 1):
        settings = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in rule.fields.items())
        parts = (rule.sentence, f"Bounds: {'; '.join(rule.bounds)}." if rule.bounds else "", f"Set: {settings}." if settings else "",
                 f"Source: {rule.source}." if rule.source else "")  # fmt: skip
        lines.append(f"{place}. **{plain(rule.flow.filter)}.** " + " ".join(plain(part) for part in parts if part))
    return [*(lines or ["No filter stood here."]), ""]


def _removed(record: Record, told: Sequence[Rule]) -> list[str]:
    rows = [
        (plain(r.flow.filter), f"{r.flow.documents_in:,}", f"{r.dropped:,}", share(r.dropped, r.flow.documents_in),
         human_bytes(r.flow.bytes_in - r.flow.bytes_out), f"{r.flow.rewritten:,}") for r in told
    ]  # fmt: skip
    lines = table(("filter", "documents in", "dropped", "share", "bytes removed", "rewritten"), rows)
    reasons = _reasons(record)
    if reasons:
        lines += ["Reasons, the most frequent first (names of documents left out):", ""]
        rows = [(plain(filter), plain(reason), f"{count:,}") for (filter, reason), count in reasons.most_common(ROWS)]
        lines += table(("filter", "reason", "documents"), rows)
    return lines


def _reasons(record: Record) -> Counter[tuple[str, str]]:
    """How often documents were dropped for which reason."""
    counted: Counter[tuple[str, str]] = Counter()
    for found in record.verdicts(lambda t: containing(t["action"], "drop"), ["filter", "action", "reason"]):
        for row in found.group_by(["filter", "reason"]).aggregate([([], "count_all")]).to_pylist():
            reason = row["reason"].partition(DUPLICATE)
            counted[row["filter"], reason[0] + reason[1].removesuffix(" of ") if reason[1] else one_line(row["reason"], 80)] += row["count_all"]
        if len(counted) > 100_000:
            counted = Counter(dict(counted.most_common(1000)))
    return counted


def _judged_together(record: Record, told: Sequence[Rule], repeated: int) -> list[str]:
    lines = [f"- {repeated:,} documents were dropped as repetitions of others." if repeated else "- No document was dropped as a repetition."]
    if any(rule.flow.filter.startswith(LEAK_FILTER) for rule in told):
        met = leaks(record)
        dropped, rewritten = sum(leak.dropped for leak in met), sum(leak.rewritten for leak in met)
        lines.append(f"- {len(met):,} test items were met; {dropped:,} documents were dropped and {rewritten:,} rewritten for it.")
    else:
        lines.append("- It was not compared with any test set.")
    return [*lines, ""]


def _samples(found: Sequence[Found], seed: int) -> list[str]:
    lines = [f"Picked at random (seed {seed}); long ones are cut.", ""]
    for one in found:
        text = inert(one.text[:SAMPLE_CHARS]) + (" …" if len(one.text) > SAMPLE_CHARS else "")
        lines += [f"{plain(one.id)}", "", *fenced(text), ""]
    return lines


def _lineage(record: Record) -> list[str]:
    manifest = record.artifact.manifest
    inputs = [f"- `{field}`: `{reference}`" for field, reference in manifest.inputs.items()]
    fields = json.dumps(manifest.fields, indent=2, ensure_ascii=True)
    version = manifest.made["bloomery"]
    return [f"`{record.artifact.reference}`, made with Bloomery {version}.", "", *inputs, *([""] if inputs else []), "```json", fields, "```"]
