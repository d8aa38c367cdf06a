"""Content filters beside datatrove's: CPU seconds per MB of text, and on how many documents the two decide alike.

    python bench/content_filters.py --data DIR      # DIR holds A_text and, for personal data and toxicity, E_quality

Both sides judge the same documents in the same process; the peer's word splitting, which it does per filter, is part of its time, as ours is of
ours. The peer stops at the first rule that a document breaks; ours measures everything, for the record. `same words` hands our words to the
peer's rules. Last come recall and precision on labelled data.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bloomery.text.documents import Document, in_batches, to_batch
from bloomery.text.filters import (
    Bias,
    C4Quality,
    CodeQuality,
    Filter,
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    PersonalData,
    Suspicion,
    Toxicity,
)  # fmt: skip
from bloomery.text.filters.words import Words
from bloomery.text.tales import Tales
from bloomery.text.tales.dirt import Dirt

PEERS = {
    "GopherQuality": ("gopher_quality_filter", "GopherQualityFilter"),
    "GopherRepetition": ("gopher_repetition_filter", "GopherRepetitionFilter"),
    "FineWebQuality": ("fineweb_quality_filter", "FineWebQualityFilter"), "C4Quality": ("c4_filters", "C4QualityFilter"),
}  # fmt: skip
KINDS = {
    "PHONE_NUMBER": "phone", "STREET_ADDRESS": "street_address", "CREDIT_CARD": "credit_card", "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip_address", "IBAN_CODE": "iban", "US_SSN": "national_id",
}  # fmt: skip


def documents(data: Path) -> dict[str, list[str]]:
    """Documents of three kinds."""
    folder = data / "A_text" / "wiki_c4_demo"
    pages = [json.loads(line)["text"] for line in (folder / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()]
    paths = sorted((data / "A_text" / "english_novels_100").glob("*_*.txt"))[:8]
    novels = [path.read_text(encoding="utf-8-sig", errors="replace") for path in paths]
    chapters = [text[i : i + 6000] for text in novels for i in range(0, min(len(text), 240_000), 6000)]
    articles = (folder / "wiki_demo.txt").read_text(encoding="utf-8").splitlines()
    return {"C4 pages": pages, "Wikipedia articles": articles, "pieces of novels": chapters}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what came of it."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def batches_of(texts: list[str]) -> list[pa.RecordBatch]:
    return list(in_batches(Document(str(i), text, "s") for i, text in enumerate(texts)))


def our_words(text: str, language: str = "en") -> list[str]:
    words = Words.of(pa.array([text]))
    return [text[s : s + n] for s, n in zip(words.start.tolist(), words.chars.tolist(), strict=True)]


def beside_the_peer(texts: list[str]) -> Iterator[str]:
    data = importlib.import_module("datatrove.data")
    parts = importlib.import_module("datatrove.utils.text").split_into_parts
    size = sum(len(text.encode()) for text in texts) / 1e6
    batches = batches_of(texts)
    for filter in (GopherQuality(), GopherRepetition(), FineWebQuality(), C4Quality()):
        filter(batches[0].slice(0, 1))
        ours, verdicts = timed(lambda f=filter: [f(batch) for batch in batches])
        kept = [not gone for v in verdicts for gone in v.dropped.to_pylist()]
        module, name = PEERS[filter.kind()]
        peer_module = importlib.import_module(f"datatrove.pipeline.filters.{module}")
        peer = getattr(peer_module, name)()
        peer.filter(data.Document(text="Warm it up.", id="x"))
        parts.cache_clear()
        theirs, judged = timed(lambda p=peer: [p.filter(data.Document(text=text, id="x")) is True for text in texts])
        same = "-"
        if hasattr(peer_module, "split_into_words"):
            split, peer_module.split_into_words = peer_module.split_into_words, our_words
            alike = [k == (peer.filter(data.Document(text=text, id="x")) is True) for k, text in zip(kept, texts, strict=True)]
            peer_module.split_into_words = split
            same = f"{sum(alike)}/{len(texts)}"
        agree = sum(a == b for a, b in zip(kept, judged, strict=True))
        yield f"  {filter.kind():18}{ours / size:9.3f}{theirs / size:9.3f}{theirs / ours:8.0f}×   {agree}/{len(texts):<8}{same}"


def alone(texts: list[str]) -> Iterator[str]:
    size = sum(len(text.encode()) for text in texts) / 1e6
    batches = batches_of(texts)
    for filter in (CodeQuality(), Suspicion(), Toxicity(), Bias(), PersonalData()):
        filter(batches[0].slice(0, 1))
        seconds, verdicts = timed(lambda f=filter: [f(batch) for batch in batches])
        touched = sum(v.table("f").num_rows for v in verdicts)
        yield f"  {filter.kind():18}{seconds / size:9.3f}   touched {touched}/{len(texts)}"


def personal(data: Path) -> Iterator[str]:
    found, planted, touched, clean = 0, 0, 0, 0
    for document in Dirt(personal_data=0.3).plant(Tales(), 3000):
        spans = PersonalData().find(document.text)
        if document.label == "personal_data":
            truth = document.detail.spans[0]
            planted, found = planted + 1, found + any(a <= truth.start and truth.end <= b for a, b, _ in spans)
        clean, touched = clean + (document.label == "clean"), touched + (document.label == "clean" and bool(spans))
    yield f"  tales: {found}/{planted} planted data covered, {touched}/{clean} clean tales touched"
    gold, hit, cover, given, right = (Counter[str]() for _ in range(5))
    for row in json.loads((data / "E_quality" / "presidio_pii" / "synth_dataset_v2.json").read_text(encoding="utf-8")):
        spans = PersonalData().find(row["full_text"])
        truth = [(s["start_position"], s["end_position"], KINDS[s["entity_type"]]) for s in row["spans"] if s["entity_type"] in KINDS]
        for start, end, kind in truth:
            gold[kind] += 1
            hit[kind] += any(a < end and start < b and k == kind for a, b, k in spans)
            cover[kind] += any(a <= start and end <= b for a, b, _ in spans)
        for start, end, kind in spans:
            given[kind] += 1
            right[kind] += any(a < end and start < b and k == kind for a, b, k in truth)
    yield "  presidio records    labelled   recall  covered  precision"
    for kind in sorted(gold):
        shares = hit[kind] / gold[kind], cover[kind] / gold[kind], right[kind] / max(1, given[kind])
        yield f"  {kind:18}{gold[kind]:10}{shares[0]:9.3f}{shares[1]:9.3f}{shares[2]:11.3f}"


def toxic(data: Path) -> Iterator[str]:
    with open(data / "E_quality" / "hate_offensive" / "labeled_data.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    batch = to_batch([Document(str(i), row["tweet"], "s") for i, row in enumerate(rows)])
    listed = Toxicity(words=data / "E_quality" / "ldnoobw" / "en", max_share=None, max_listed=0)
    filters: dict[str, Filter] = {"own list": Toxicity(), "LDNOOBW, one word": listed, "bias": Bias()}
    yield "  of posts labelled         hateful  offensive  neither"
    for name, filter in filters.items():
        dropped = filter(batch).dropped.to_pylist()
        shares = [[gone for gone, row in zip(dropped, rows, strict=True) if row["class"] == kind] for kind in "012"]
        yield f"  {name:22}" + "".join(f"{sum(share) / len(share):11.3f}" for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_DATA"), help="the folder of real data sets")
    data = parser.parse_args().data
    if data is None:
        parser.error("say where the data is: --data or BLOOMERY_DATA")
    for name, texts in documents(data).items():
        print(f"{name}: {len(texts)} documents, {sum(len(text.encode()) for text in texts) / 1e6:.2f} MB; CPU seconds per MB")
        print("                         ours    peer   ratio   alike      alike, same words")
        for line in (*beside_the_peer(texts), *alone(texts)):
            print(line, flush=True)
    for title, lines in (("Personal data", personal(data)), ("Toxicity: share dropped", toxic(data))):
        print(title)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
