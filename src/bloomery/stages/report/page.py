"""What a report shows, gathered once from manifests and metrics; `text` and `html` only lay it out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bloomery.core.units import human_bytes, human_count, human_seconds
from bloomery.stages.forecast import rows_of
from bloomery.stages.report.layers import Grid, grids_of
from bloomery.store import Artifact, Store, read_json

WRONG_SHOWN = 12


@dataclass(frozen=True)
class Curve:
    """Points of a figure over steps."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Training:
    """What the page tells of one training.

    Attributes:
        figures: name → what to print, in order.
        loss, rate, speed: loss, learning rate and tokens per second at each step.
        bits: corpus → bits per byte of held-out text.
        samples: (step, prompt, answer).
        settings: field → value, those that are not at their default.
        layers: statistics of layers, where there are any.
        plan: what was planned beside what was measured, a line each.
    """

    name: str
    reference: str
    figures: dict[str, str]
    loss: Curve
    rate: Curve
    speed: Curve
    bits: dict[str, Curve]
    samples: list[tuple[int, str, str]]
    settings: dict[str, str]
    layers: dict[str, Grid]
    plan: list[tuple[str, ...]]


@dataclass(frozen=True)
class Examination:
    """What the page tells of one examination; `kinds` is kind → (share, asked), `wrong` some wrong answers."""

    name: str
    model: str
    exact: float
    standard_error: float
    asked: int
    kinds: dict[str, tuple[float, int]]
    wrong: list[dict[str, str]]


@dataclass(frozen=True)
class Page:
    """All that a report shows. `made` is (reference, size, seconds) of every artifact on the way, inputs first."""

    title: str
    trainings: list[Training]
    examinations: list[Examination]
    made: list[tuple[str, str, str]]

    def last_bits(self) -> dict[str, float]:
        """Held-out bits per byte at the end of each training."""
        return {f"bits_per_byte_{t.name}_{corpus}": curve.values[-1] for t in self.trainings for corpus, curve in t.bits.items()}


def training_of(artifact: Artifact) -> Training:
    """Reads a training's metrics, samples and settings."""
    metrics = [json.loads(line) for line in artifact.checked("metrics.jsonl").read_text().splitlines()]
    samples = [json.loads(line) for line in artifact.checked("samples.jsonl").read_text().splitlines()]

    def curve(name: str) -> Curve:
        points = [(m["step"], m[name]) for m in metrics if name in m]
        return Curve([step for step, _ in points], [value for _, value in points])

    corpora = sorted({name.split("/")[1] for m in metrics for name in m if name.startswith("held_out/")})
    summary = artifact.manifest.summary
    figures = {
        "parameters": human_count(summary["parameters"]), "steps": str(summary["steps"]), "tokens": human_count(summary["tokens"]),
        "operations": f"{human_count(summary['flops'])}FLOP", "last loss": f"{summary['loss']:.4f}",
        "time": human_seconds(artifact.manifest.made["seconds"]), "speed": f"{human_count(summary['tokens_per_s'])} tokens/s",
    }  # fmt: skip
    if (healed := summary.get("healing")) is not None:
        figures["bad steps"] = f"{healed['bad_steps']} (see healing.html)"
    if told := summary.get("over_optimised"):
        figures["over-optimised"] = told
    return Training(
        artifact.manifest.name, artifact.reference, figures, curve("loss"), curve("learning_rate"), curve("tokens_per_s"),
        {corpus: curve(f"held_out/{corpus}/bits_per_byte") for corpus in corpora},
        [(s["step"], s["prompt"], s["answer"]) for s in samples], settings_of(artifact), grids_of(metrics),
        rows_of(summary.get("plan", {})),
    )  # fmt: skip


def settings_of(artifact: Artifact) -> dict[str, str]:
    """A stage's fields on one level, as its manifest has them; inputs by reference."""
    found: dict[str, str] = {}

    def visit(path: str, value: Any) -> None:
        if isinstance(value, dict) and value.keys() == {"stage", "name", "key"}:
            found[path] = f"{value['stage']}/{value['name']}-{value['key']}"
        elif isinstance(value, dict):
            for name, child in value.items():
                visit(f"{path}.{name}" if path else name, child)
        elif isinstance(value, list) and any(isinstance(child, dict | list) for child in value):
            for i, child in enumerate(value):
                visit(f"{path}[{i}]", child)
        else:
            found[path] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)

    visit("", {name: value for name, value in artifact.manifest.fields.items() if name not in ("kind", "name")})
    return found


def examination_of(artifact: Artifact) -> Examination:
    """Reads an examination's results and some of its wrong answers."""
    results = read_json(artifact.checked("results.json"))
    answers = [json.loads(line) for line in artifact.checked("answers.jsonl").read_text().splitlines()]
    return Examination(
        artifact.manifest.name, artifact.manifest.inputs["model"], results["exact_match"], results["standard_error"], results["asked"],
        {kind: (found["exact"], found["asked"]) for kind, found in results["kinds"].items()},
        [answer for answer in answers if not answer["right"]][:WRONG_SHOWN],
    )  # fmt: skip


def made_of(artifacts: list[Artifact], store: Store) -> list[tuple[str, str, str]]:
    """Every artifact that these stand on, inputs first, with its size and how long it took."""
    found: dict[str, Artifact] = {}

    def visit(artifact: Artifact) -> None:
        if artifact.reference not in found:
            for reference in artifact.manifest.inputs.values():
                visit(store.open(reference))
            found[artifact.reference] = artifact

    for artifact in artifacts:
        visit(artifact)
    return [
        (reference, human_bytes(sum(f.bytes for f in a.manifest.files.values())), human_seconds(a.manifest.made["seconds"]))
        for reference, a in found.items()
    ]
