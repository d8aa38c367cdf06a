"""Fuzzy deduplication beside datatrove, end to end, on real documents with planted near-duplicates of known similarity.

    python bench/dedup.py [--data FOLDER] [--planted 800] [--seed 0] [--only ours|datatrove …]

Novels are cut into documents of 300 to 1500 words. Into them are planted, for each similarity, documents in which words of another one were
replaced until their Jaccard similarity (of runs of five lower-case words) was the one wanted. Each contender reads the same JSONL file and
writes what it keeps, in a process of its own, with 14 bands of 8 rows and 5-word shingles. What is printed: recall at each similarity (pairs of
which one went), precision (documents that went and to which another one has a true similarity of 0.5 or more), and CPU seconds of the process
and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

LEVELS = (0.95, 0.9, 0.8, 0.7)
SHINGLE = 5
CONTENDERS = ("ours, bands once", "ours", "datatrove")


def cut_novels(folder: Path, rng: random.Random) -> Iterator[str]:
    """Documents of 300 to 1500 words."""
    for path in sorted(folder.glob("A_text/*novels*/*.txt")):
        words = re.findall(r"\S+\s*", path.read_text("utf-8", errors="replace"))
        at = 0
        while at < len(words):
            length = rng.randint(300, 1500)
            yield "".join(words[at : at + length])
            at += length


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[i:] for i in range(SHINGLE)), strict=False))


def jaccard(one: set, other: set) -> float:
    return len(one & other) / max(1, len(one | other))


def edited(text: str, level: float, rng: random.Random, vocabulary: list[str]) -> tuple[str, float] | None:
    """The text with words replaced until its similarity is within 0.01 of the level, and that similarity."""
    words, of = text.split(" "), runs(text)
    places = list(range(len(words)))
    rng.shuffle(places)
    similarity, step = 1.0, max(1, int(len(words) * (1 - level) / (1 + level) / SHINGLE / 2))
    while places and similarity > level + 0.01:
        for at in [places.pop() for _ in range(min(step, len(places)))]:
            words[at] = rng.choice(vocabulary)
        similarity, step = jaccard(of, runs(" ".join(words))), 1 + step // 8
    return (" ".join(words), similarity) if abs(similarity - level) <= 0.01 else None


def plant(folder: Path, planted: int, seed: int) -> tuple[list[str], list[tuple[int, int, float, float]]]:
    """The documents, and the planted pairs: original, copy, level, true similarity."""
    rng = random.Random(seed)
    documents = [text for text in cut_novels(folder, rng) if len(text.split()) > 100]
    vocabulary = sorted(set(" ".join(documents[:200]).split()))
    originals = rng.sample(range(len(documents)), min(planted * len(LEVELS), len(documents)))
    copies = []
    for place, original in enumerate(originals):
        level = LEVELS[place % len(LEVELS)]
        made = edited(documents[original], level, rng, vocabulary)
        if made is not None:
            copies.append((original, level, *made))
    order = [(i, None) for i in range(len(documents))] + [(None, i) for i in range(len(copies))]
    rng.shuffle(order)
    at_document = {i: at for at, (i, _) in enumerate(order) if i is not None}
    texts = [documents[i] if i is not None else copies[j][2] for i, j in order]
    pairs = [(at_document[copies[j][0]], at, copies[j][1], copies[j][3]) for at, (_, j) in enumerate(order) if j is not None]
    return texts, pairs


def ours(work: Path, arrangements: int) -> None:
    """Our own pipeline, as `Prepare` runs it."""
    from bloomery.text.engine import Processes, Refinery
    from bloomery.text.filters import MinHash
    from bloomery.text.readers import Files

    output = work / "kept"
    output.mkdir()
    filter = MinHash(arrangements=arrangements) if arrangements > 1 else MinHash(arrangements=1, min_jaccard=0)
    Refinery(
        source=Files(path=str(work.parent / "documents.jsonl"), meta_columns=("number",)), filters=(filter,), known=(), part_bytes=64 << 20,
        held_out=0.0, keep_dropped=0.0, output=output, executor=Processes(1), open=lambda f: f, progress=lambda line: None,
    ).run()  # fmt: skip


def datatrove(work: Path) -> None:
    """The peer's four stages, each by its local executor."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig(n_grams=SHINGLE, num_buckets=14, hashes_per_bucket=8)
    reader = JsonlReader(str(work.parent), glob_pattern="documents.jsonl", id_key="number")
    signatures, buckets, remove = (str(work / name) for name in ("signatures", "buckets", "remove"))
    steps = (
        ([reader, MinhashDedupSignature(output_folder=signatures, config=config)], 1),
        ([MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)], config.num_buckets),
        ([MinhashDedupCluster(input_folder=buckets, output_folder=remove, config=config)], 1),
        ([reader, MinhashDedupFilter(input_folder=remove), JsonlWriter(str(work / "kept"), compression=None)], 1),
    )
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=str(work / f"logs{number}")).run()


def kept_numbers(work: Path) -> set[int]:
    """The documents that a contender has left."""
    if files := sorted((work / "kept").glob("documents-*.parquet")):
        from bloomery.text.documents import read_parquet

        return {int(json.loads(meta)["number"]) for batch in read_parquet(files, ["meta"]) for meta in batch.column(0).to_pylist()}
    return {int(json.loads(line)["id"]) for path in (work / "kept").glob("*.jsonl") for line in path.open()}


def run(name: str, work: Path) -> float:
    """Lets a contender work in a process of its own; returns its CPU seconds."""
    work.mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = (work / "log").open("w")
    subprocess.run([sys.executable, __file__, "--child", name, "--work", str(work)], check=True, stdout=log, stderr=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best_similarities(texts: list[str], rows: list[int]) -> list[float]:
    """The true similarity of each of some documents to the one that is most like it."""
    from bloomery.text.shingles import shingles, words_of

    parts = [shingles(words_of(pa.array(texts[i : i + 1000])), SHINGLE) for i in range(0, len(texts), 1000)]
    sets = [np.unique(hashes[a:b]) for hashes, bounds in parts for a, b in pairwise(bounds.tolist())]
    flat, owner = np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    order = np.argsort(flat, kind="stable")
    flat, owner = flat[order], owner[order]
    best = []
    for row in rows:
        low, high = (np.searchsorted(flat, sets[row], side) for side in ("left", "right"))
        shared = np.bincount(np.concatenate([owner[a:b] for a, b in zip(low, high, strict=True)] or [[]]).astype(int), minlength=len(sets))
        shared[row] = 0
        other = int(np.argmax(shared))
        best.append(shared[other] / max(1, len(sets[row]) + len(sets[other]) - shared[other]))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLOOMERY_DATA", ".")))
    parser.add_argument("--planted", type=int, default=800, help="near-duplicates per similarity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=CONTENDERS)
    parser.add_argument("--child")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    if options.child:
        datatrove(options.work) if options.child == "datatrove" else ours(options.work, 1 if options.child.endswith("once") else 2)
        return
    texts, pairs = plant(options.data, options.planted, options.seed)
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB, {len(pairs)} planted near-duplicates", flush=True)
    header = "".join(f"  recall {level:g}" for level in LEVELS)
    print(f"{'':18}{header}  precision  dropped  CPU seconds", flush=True)
    cpu = {}
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "documents.jsonl").open("w") as file:
            file.writelines(json.dumps({"text": text, "number": str(number)}) + "\n" for number, text in enumerate(texts))
        for place, name in enumerate(options.only):
            work = Path(folder) / str(place)
            cpu[name] = run(name, work)
            gone = set(range(len(texts))) - kept_numbers(work)
            recall = [np.mean([a in gone or b in gone for a, b, at, _ in pairs if at == level]) for level in LEVELS]
            paired = {i for a, b, _, _ in pairs for i in (a, b)}
            right = len(gone & paired) + sum(best >= 0.5 for best in best_similarities(texts, sorted(gone - paired)))
            figures = "".join(f"{share:{len(f'  recall {level:g}')}.4f}" for share, level in zip(recall, LEVELS, strict=True))
            print(f"{name:18}{figures}  {right / max(1, len(gone)):9.4f}  {len(gone):7}  {cpu[name]:11.2f}", flush=True)
    for name in CONTENDERS[:2]:
        if name in cpu and "datatrove" in cpu:
            print(f"{name}: 1/{cpu['datatrove'] / cpu[name]:.1f} of datatrove's CPU seconds")


if __name__ == "__main__":
    main()
