"""What faults do to a run, and what is left of it with and without `Healing`: python bench/healing.py --store STORE --into FOLDER.

Three faults are put into the training of a small model on tales, near its end: a batch of garbage documents, one gradient that is not a number,
ten steps at thirty times the rate. Each is run with the ladder and without; the loss on tales that no run reads is measured all along. It is
said of each run how far its last loss is from the undisturbed one's, what happened, and whether the documents that were named are those put in.

`curves.svg` has the curves, `healing.json` all figures.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import NumericsError
from bloomery.data import Fit, Packed, TokenShards
from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.models import Model
from bloomery.objectives import CausalLM, Models
from bloomery.optim import AdamW, Schedule, WarmupCosine
from bloomery.recipe.tales import tale_model, tale_tokens
from bloomery.stages.look import plot
from bloomery.stages.stage import RunContext
from bloomery.store import Store, write_json, write_text
from bloomery.train import Course, Healing, Manner, TrainState, train

ROWS, TIME, STEPS = 16, 64, 200
FAULT = 185  # the step, from 1, at which faults begin
UNREAD = range(7000, 7150)  # rows that no run comes to
EVERY = 20  # steps between measurements; 3 from the fault on


class Spoilt(Source):
    """A source in which some documents say one token over and over."""

    def __init__(self, source: Source, ids: Collection[str], token: int = 900) -> None:
        self.source, self.ids, self.token, self.time, self.vocab_size = source, frozenset(ids), token, source.time, source.vocab_size

    def rows(self, first_row: int, rows: int) -> Rows:
        out = self.source.rows(first_row, rows)
        for span in self.source.documents(first_row, rows):
            if span.id in self.ids:
                place = span.row - first_row, slice(span.place, span.place + span.stop - span.start)
                out.tokens[place], out.targets[place] = self.token, self.token
        return out

    def documents(self, first_row: int, rows: int) -> list[Span]:
        return self.source.documents(first_row, rows)

    def supply(self, rows: int) -> list[Supply]:
        return self.source.supply(rows)


class Jolt(Schedule):
    """A schedule that is wrong for some steps."""

    base: Schedule = WarmupCosine(warmup=0.1)
    """What it should be."""
    at: int = FAULT - 1
    """The first wrong step, from 0."""
    count: int = 10
    """How many there are."""
    times: float = 30.0
    """By how much they are too high."""

    def factor(self, step: int, steps: int) -> float:
        return self.base.factor(step, steps) * (self.times if self.at <= step < self.at + self.count else 1.0)


def poison(model: Model) -> None:
    """Makes the gradient of the first parameter no number, at one step."""
    passed: list[int] = []

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        passed.append(1)
        return gradient * math.nan if len(passed) == FAULT else gradient

    next(model.parameters()).register_hook(hook)


@torch.no_grad()
def unread_loss(model: Model, source: Source) -> float:
    """Nats per token of the rows that no run reads."""
    sums = [CausalLM()(Models(model), source.batch(row, 50))[0] for row in UNREAD[::50]]
    return sum(float(one.total) for one in sums) / sum(one.weight for one in sums)


def run(
    source: Source, aside: Source, healing: Healing | None, clip_norm: float | None, schedule: Schedule, prepare: Callable[[Model], None]
) -> dict[str, Any]:
    """One run, and what came of it."""
    model = tale_model(d_model=48, n_layers=2).build(0)
    prepare(model)
    state = TrainState(model, AdamW(learning_rate=3e-3, betas=(0.9, 0.999)).build(model))
    course = Course(objective=CausalLM(), schedule=schedule, steps=STEPS, rows=ROWS, clip_norm=clip_norm, healing=healing)
    curve, ended, events, started = [], "", [], time.perf_counter()
    try:
        for report in train(state, source, course, Manner(micro_batch=ROWS)):
            events += [str(event) for event in report.events]
            if report.step % (EVERY if report.step < FAULT else 3) == 0 or report.step == STEPS:
                curve.append((report.step, unread_loss(model, aside)))
    except NumericsError as error:
        ended = str(error).split(";")[0]
    named = {document["id"] for event in state.known.events for document in event["documents"]}
    return {"curve": curve, "ended": ended, "events": events, "named": sorted(named), "seconds": time.perf_counter() - started}


def main() -> None:
    """Runs them all, one after the other."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", type=Path, required=True)
    arguments.add_argument("--into", type=Path, required=True)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    context = RunContext(store=Store(options.store), quiet=True)
    tales = tale_tokens()
    tales.unread.run(context)
    clean = Packed(TokenShards.open(tales.read.run(context)), Fit(), time=TIME, seed=0)
    spans = clean.documents((FAULT - 1) * ROWS, ROWS)
    garbage = {span.id for span in spans[len(spans) // 4 :]}  # three quarters of a batch
    usual, nothing = WarmupCosine(warmup=0.1), lambda model: None
    faults: dict[str, tuple[Source, float | None, Schedule, Callable[[Model], None], set[str]]] = {
        "nothing": (clean, None, usual, nothing, set()),
        "garbage documents": (Spoilt(clean, garbage), None, usual, nothing, garbage),
        "a NaN gradient": (clean, None, usual, poison, set()),
        "rate × 30, ten steps": (clean, None, Jolt(), nothing, set()),
        "nothing, clipped": (clean, 1.0, usual, nothing, set()),
        "garbage documents, clipped": (Spoilt(clean, garbage), 1.0, usual, nothing, garbage),
    }
    results: dict[str, dict[str, Any]] = {}
    for name, (source, clip_norm, schedule, prepare, injected) in faults.items():
        for ladder, healing in (("without", None), ("with", Healing())):
            result = results[f"{name}, {ladder}"] = run(source, clean, healing, clip_norm, schedule, prepare)
            undisturbed = results["nothing, clipped, without" if clip_norm else "nothing, without"]["curve"][-1][1]
            last = result["curve"][-1][1]
            result["beside_undisturbed"] = math.nan if result["ended"] else last / undisturbed - 1
            exact = f"; named exactly the {len(injected)} put in: {set(result['named']) == injected}" if healing else ""
            came = f"ended: {result['ended']}" if result["ended"] else f"{last:.4f}, {result['beside_undisturbed']:+.2%}"
            print(f"{name}, {ladder} the ladder: {came}{exact} ({result['seconds']:.0f} s)", flush=True)
            print("".join(f"    {event[:160]}\n" for event in result["events"]), end="", flush=True)
    write_json(options.into / "healing.json", json.loads(json.dumps(results).replace("NaN", "null")))

    def draw(axes: Any) -> None:
        for colour, name in zip(("#5b6570", "#1f6feb", "#2e9e5b", "#d9730d"), faults, strict=False):
            for ladder, style in (("without", ":"), ("with", "-")):
                steps, values = np.array(results[f"{name}, {ladder}"]["curve"]).T
                axes.plot(steps, values, style, color=colour, linewidth=1.2, label=f"{name}, {ladder}")
        axes.set_xlim(FAULT - 25, STEPS)
        axes.set_ylim(1.6, 3.5)

    write_text(options.into / "curves.svg", plot("loss on tales not read, nats per token", draw))


if __name__ == "__main__":
    main()
