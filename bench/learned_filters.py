"""Learnt filters on real data, beside scikit-learn where it is installed.

    python bench/learned_filters.py --data FOLDER [--only ngram toxicity quality embedder]

FOLDER (or BLOOMERY_DATA) holds the sets english_novels_100, german_novels_68, wiki_c4_demo, wikitext2_valid_test (A_text), hate_offensive
(E_quality) and sts_mrpc_sick (D_eval). Times are CPU seconds of this process, library start-up left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bloomery.stages.learned import Examples, TrainClassifier, TrainEmbedder, TrainNgram
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext, Stage
from bloomery.store import Artifact, Store
from bloomery.text.learned.classifier import Classifier, features_of
from bloomery.text.learned.embedder import Embedder, HashedEmbedder
from bloomery.text.learned.metrics import auc, calibration, f1
from bloomery.text.learned.ngram import NgramModel
from bloomery.text.readers import Files

CHUNK = 3000  # characters of a novel taken for one document


class Bench:
    """A store and a folder of its own, and the clock."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.context = RunContext(store=Store(folder / "store"), quiet=True)

    def corpus(self, name: str, texts: list[str]) -> Prepare:
        """Texts as a prepared corpus."""
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        corpus = Prepare(name=name, source=Files(path=str(path)))
        corpus.run(self.context)
        return corpus

    def make(self, stage: Stage) -> tuple[Artifact, float]:
        """The artifact, and the CPU seconds that it took."""
        with clock() as seconds:
            artifact = stage.run(self.context)
        return artifact, seconds()


@contextmanager
def clock() -> Iterator[Callable[[], float]]:
    """CPU seconds of the block."""
    start = time.process_time()
    end: list[float] = []
    yield lambda: (end[0] if end else time.process_time()) - start
    end.append(time.process_time())


def novels(data: Path, group: str = "english_novels_100") -> list[list[str]]:
    """Each novel as stretches of `CHUNK` characters."""
    texts = [path.read_text(encoding="utf-8-sig", errors="replace") for path in sorted((data / "A_text" / group).rglob("*.txt"))]
    return [[text[i : i + CHUNK] for i in range(0, len(text), CHUNK)] for text in texts if len(text) > 10 * CHUNK]


def shuffled(texts: list[str]) -> list[str]:
    """The words of each text in another order."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.permutation(np.array(text.split(), object))) for text in texts]


def c4(data: Path) -> list[str]:
    """Pages of Common Crawl."""
    return [json.loads(line)["text"] for line in (data / "A_text/wiki_c4_demo/c4_demo.jsonl").read_text().splitlines()]


def wiki(data: Path) -> list[str]:
    """Paragraphs of encyclopedia articles."""
    return [line for line in (data / "A_text/wiki_c4_demo/wiki_demo.txt").read_text().splitlines() if len(line) > 200]


def split(texts: list[str]) -> tuple[list[str], list[str]]:
    """Four fifths and one fifth."""
    return [t for i, t in enumerate(texts) if i % 5], texts[::5]


def ngram(bench: Bench) -> None:
    """Perplexities of several kinds of text under English novels."""
    books = novels(bench.data)
    train, held_out = [t for book in books[5:] for t in book], [t for book in books[:5] for t in book]
    corpus = bench.corpus("novels", train)
    size = sum(map(len, train)) / 1e6
    others = {
        "held-out novels": held_out, "Wikipedia": wiki(bench.data), "Common Crawl": c4(bench.data), "held-out, shuffled": shuffled(held_out),
        "German novels": [t for book in novels(bench.data, "german_novels_68")[:3] for t in book],
        "random letters": ["".join(np.random.default_rng(i).choice(list("etaoin shrdlu"), CHUNK)) for i in range(100)],
    }  # fmt: skip
    for options in ({"order": 3}, {"order": 3, "min_counts": (1, 2)}):
        artifact, seconds = bench.make(TrainNgram(corpus=corpus, **options))
        model = NgramModel.load(artifact.path)
        megabytes = sum(f.bytes for f in artifact.manifest.files.values()) / 1e6
        kept = [o["kept"] for o in artifact.manifest.summary["orders"]]
        print(f"\n{options}: {size:.0f} MB in {seconds:.1f} CPU s ({size / seconds:.2f} MB/s), model {megabytes:.0f} MB, sequences {kept}")
        base = None
        for name, texts in others.items():
            with clock() as spent:
                values = model.perplexity(pa.array(texts))
            base = values if base is None else base
            rank = auc(np.concatenate([values, base]), np.arange(len(values) + len(base)) < len(values))
            speed = sum(map(len, texts)) / 1e6 / spent()
            print(f"  {name:26s} median {np.median(values):9.0f}  p10 {np.quantile(values, 0.1):9.0f}  p90 {np.quantile(values, 0.9):9.0f}"
                  f"  AUC against held-out {rank:.4f}  {speed:5.2f} MB/s")  # fmt: skip


def classify(bench: Bench, name: str, kinds: dict[str, list[str]], variants: list[dict[str, Any]]) -> None:
    """Trains on four fifths and tells the last fifth apart; the first kind is the positive one."""
    parts = {label: split(texts) for label, texts in kinds.items()}
    examples = tuple(Examples(label=label, corpus=bench.corpus(f"{name}_{label}", train)) for label, (train, _) in parts.items())
    train, test = (pa.array([t for part in parts.values() for t in part[i]]) for i in (0, 1))
    train_y, test_y = (np.repeat(np.arange(len(parts)), [len(part[i]) for part in parts.values()]) for i in (0, 1))
    print(f"\n{name}: {', '.join(f'{len(a)} + {len(b)} {label}' for label, (a, b) in parts.items())}")

    def report(what: str, scores: np.ndarray, guesses: np.ndarray, seconds: float) -> None:
        positive = test_y == 0
        error, _ = calibration(scores, positive, (1 / np.bincount(test_y))[test_y])
        print(f"  {what:64s} AUC {auc(scores, positive):.4f}  F1 {f1(guesses == 0, positive):.4f}  macro F1 "
              f"{np.mean([f1(guesses == k, test_y == k) for k in range(len(parts))]):.4f}  ECE {error:.4f}  {seconds:6.2f} CPU s")  # fmt: skip

    for options in variants:
        artifact, seconds = bench.make(TrainClassifier(examples=examples, held_out=0.0, **options))
        model = Classifier.load(artifact.path)
        with clock() as spent:
            scores = model.scores(test)
        report(f"{options}, {artifact.manifest.summary['steps']} steps", scores[:, 0], scores.argmax(1), seconds)
        print(f"    scoring: {sum(len(t.as_py()) for t in test) / 1e6 / spent():.2f} MB/s")
    try:
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        print("  (scikit-learn is not installed)")
        return
    options = variants[0]
    l2 = options.get("l2", TrainClassifier.model_fields["l2"].default)
    # of two kinds scikit-learn fits one row of weights, whose penalty is half that of the two rows that it stands for
    peer = LogisticRegression(C=(2 if len(parts) == 2 else 1) / (l2 * len(train_y)), class_weight="balanced", max_iter=1000)
    with clock() as seconds:
        bags = [features_of(texts, 1 << 19, options.get("word_ngrams", 2), options.get("char_ngrams")) for texts in (train, test)]
        rows = [csr_matrix((b.counts, b.indices, b.offsets), (len(b.offsets) - 1, 1 << 19)) for b in bags]
        scores = peer.fit(rows[0], train_y).predict_proba(rows[1])
    report("scikit-learn, same features and penalty", scores[:, 0], scores.argmax(1), seconds())
    with clock() as seconds:
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        peer = LogisticRegression(class_weight="balanced", max_iter=1000).fit(vectors.fit_transform(train.to_pylist()), train_y)
        scores = peer.predict_proba(vectors.transform(test.to_pylist()))
    report("scikit-learn, its TF-IDF of words and pairs, C=1", scores[:, 0], scores.argmax(1), seconds())


def toxicity(bench: Bench) -> None:
    """Offensive posts among others, and three kinds of posts."""
    with open(bench.data / "E_quality/hate_offensive/labeled_data.csv", newline="") as file:
        rows = [(int(row["class"]), row["tweet"]) for row in csv.DictReader(file)]
    hate, offensive, neither = ([t for c, t in rows if c == k] for k in range(3))
    variants: list[dict[str, Any]] = [{}, {"l2": 1e-4}, {"char_ngrams": (2, 5), "word_ngrams": 1}]
    classify(bench, "toxicity", {"toxic": [t for c, t in rows if c < 2], "clean": neither}, variants)
    classify(bench, "three_kinds", {"hate": hate, "offensive": offensive, "neither": neither}, variants[:1])


def quality(bench: Bench) -> None:
    """Stretches of 300 characters of an encyclopedia against those of crawled pages, and prose against the same words in disorder."""
    variants: list[dict[str, Any]] = [{}, {"l2": 1e-4}, {"word_ngrams": 1}]
    kinds = {
        name: [text[i : i + 300] for text in texts for i in range(0, len(text) - 300, 300)]
        for name, texts in (("wiki", wiki(bench.data)), ("crawl", c4(bench.data)))
    }
    classify(bench, "wiki_or_crawl", kinds, variants)
    prose = [t for book in novels(bench.data)[::5] for t in book[::10]]
    classify(bench, "prose_or_shuffled", {"prose": prose[::2], "shuffled": shuffled(prose[1::2])}, variants[::2])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; ties get their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - counts / 2)[place]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def embedder(bench: Bench) -> None:
    """Relatedness of sentences as people judge it (SICK), and which stretch of a novel a half of its words comes from."""
    folder = bench.data / "D_eval/sts_mrpc_sick/sts/sick2014"
    with open(folder / "SICK_test_annotated.txt", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    left, right = ([row[f"sentence_{side}"] for row in rows] for side in "AB")
    judged = np.array([float(row["relatedness_score"]) for row in rows])
    books = novels(bench.data)
    stretches = [t for book in books[:40] for t in book[::4]]
    queries = [t for book in books[40:60] for t in book[::6]]
    halves = [[" ".join(t.split()[i::2]) for t in queries] for i in (0, 1)]
    with open(folder / "SICK_train.txt", newline="") as file:
        sentences = [row[f"sentence_{side}"] for row in csv.DictReader(file, delimiter="\t") for side in "AB"]
    print(f"\nembedders: {len(rows)} pairs of sentences (Spearman); {len(queries)} stretches, every second word finds the other words (top 1)")

    def report(what: str, sick: Callable[[Any], np.ndarray], prose: Callable[[Any], np.ndarray], seconds: float) -> None:
        a, b = (np.asarray(sick(pa.array(side))) for side in (left, right))
        with clock() as spent:
            x, y = (np.asarray(prose(pa.array(half))) for half in halves)
        hits = float(((x @ y.T).argmax(1) == np.arange(len(queries))).mean())
        speed = sum(map(len, queries)) / 1e6 / spent()
        print(f"  {what:44s} Spearman {spearman((a * b).sum(1), judged):.4f}  top 1 {hits:.4f}  {seconds:6.1f} CPU s, embeds {speed:.2f} MB/s")

    for dim in (256, 1024):
        hashed = HashedEmbedder(dim=dim)
        report(f"HashedEmbedder(dim={dim})", hashed.embed, hashed.embed, 0.0)
    corpora = bench.corpus("sentences", sentences), bench.corpus("stretches", stretches)
    for options in ({}, {"iterations": 1}, {"word_ngrams": 2}):
        made = [bench.make(TrainEmbedder(corpus=corpus, **options)) for corpus in corpora]
        sick, prose = (Embedder.load(artifact.path).embed for artifact, _ in made)
        report(f"TrainEmbedder({options})", sick, prose, made[1][1])
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer
    except ImportError:
        print("  (scikit-learn is not installed)")
        return

    def peer(texts: list[str]) -> Callable[[Any], np.ndarray]:
        pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), TruncatedSVD(256, random_state=0), Normalizer()).fit(texts)
        return lambda array: pipeline.transform(array.to_pylist())

    sick = peer(sentences)
    with clock() as seconds:
        prose = peer(stretches)
    report("scikit-learn: TF-IDF, TruncatedSVD(256)", sick, prose, seconds())


def main() -> None:
    """Runs the benches that are asked for."""
    benches = {"ngram": ngram, "toxicity": toxicity, "quality": quality, "embedder": embedder}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_DATA"), required="BLOOMERY_DATA" not in os.environ)
    parser.add_argument("--only", nargs="*", choices=list(benches), default=list(benches))
    arguments = parser.parse_args()
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            benches[name](Bench(Path(arguments.data), Path(folder)))
        print(f"peak resident memory so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
