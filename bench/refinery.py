"""The refinery on inputs of growing size: throughput, and peak memory of all its processes together.

    python bench/refinery.py                        # 100 MB, 400 MB, 2 GB on one and two workers
    python bench/refinery.py --megabytes 100 400    # less of it

The input is made of seeded sentences over a vocabulary of 20,000 words, with one document in twenty repeated exactly and one in twenty nearly.
Memory is the proportional set size (shared pages counted once) of the process and its workers, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np


def make_input(path: Path, megabytes: int, seed: int = 0) -> int:
    """Writes documents of some 2 KB as JSONL; returns how many."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)])
    shares = 1 / np.arange(1, 20_001)
    shares /= shares.sum()
    documents, written, earlier = 0, 0, []
    with open(path, "w", encoding="utf-8") as file:
        while written < megabytes << 20:
            for drawn in np.split(rng.choice(20_000, 256 * 330, p=shares), 256):
                kind = rng.random()
                if earlier and kind < 0.05:
                    drawn = earlier[rng.integers(len(earlier))]
                elif earlier and kind < 0.10:
                    drawn = earlier[rng.integers(len(earlier))].copy()
                    drawn[rng.integers(330, size=5)] = rng.integers(20_000, size=5)
                elif len(earlier) < 5000:
                    earlier.append(drawn)
                text = ". ".join(" ".join(words[part]).capitalize() for part in np.split(drawn, 22)) + "."
                written += file.write(json.dumps({"text": text}) + "\n")
                documents += 1
    return documents


def tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    children: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    except OSError:
        pass
    return [pid, *(grandchild for child in children for grandchild in tree(child))]


def resident(pid: int) -> int:
    """Proportional set size of a process, in bytes."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))


def measure(source: Path, store: Path, workers: int) -> tuple[float, float, int, str]:
    """Wall seconds, CPU seconds, peak bytes, and the digest of what came out."""
    command = [sys.executable, __file__, "--refine", str(source), str(store), str(workers)]
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def sample() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, sum(map(resident, tree(process.pid))))
            time.sleep(0.1)

    sampler = threading.Thread(target=sample)
    sampler.start()
    out = process.communicate()[0]
    sampler.join()
    if process.returncode:
        sys.exit(f"refining failed with exit code {process.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu, peak, out.split()[-1]


def refine(source: Path, store: Path, workers: int) -> None:
    """What is measured: clean, judge by Gopher's rules, and drop exact and near duplicates."""
    import hashlib

    from bloomery.stages.prepare import Prepare
    from bloomery.stages.stage import RunContext
    from bloomery.store import Store
    from bloomery.text.filters import ExactDuplicates, GopherQuality, Length, MinHash, Normalise
    from bloomery.text.readers import Files

    stage = Prepare(source=Files(path=str(source)), filters=(Normalise(), Length(), GopherQuality(), ExactDuplicates(), MinHash()))
    artifact = stage.run(RunContext(store=Store(store), workers=workers, quiet=True))
    print(artifact.manifest.summary["funnel"], file=sys.stderr)
    print(hashlib.sha256(repr(sorted((name, file.sha256) for name, file in artifact.manifest.files.items())).encode()).hexdigest()[:16])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400, 2000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    print(f"{'input':>8} {'documents':>10} {'workers':>8} {'wall s':>8} {'CPU s':>8} {'MB/CPU s':>9} {'peak MB':>8}  bytes out")
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in arguments.megabytes:
            source = Path(folder) / f"{megabytes}.jsonl"
            documents = make_input(source, megabytes)
            for workers in arguments.workers:
                wall, cpu, peak, digest = measure(source, Path(folder) / f"store-{megabytes}-{workers}", workers)
                rate = megabytes / cpu
                print(f"{megabytes:>5} MB {documents:>10} {workers:>8} {wall:>8.1f} {cpu:>8.1f} {rate:>9.1f} {peak / 1e6:>8.0f}  {digest}")
            source.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--refine"]:
        refine(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
