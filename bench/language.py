"""Language identification beside peers: accuracy on sentences of 50 characters and more, CPU time and memory.

    python bench/language.py [--data FOLDER] [--peers py3langid lingua …]

Reads `A_text/lingua_testdata_75lang` (75 languages, test sentences of the Leipzig corpora) under the folder of real data, which BLOOMERY_DATA
names as well. Contenders judge the 20 largest languages, ours all 75 too, and each lives in a process of its own. Printed: accuracy over all
sentences (micro) and as the mean over languages (macro), per language for ours with what it is mistaken for, sentences and megabytes per CPU
second, peak memory, and what `Language(keep=("en",))` does to tales with planted foreign documents.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MIN_CHARS = 50
BAR = 0.98
LARGEST = {
    "by speakers": ("en", "zh", "hi", "es", "ar", "fr", "bn", "pt", "ru", "ur", "id", "de", "ja", "mr", "te", "tr", "ta", "vi", "ko", "fa"),
    "by web pages": ("en", "ru", "de", "ja", "zh", "es", "fr", "it", "pt", "pl", "nl", "tr", "cs", "id", "vi", "fa", "ko", "sv", "hu", "uk"),
}
"""The 20 largest of the 75: by speakers (Ethnologue, first and second language), and by pages of Common Crawl."""
ALIASES = {"no": "nb"}  # one code for both in fastText's labels; the sentences know Bokmål and Nynorsk
PEERS = ("py3langid", "lingua", "lingua low accuracy")


def ours(sentences: Sequence[str]) -> list[str]:
    import pyarrow as pa

    from bloomery.text.filters.language import identify

    return identify(pa.array(sentences, pa.string()))[0].to_pylist()


def py3langid(sentences: Sequence[str]) -> list[str]:
    from py3langid.langid import classify

    return [classify(sentence)[0] for sentence in sentences]


def lingua(sentences: Sequence[str], low: bool = False) -> list[str]:
    global _DETECTOR
    from lingua import LanguageDetectorBuilder

    if _DETECTOR is None:
        builder = LanguageDetectorBuilder.from_all_languages()
        _DETECTOR = (builder.with_low_accuracy_mode() if low else builder).build()
    found = [_DETECTOR.detect_language_of(sentence) for sentence in sentences]
    return [language.iso_code_639_1.name.lower() if language else "" for language in found]


_DETECTOR: Any = None
CONTENDERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "bloomery": ours, "py3langid": py3langid, "lingua": lingua, "lingua low accuracy": lambda s: lingua(s, low=True),
}  # fmt: skip


def child(name: str, data: Path, codes: Sequence[str]) -> None:
    """Judges all sentences of some languages and prints what came out, as JSON."""
    read = {code: sentences_of(data, code) for code in codes}
    judge = CONTENDERS[name]
    judge(["A sentence that loads the model."])
    start = time.process_time()
    found = {code: judge(texts) for code, texts in read.items()}
    seconds = time.process_time() - start
    confusions = {code: Counter(ALIASES.get(label, label) for label in labels) for code, labels in found.items()}
    print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "found": confusions}))


def sentences_of(data: Path, code: str) -> list[str]:
    """The long sentences of a language."""
    lines = (data / "A_text/lingua_testdata_75lang/sentences" / f"{code}.txt").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if len(line.strip()) >= MIN_CHARS]


def run(name: str, data: Path, codes: Sequence[str]) -> dict[str, Any]:
    """What a contender makes of some languages, in a process of its own."""
    command = [sys.executable, __file__, "--data", str(data), "--child", name, "--codes", *codes]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def accuracies(found: dict[str, dict[str, int]], codes: Sequence[str]) -> tuple[float, float]:
    """Micro and macro accuracy."""
    right, all = [found[c].get(c, 0) for c in codes], [sum(found[c].values()) for c in codes]
    return sum(right) / sum(all), sum(r / a for r, a in zip(right, all, strict=True)) / len(codes)


def tales(count: int = 4000) -> None:
    """How many foreign documents among tales are found, and how many clean ones lost."""
    from bloomery.text.documents import Document, to_batch
    from bloomery.text.filters import Language
    from bloomery.text.tales.dirt import Dirt
    from bloomery.text.tales.tales import Tales

    planted = list(Dirt().plant(Tales(), count))
    dropped = Language(keep=("en",))(to_batch([Document(d.id, d.text, "tales") for d in planted])).dropped.to_pylist()
    gone, all = Counter(d.label for d, gone in zip(planted, dropped, strict=True) if gone), Counter(d.label for d in planted)
    print("\ntales, keep=('en',), dropped by label: " + ", ".join(f"{label} {gone[label]}/{all[label]}" for label in all))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_DATA"), help="the folder of real data")
    parser.add_argument("--peers", nargs="*", default=["py3langid", "lingua low accuracy"], choices=PEERS)
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--codes", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.data:
        parser.error("name the folder of real data with --data or BLOOMERY_DATA")
    if args.child:
        return child(args.child, args.data, args.codes)
    everything = sorted(path.stem for path in (args.data / "A_text/lingua_testdata_75lang/sentences").glob("*.txt"))
    twenty = sorted({code for codes in LARGEST.values() for code in codes})
    size = sum(len(s.encode()) for code in twenty for s in sentences_of(args.data, code))
    count = sum(len(sentences_of(args.data, code)) for code in twenty)
    print(f"{'':20} {'largest 20':14} {'micro':>7} {'macro':>7} {'sentences/s':>12} {'MB/s':>6} {'peak MB':>8}")
    for name in ("bloomery", *args.peers):
        done = run(name, args.data, twenty)
        for kind, codes in LARGEST.items():
            micro, macro = accuracies(done["found"], codes)
            speed = f"{count / done['seconds']:12.0f} {size / done['seconds'] / 1e6:6.2f} {done['peak_mb']:8.0f}"
            print(f"{name:20} {kind:14} {micro:7.4f} {macro:7.4f} {speed}{'' if min(micro, macro) >= BAR else '  below the bar'}", flush=True)
    found = run("bloomery", args.data, everything)["found"]
    print("\n{:20} {:14} {:7.4f} {:7.4f}".format("bloomery", "all 75", *accuracies(found, everything)))
    print("\nbloomery per language: sentences, accuracy, taken for")
    for code in sorted(everything, key=lambda code: (code not in twenty, code)):
        wrong = [f"{label} {n}" for label, n in Counter(found[code]).most_common(4) if label != code][:3]
        n = sum(found[code].values())
        print(f"  {code}{'*' if code in twenty else ' '} {n:4} {found[code].get(code, 0) / n:6.3f}  {', '.join(wrong)}")
    tales()
    return None


if __name__ == "__main__":
    main()
