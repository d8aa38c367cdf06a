"""What `bench/time_to_bpb.py` has on record, as a table and a plot: the sweep, the seeds, the ratio, and what each lever is worth."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def records(work: Path, name: str = "results") -> list[dict[str, Any]]:
    """Every finished run, or what else there is a line of."""
    path = work / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class Sides:
    """The runs on record that belong together."""

    work: Path
    shape: str
    minutes: float

    def of(self, side: str) -> list[dict[str, Any]]:
        """Those of one side."""
        here = {"side": side, "shape": self.shape, "minutes": self.minutes}
        return [record for record in records(self.work) if here.items() <= record["asked"].items()]

    def best_peer(self) -> dict[str, Any]:
        """The settings of the peer's best run with the first seed."""
        if not (found := [r for r in self.of("peer") if r["asked"]["seed"] == 0]):
            sys.exit(f"{self.work} has no run of the peer at shape {self.shape}, {self.minutes:g} minutes and seed 0; run `peer` first")
        return min(found, key=lambda r: r["curve"][-1][2])["asked"]

    def best_rate(self, levers: Sequence[str]) -> float:
        """The factor on the rates of our best run with these levers and the first seed."""
        found = [r for r in self.of("ours") if r["asked"]["seed"] == 0 and r["asked"]["levers"] == sorted(levers)]
        return min(found, key=lambda r: r["curve"][-1][2])["asked"]["rate"] if found else 1.0


def reached(record: dict[str, Any], target: float) -> float | None:
    """Seconds until a run was measured at the target or below."""
    return next((seconds for seconds, _, bpb in record["curve"] if bpb <= target), None)


def table(options: argparse.Namespace) -> None:
    """Prints the sweep, the seeds, the ratio and what each lever is worth; draws the curves."""
    sides = Sides(options.work, options.shape, options.minutes * options.scale)
    best, wanted = sides.best_peer(), sorted(options.levers)
    for record in sorted(sides.of("peer"), key=lambda r: (r["asked"]["rows"] or 0, r["asked"]["lr"], r["asked"]["seed"])):
        print(f"HF Trainer, {record['asked']['rows']} rows, AdamW at {record['asked']['lr']:g}, seed {record['asked']['seed']}: "
              f"{record['curve'][-1][2]:.4f} after {record['seconds']:.0f} s, {record['curve'][-1][1]} tokens")  # fmt: skip
    peers = [r for r in sides.of("peer") if (r["asked"]["lr"], r["asked"]["rows"]) == (best["lr"], best["rows"])]
    target, allowed = (statistics.median(values) for values in zip(*((r["curve"][-1][2], r["seconds"]) for r in peers), strict=True))
    rate = sides.best_rate(wanted)
    for record in sorted(sides.of("ours"), key=lambda r: (r["asked"]["levers"], r["asked"]["rate"], r["asked"]["seed"])):
        print(f"bloomery, {'+'.join(record['asked']['levers'])}, rates × {record['asked']['rate']:g}, seed {record['asked']['seed']}: "
              f"{record['curve'][-1][2]:.4f} after {record['seconds']:.0f} s, {record['curve'][-1][1]} tokens")  # fmt: skip
    mine = [r for r in sides.of("ours") if (r["asked"]["levers"], r["asked"]["rate"]) == (wanted, rate)]
    times = []
    for record in mine:
        at = reached(record, target)
        times.append(float("inf") if at is None else at)
        told = "never" if at is None else f"after {at:.0f} s, {at / allowed:.1%} of the peer's {allowed:.0f} s"
        print(f"bloomery, {'+'.join(wanted)}, seed {record['asked']['seed']}: {target:.4f} {told}; "
              f"{record['curve'][-1][2]:.4f} after {record['seconds']:.0f} s, {record['curve'][-1][1]} tokens")  # fmt: skip
    if times:
        share = statistics.median(times) / allowed
        print(f"the peer's {target:.4f} bits per byte, medians of {len(peers)} and {len(times)} seeds: {share:.1%} of its time")
    whole = next((r for r in mine if r["asked"]["seed"] == 0), None)
    for record in sides.of("ours"):
        asked, left_out = record["asked"], set(wanted) - set(record["asked"]["levers"])
        alike = (asked["rate"], asked["seed"]) == (rate, 0) and set(asked["levers"]) < set(wanted)
        if whole and len(left_out) == 1 and alike:
            worse, at = record["curve"][-1][2] - whole["curve"][-1][2], reached(record, target)
            told = "never" if at is None else f"after {at:.0f} s"
            print(f"without {left_out.pop()}: {worse:+.4f} bits per byte at the end, the target {told}")
    plot(options.work / f"time_to_bpb-{options.shape}.svg", peers, mine, target)


def plot(path: Path, peers: list[dict[str, Any]], mine: list[dict[str, Any]], target: float) -> None:
    """Held-out bits per byte over seconds of training, a line per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for found, name, colour in ((peers, "HF Trainer", "tab:gray"), (mine, "bloomery", "tab:red")):
        for i, record in enumerate(found):
            seconds, _, bpb = zip(*record["curve"], strict=True)
            axes.plot(seconds, bpb, color=colour, marker=".", linewidth=1, label=name if i == 0 else None)
    axes.axhline(target, color="black", linewidth=0.7, linestyle=":")
    axes.set(xlabel="seconds of training", ylabel="bits per byte of held-out novels")
    axes.legend(frameon=False)
    figure.savefig(path)
    print(f"{path}: the curves")
