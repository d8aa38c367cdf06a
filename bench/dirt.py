"""How much of the dirt that was planted in tales the refinery finds, and how many clean documents it loses.

    python -m bench.dirt                 # 20,000 documents
    python -m bench.dirt --count 5000

Found means: dropped; or, of boilerplate and personal data, that the planted characters are gone from what is left; of mojibake, that it was
repaired. Lost means: a clean document that was dropped by anything.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
from recipes.refinery import short_document_filters

from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Dirt, Tales


def score(count: int, seed: int) -> dict[str, Counter[str]]:
    """For each kind of dirt, how many documents there were by what took it: a filter that dropped them, "rewritten", or "-" for none."""
    tales = Tales()
    tests = TaleConversations(tales=tales.replace(split="held_out"), count=1000, questions=6)
    source = TaleStories(tales=tales, count=count, dirt=Dirt(seed=seed))
    stage = Prepare(source=source, filters=short_document_filters(language="en", tests=(tests,)))
    with tempfile.TemporaryDirectory() as folder:
        artifact = stage.run(RunContext(store=Store(Path(folder)), quiet=True))
        dropped, touched = {}, defaultdict(set)
        for verdict in pq.read_table(artifact.file("verdicts.parquet")).to_pylist():
            touched[verdict["id"]].add(verdict["filter"])
            if verdict["action"] == "drop":
                dropped[verdict["id"]] = verdict["filter"]
        left = {row["id"]: row["text"] for batch in documents(artifact) for row in batch.to_pylist()}
    by: dict[str, Counter[str]] = defaultdict(Counter)
    for batch in source.batches():
        for row in batch.to_pylist():
            truth = json.loads(row["meta"])
            label, id = truth["label"], row["id"]
            planted = [row["text"][span["start"] : span["end"]] for span in truth["spans"]]
            gone = id not in left or (planted and not any(text in left[id] for text in planted))
            repaired = label == "mojibake" and "RepairEncoding" in touched[id]
            by[label][dropped.get(id) or ("rewritten" if gone or repaired else "-")] += 1
    return by


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{'planted':<18} {'documents':>9} {'found':>8}   by")
    for label, takers in score(arguments.count, arguments.seed).items():
        count = takers.total()
        share = 1 - takers["-"] / count
        by_whom = ", ".join(f"{name} {n}" for name, n in takers.most_common(4))
        print(f"{'clean (lost)' if label == 'clean' else label:<18} {count:>9} {share:>8.2%}   {by_whom}")


if __name__ == "__main__":
    main()
