"""Tokenizers beside their peers: CPU seconds for the same ids, and what encoding a corpus costs by workers.

    python bench/tokenization.py --data FOLDER

FOLDER (or BLOOMERY_DATA) holds the tokenizers of `F_tokenizers`, and english_novels_100 and lingua_testdata_75lang of `A_text`. Each row gives
MB of UTF-8 per CPU second of the whole process (all its threads): cold, and once more with the words already met. The ids of all rows of a
vocabulary are compared; tiktoken and SentencePiece are there where they are installed.
"""

from __future__ import annotations

import argparse
import base64
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.units import human_seconds
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import CompareTokenizers, LoadTokenizer, TrainTokenizer
from bloomery.store import Store
from bloomery.text.filters import Normalise
from bloomery.text.readers import Files
from bloomery.text.tokenizer import Gpt2, Gpt4, Tokenizer
from bloomery.text.tokenizer.loading import load_foreign

NOVELS, SENTENCES = "A_text/english_novels_100", "A_text/lingua_testdata_75lang/sentences"
FILES = {
    "gpt2": "gpt2_vocab_merges", "cl100k": "cl100k_tiktoken", "mistral": "mistral_sentencepiece/tokenizer.model.v1", "bert": "bert_base_cased",
}  # fmt: skip
Encode = Callable[[Sequence[str]], list[Any]]


def texts(data: Path, novels: int) -> dict[str, list[str]]:
    """The paragraphs of some novels, and sentences of 75 languages."""
    books = [file.read_text("utf-8-sig", errors="replace") for file in sorted((data / NOVELS).glob("*.txt"))[:novels]]
    lines = [line for file in sorted((data / SENTENCES).glob("*.txt")) for line in file.read_text("utf-8").split("\n")]
    return {"novels": [part for book in books for part in book.split("\n\n")], "75 languages": lines}


def ways(name: str, data: Path) -> dict[str, Encode]:
    """The ways to encode with a vocabulary: ours, the library's, and the peer's where there is one."""
    path = data / "F_tokenizers" / FILES[name]
    ours = load_foreign(path).tokenizer
    library = load_foreign(path).tokenizer._text
    found: dict[str, Encode] = {
        "bloomery": ours.encode_arrays, "tokenizers": lambda texts: [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)],
    }  # fmt: skip
    try:
        if name in ("gpt2", "cl100k"):
            import tiktoken

            split = Gpt2() if name == "gpt2" else Gpt4()
            peer = tiktoken.Encoding(name, pat_str=split.pattern, mergeable_ranks=_ranks(name, path, ours), special_tokens={})
            found["tiktoken"] = lambda texts: [peer.encode_ordinary(text) for text in texts]
        if name == "mistral":
            import sentencepiece

            processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
            found["sentencepiece"] = lambda texts: processor.encode(list(texts), num_threads=1)
    except ImportError as error:
        print(f"  no peer: {error}")
    return found


def _ranks(name: str, path: Path, ours: Tokenizer) -> dict[bytes, int]:
    if name == "gpt2":
        return {token: i for i, token in enumerate(ours.token_bytes[:50256])}
    lines = (path / "cl100k_base.tiktoken").read_text().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}


def encoding(data: Path, novels: int) -> None:
    """Prints how fast the same ids come."""
    print(f"\n{'':14} {'':14} {'cold MB/s':>10} {'again MB/s':>10} {'tokens':>10}  ids")
    for corpus, sample in texts(data, novels).items():
        size = sum(len(text.encode()) for text in sample) / 1e6
        for name in FILES:
            first: list[Any] | None = None
            print(f"{name}, {corpus}, {size:.1f} MB")
            for way, encode in ways(name, data).items():
                began = time.process_time()
                ids = encode(sample)
                cold, began = time.process_time() - began, time.process_time()
                encode(sample)
                again = time.process_time() - began
                first = first or ids
                differ = sum(not np.array_equal(a, b) for a, b in zip(first, ids, strict=True))
                counted = sum(map(len, ids))
                print(f"{'':14} {way:14} {size / cold:10.2f} {size / again:10.2f} {counted:10}  {f'{differ} differ' if differ else 'equal'}")


def stage(data: Path, workers: int) -> None:
    """Prints what the stage Tokenize takes on the novels by the number of workers; the bytes must be the same."""
    corpus = Prepare(name="novels", source=Files(path=str(data / NOVELS), encoding="utf-8"), filters=(Normalise(),), shard_bytes=4 << 20)
    tokenizer = LoadTokenizer(name="cl100k", path=str(data / "F_tokenizers" / FILES["cl100k"]))
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext(store=Store(Path(folder)), quiet=True)
        size = corpus.run(context).manifest.summary["bytes"] / 1e6
        tokenizer.run(context)
        marks = []
        for n in sorted({1, workers}):
            began, times = time.perf_counter(), os.times()
            name = f"by_{n}"
            made = Tokenize(name=name, corpus=corpus, tokenizer=tokenizer).run(RunContext(store=Store(Path(folder)), quiet=True, workers=n))
            used = sum(os.times()[:4]) - sum(times[:4])
            marks.append({file: record.sha256 for file, record in made.manifest.files.items()})
            same = "same bytes" if marks[-1] == marks[0] else "OTHER BYTES"
            print(f"Tokenize, {n} workers: {size:.0f} MB in {human_seconds(time.perf_counter() - began)}, {used:.1f} CPU s, {same}")


def fertility(data: Path) -> None:
    """Prints how short the sequences of 75 languages become with each tokenizer, and with one of 32,000 ids trained on them."""
    corpus = Prepare(name="languages", source=Files(path=str(data / SENTENCES)), filters=(Normalise(),))
    loaded = [LoadTokenizer(name=name, path=str(data / "F_tokenizers" / file)) for name, file in FILES.items()]
    ours = TrainTokenizer(name="ours", corpora=(corpus,), vocab_size=32_000)
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext(store=Store(Path(folder)), quiet=True)
        print(CompareTokenizers(corpora=(corpus,), tokenizers=(*loaded, ours)).run(context).file("fertility.txt").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_DATA"), help="the folder of real data")
    parser.add_argument("--novels", type=int, default=12, help="how many to encode")
    parser.add_argument("--workers", type=int, default=2, help="of the stage")
    parser.add_argument("--only", choices=("encoding", "stage", "fertility"), help="one of the three parts")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of real data with --data or BLOOMERY_DATA")
    if options.only in (None, "encoding"):
        encoding(options.data, options.novels)
    if options.only in (None, "stage"):
        stage(options.data, options.workers)
    if options.only in (None, "fertility"):
        fertility(options.data)


if __name__ == "__main__":
    main()
