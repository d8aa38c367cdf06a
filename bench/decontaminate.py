"""What `Decontaminate` finds of real test questions planted in novels, what else it takes, and how fast it looks.

    python bench/decontaminate.py [--data FOLDER] [--planted 300] [--seed 0]

The tests are multiple-choice questions, each with its choices. Some are planted in the middle of documents cut from novels: as they are; in
capitals and without punctuation; the question without the choices; the first half of the words; with every tenth word replaced. What is
printed, for several values of `max_share`: the share found of each kind, and of the other documents the share that went; and the speed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bloomery.text.documents import Document, in_batches
from bloomery.text.filters import Decontaminate
from bloomery.text.readers import Files


def replaced(text: str) -> str:
    """Every tenth word another one."""
    return " ".join("something" if place % 10 == 9 else word for place, word in enumerate(text.split()))


KINDS: dict[str, Callable[[str, str], str]] = {
    "as it is": lambda question, choices: f"{question} {choices}",
    "capitals": lambda question, choices: re.sub(r"[^\w\s]", " ", f"{question} {choices}").upper(),
    "question": lambda question, choices: question,
    "half": lambda question, choices: " ".join(f"{question} {choices}".split()[: len(f"{question} {choices}".split()) // 2]),
    "1 in 10 replaced": lambda question, choices: replaced(f"{question} {choices}"),
}


def questions(folder: Path) -> list[tuple[str, str]]:
    """Questions and their choices."""
    lines = (line for path in sorted(folder.glob("D_eval/clean_mc/*.jsonl")) for line in path.open())
    rows = (json.loads(line) for line in lines)
    return [(row["question"], " ".join(map(str, row.get("choices") or ()))) for row in rows if row.get("question")]


def novels(folder: Path, rng: random.Random) -> Iterator[str]:
    """Documents of 200 to 800 words."""
    for path in sorted(folder.glob("A_text/english_novels_100/*.txt")):
        words = re.findall(r"\S+\s*", path.read_text("utf-8", errors="replace"))
        at = 0
        while at < len(words):
            length = rng.randint(200, 800)
            yield "".join(words[at : at + length])
            at += length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLOOMERY_DATA", ".")))
    parser.add_argument("--planted", type=int, default=300, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    items = questions(options.data)
    texts = list(novels(options.data, rng))
    long = [item for item in items if len(" ".join(item).split()) >= 13]
    labels: list[str | None] = [None] * len(texts)
    for place, at in enumerate(rng.sample(range(len(texts)), min(len(texts), options.planted * len(KINDS)))):
        kind = list(KINDS)[place % len(KINDS)]
        middle = texts[at].find(" ", len(texts[at]) // 2)
        texts[at] = f"{texts[at][:middle]}\n{KINDS[kind](*rng.choice(long))}\n{texts[at][middle:]}"
        labels[at] = kind
    batches = list(in_batches(Document(str(at), text, "novels") for at, text in enumerate(texts)))
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(items)} test items, {len(texts)} documents, {size / 1e6:.1f} MB")
    print(f"{'max_share':10}" + "".join(f"{kind:>18}" for kind in KINDS) + f"{'others':>10}{'MB per CPU s':>14}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.jsonl"
        path.write_text("".join(json.dumps({"text": " ".join(item)}) + "\n" for item in items))
        for share in (0.0, 0.1, 0.3, 0.5, 0.7):
            filter = Decontaminate(tests=(Files(path=str(path)),), max_share=share)
            blind = len(filter.blind())  # reads the tests
            start = time.process_time()
            gone = [flag for batch in batches for flag in filter(batch).dropped.to_pylist()]
            speed = size / 1e6 / (time.process_time() - start)
            found = [[flag for flag, label in zip(gone, labels, strict=True) if label == kind] for kind in (*KINDS, None)]
            rates = [sum(flags) / max(1, len(flags)) for flags in found]
            print(f"{share:<10g}" + "".join(f"{rate:18.3f}" for rate in rates[:-1]) + f"{rates[-1]:10.4f}{speed:14.1f}")
    print(f"{blind} items are too short, or shared by too many, to be looked for")


if __name__ == "__main__":
    main()
