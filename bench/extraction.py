"""Main text of web pages beside peers: token F1 and CPU time, with a paired bootstrap.

    python bench/extraction.py [--data FOLDER] [--rounds 3]

Reads `A_html/article_extraction_benchmark` (pages with gold article bodies) under the folder of real data, which BLOOMERY_DATA names as well.
The measure is that benchmark's own: texts as bags of 4-grams of words; precision and recall per page, their means over the pages, and F1 of
those means. Every contender reads the same pages in the same run. Differences from ours come with the 95 % interval of 10,000 paired
resamplings of pages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import Boilerplate, ExtractHtml

WORD = re.compile(r"\w+")
RESAMPLINGS = 10_000
Texts = dict[str, str]


def shingles(text: str, n: int = 4) -> Counter[tuple[str, ...]]:
    """The n-grams of a text's words; of a shorter one, all its words as one."""
    words = WORD.findall(text)
    return Counter(tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1)) if words)


def precision_and_recall(gold: str, found: str) -> tuple[float, float]:
    """Of one page; nan where the text that it is a share of is empty."""
    a, b = shingles(gold), shingles(found)
    common = (a & b).total()
    return common / b.total() if b else float("nan"), common / a.total() if a else float("nan")


def f1(scores: np.ndarray) -> np.ndarray:
    """F1 of mean precision and mean recall, of scores shaped (…, pages, 2)."""
    precision, recall = np.moveaxis(np.nanmean(scores, axis=-2), -1, 0)
    return 2 * precision * recall / (precision + recall)


def ours(pages: Texts) -> Texts:
    batch = to_batch([Document(key, html, "pages", None, '{"content_type": "text/html"}') for key, html in pages.items()])
    verdicts = ExtractHtml()(batch)
    texts = zip(batch["id"].to_pylist(), verdicts.batch["text"].to_pylist(), verdicts.dropped.to_pylist(), strict=True)
    return {key: "" if dropped else text for key, text, dropped in texts}


def ours_without_boilerplate(pages: Texts) -> Texts:
    found = ours(pages)
    batch = to_batch([Document(key, text, "pages") for key, text in found.items()])
    return dict(zip(found, Boilerplate()(batch).batch["text"].to_pylist(), strict=True))


def trafilatura(**how: bool) -> Callable[[Texts], Texts]:
    from trafilatura import extract

    return lambda pages: {key: extract(html, **how) or "" for key, html in pages.items()}


def resiliparse(pages: Texts) -> Texts:
    from resiliparse.extract.html2text import extract_plain_text

    return {key: extract_plain_text(html, main_content=True, alt_texts=False, comments=False) for key, html in pages.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_DATA"), help="the folder of real data")
    parser.add_argument("--rounds", type=int, default=3, help="how often each reads all pages; the least CPU time counts")
    args = parser.parse_args()
    if not args.data:
        parser.error("name the folder of real data with --data or BLOOMERY_DATA")
    folder = args.data / "A_html/article_extraction_benchmark"
    gold = {key: row["articleBody"] for key, row in json.loads((folder / "ground-truth.json").read_text("utf-8")).items()}
    files = sorted((folder / "html").glob("*.html.gz"))
    pages = {path.name.removesuffix(".html.gz"): gzip.decompress(path.read_bytes()).decode("utf-8") for path in files}
    stored = json.loads((folder / "output/trafilatura.json").read_text("utf-8"))
    output = stored.get("output", stored)

    contenders: dict[str, Callable[[Texts], Texts]] = {
        "ExtractHtml": ours,
        "ExtractHtml, Boilerplate": ours_without_boilerplate,
        "trafilatura": trafilatura(),
        "trafilatura, no comments": trafilatura(include_comments=False),
        "trafilatura, precision": trafilatura(include_comments=False, favor_precision=True),
        "trafilatura, recall": trafilatura(include_comments=False, favor_recall=True),
        "resiliparse, main content": resiliparse,
        f"trafilatura {stored.get('version', '')} as stored": lambda pages: {key: output[key]["articleBody"] or "" for key in pages},
    }
    megabytes = sum(len(html.encode()) for html in pages.values()) / 1e6
    print(f"{len(pages)} pages, {megabytes:.1f} MB\n")
    print(f"{'':28} {'F1':>7} {'precision':>9} {'recall':>7} {'CPU s':>7} {'MB/s':>6}   F1 of ExtractHtml minus this, 95 %")
    draws = np.random.default_rng(0).integers(0, len(pages), (RESAMPLINGS, len(pages)))
    first: np.ndarray | None = None
    for name, contender in contenders.items():
        seconds: list[float] = []
        found: Texts = {}
        for _ in range(args.rounds):
            start = time.process_time()
            found = contender(pages)
            seconds.append(time.process_time() - start)
        scores = np.array([precision_and_recall(gold[key], found[key]) for key in pages])
        resampled = f1(scores[draws])
        first = resampled if first is None else first
        low, middle, high = np.quantile(first - resampled, [0.025, 0.5, 0.975])
        precision, recall = np.nanmean(scores, axis=0)
        speed = f"{min(seconds):7.2f} {megabytes / min(seconds):6.1f}" if statistics.fmean(seconds) > 0.01 else " " * 14
        print(f"{name:28} {f1(scores):7.4f} {precision:9.4f} {recall:7.4f} {speed}   {middle:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)


if __name__ == "__main__":
    main()
