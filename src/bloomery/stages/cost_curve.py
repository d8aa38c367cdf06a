"""`CostCurve`: what mixers cost against the length of what they read, and how far the approximate ones are off.

    results.json      every point of every curve
    cost_curve.txt    the tables
    cost_curve.html   the tables and the plots
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.profiler import profile, record_function

from bloomery.core.config import Config
from bloomery.core.units import Tokens, human_bytes, human_count
from bloomery.nn.approximate import Approximate
from bloomery.nn.init import FanInInit, WeightInit, initialise
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.mixer import MixerConfig
from bloomery.nn.part import Shared
from bloomery.stages.look import COLOURS, document, html_tables, plot, text_tables
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace, write_json, write_text

LIKENESS = 0.95  # correlation of neighbours that drift


class Curve(Config):
    """A mixer whose cost is measured."""

    name: str
    """In the tables and beside its curve."""
    mixer: MixerConfig
    """What is measured."""
    causal: bool = Field(default_factory=lambda known: known["mixer"].reads_forward)
    """Whether it reads forward only; as far as it can, unless given."""

    def check(self) -> None:
        if not (self.mixer.reads_forward if self.causal else self.mixer.reads_both_ways):
            raise self.refuse("causal", f"is not how {self.mixer.kind()} reads; {not self.causal} is")


class CostCurve(Stage):
    """Measures, on one row of random vectors of each length, the seconds of a forward and of a backward pass (medians, the mixers taking
    turns), the most bytes that both allocate at a time, and, for mixers that come near softmax attention, how far they are off:
    ‖y − exact‖ / ‖exact‖ with the same weights, drawn and not trained.

    Seconds are of the machine, and of what else it does meanwhile; bytes, errors and operations are not. Errors are measured on two kinds
    of rows: of vectors that are independent, where every token matters and nothing can stand for anything else, and of vectors that drift,
    where neighbours are much alike. What a model reads lies between them.
    """

    title: str
    """At the head of the page."""
    curves: tuple[Curve, ...] = Field(min_length=1)
    """The mixers."""
    lengths: tuple[Tokens, ...] = Field(min_length=1)
    """Tokens in a row, growing."""
    d_model: int = Field(gt=0)
    """Width of the vectors."""
    repeats: int = Field(default=5, gt=0)
    """Passes of which a median is taken, behind one that is not counted."""
    threads: int = Field(default=1, gt=0)
    """Threads of the CPU."""
    init: WeightInit = FanInInit()
    """What the weights are drawn from."""
    seed: int = 0
    """Of weights and vectors."""

    def check(self) -> None:
        names = [curve.name for curve in self.curves]
        if len(set(names)) < len(names):
            raise self.refuse("curves", "has two of one name; name each for its mixer")
        if list(self.lengths) != sorted({*self.lengths}):
            raise self.refuse("lengths", f"does not grow; {tuple(sorted({*self.lengths}))} does")
        for curve in self.curves:
            curve.mixer.check_model(self.d_model, self.lengths[-1])

    def estimate(self) -> str:
        passes = 3 * (self.repeats + 2)  # a backward pass counts as two
        flops = sum(curve.mixer.flops(self.d_model, n, curve.causal) * n for curve in self.curves for n in self.lengths)
        return f"{len(self.curves)} mixers at {len(self.lengths)} lengths, {human_count(passes * flops)}FLOP"

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        subjects = {}
        for curve in self.curves:
            mixer = curve.mixer.build(self.d_model, self.lengths[-1], Shared())
            initialise(mixer, self.init, n_layers=1, seed=self.seed)
            subjects[curve.name] = Subject(mixer.to(context.device), curve.causal)
        points: list[dict[str, Any]] = []
        with threads(self.threads):
            for length in self.lengths:
                points += measure(subjects, independent(length, self.d_model, self.seed).to(context.device), self.repeats)
                context.progress(f"{self.reference}: {length} tokens measured")
        for point in points:
            curve = next(curve for curve in self.curves if curve.name == point["name"])
            point["flops"] = curve.mixer.flops(self.d_model, point["length"], point["causal"]) * point["length"]
        made = {"device": context.device, "processor": platform.processor() or platform.machine(), "torch": torch.__version__}
        write_json(workspace.path / "results.json", {"title": self.title, "made": made, "points": points})
        text = text_of(self.title, points)
        write_text(workspace.path / "cost_curve.txt", text)
        write_text(workspace.path / "cost_curve.html", page_of(self.title, points))
        context.say(text)
        return {f"{p['name']}: peak_bytes": p["peak_bytes"] for p in points if p["length"] == self.lengths[-1]}


class Subject:
    """A mixer that is measured.

    Args:
        module: (x, layout) → x.
        causal: whether it reads forward.
    """

    def __init__(self, module: nn.Module, causal: bool) -> None:
        self.module, self.causal = module, causal

    def forward(self, x: Tensor) -> Tensor:
        """A forward pass that keeps what the backward pass needs."""
        return self.module(x, self.layout(x))

    def layout(self, x: Tensor) -> SequenceLayout:
        """Rows of one document each."""
        return SequenceLayout.rows(*x.shape[:2], device=x.device, causal=self.causal)

    def both(self, x: Tensor) -> None:
        """A forward and a backward pass that leave nothing behind."""
        self.backward(self.forward(x))

    def backward(self, y: Tensor) -> None:
        """A backward pass; the gradients are thrown away."""
        y.backward(torch.ones_like(y))
        self.module.zero_grad(set_to_none=True)

    def error(self, x: Tensor) -> float | None:
        """How far it is from what it comes near to, as a share of that; None for what comes near to nothing."""
        if not isinstance(self.module, Approximate):
            return None
        with torch.no_grad():
            exact = self.module.exact(x, self.layout(x))
            return float((self.forward(x) - exact).norm() / exact.norm())


def measure(subjects: Mapping[str, Subject], x: Tensor, repeats: int) -> list[dict[str, Any]]:
    """A point of each mixer's curve: name, length, causal, forward_s, backward_s, peak_bytes, error, error_drifting.

    Args:
        subjects: the mixers by name; they take turns, so that a drift of the machine favours none.
        x: (1, length, d_model), what they read: independent vectors.
        repeats: passes of which a median is taken.
    """
    peaks = peak_bytes({name: lambda subject=subject: subject.both(x) for name, subject in subjects.items()}, x.device)  # warms up, too
    drifted = drifting(x)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, subject in subjects.items():
            started = now(x.device)
            y = subject.forward(x)
            between = now(x.device)
            subject.backward(y)
            seconds[name].append((between - started, now(x.device) - between))
            del y
    return [
        {
            "name": name, "length": x.shape[1], "causal": subject.causal, "forward_s": median(forward for forward, _ in seconds[name]),
            "backward_s": median(backward for _, backward in seconds[name]), "peak_bytes": peaks[name], "error": subject.error(x),
            "error_drifting": subject.error(drifted),
        }
        for name, subject in subjects.items()
    ]  # fmt: skip


def independent(length: int, d_model: int, seed: int) -> Tensor:
    """A row (1, length, d_model) of vectors that have nothing to do with each other."""
    return torch.randn(1, length, d_model, generator=torch.Generator().manual_seed(seed))


def drifting(x: Tensor) -> Tensor:
    """From independent vectors, of unit variance as they are, a row in which neighbours are alike:  x_t ← a · x_{t−1} + √(1 − a²) · x_t."""
    rows = [x[:, 0]]
    for new in x.unbind(1)[1:]:
        rows.append(LIKENESS * rows[-1] + (1 - LIKENESS**2) ** 0.5 * new)
    return torch.stack(rows, dim=1)


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_bytes(steps: Mapping[str, Callable[[], None]], device: torch.device) -> dict[str, int]:
    """The most bytes that each step has allocated at a time, beyond what was there before it."""
    if device.type == "cuda":
        return {name: _peak_of_cuda(step, device) for name, step in steps.items()}
    profiled: Any = profile(profile_memory=True)  # one for all, since it says on stderr when it starts and stops
    with profiled:
        for name, step in steps.items():
            with record_function(f"step {name}"):
                step()
    events = profiled.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    spans = {event.name().removeprefix("step "): (event.start_ns(), event.end_ns()) for event in events if event.name().startswith("step ")}
    return {name: max(accumulate(change for at, change in changes if start <= at <= end)) for name, (start, end) in spans.items()}


def _peak_of_cuda(step: Callable[[], None], device: torch.device) -> int:
    step()  # a library's workspace, allocated once, is not the step's
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads of the CPU, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tables(points: list[dict[str, Any]]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Title and rows, the head first: a row for each mixer, a column for each length."""

    def shown(value: float | None, show: Callable[[float], str]) -> str:
        return "–" if value is None else show(value)

    kinds: list[tuple[str, Callable[[dict[str, Any]], float | None], Callable[[float], str]]] = [
        ("forward", lambda p: p["forward_s"], lambda s: f"{1000 * s:.1f} ms"),
        ("forward and backward", lambda p: p["forward_s"] + p["backward_s"], lambda s: f"{1000 * s:.1f} ms"),
        ("most bytes allocated at a time, beside weights and input", lambda p: p["peak_bytes"], human_bytes),
        ("operations of the forward pass, matrix products only", lambda p: p.get("flops"), human_count),
        ("distance from softmax attention, independent vectors", lambda p: p["error"], lambda e: f"{e:.3f}"),
        ("distance from softmax attention, vectors that drift", lambda p: p["error_drifting"], lambda e: f"{e:.3f}"),
    ]
    names, lengths = list(dict.fromkeys(p["name"] for p in points)), list(dict.fromkeys(p["length"] for p in points))
    at = {(p["name"], p["length"]): p for p in points}
    for title, value, show in kinds:
        rows = [(name + ("" if at[name, lengths[0]]["causal"] else ", both ways"), *(shown(value(at[name, n]), show) for n in lengths))
                for name in names if value(at[name, lengths[0]]) is not None]  # fmt: skip
        if rows:
            yield title, [("", *(str(n) for n in lengths)), *rows]


def text_of(title: str, points: list[dict[str, Any]]) -> str:
    """The tables in plain text."""
    return text_tables(title, tables(points))


def page_of(title: str, points: list[dict[str, Any]]) -> str:
    """The plots and the tables as HTML."""
    figures = [
        _plot("seconds, forward and backward", points, lambda p: p["forward_s"] + p["backward_s"]),
        _plot("most bytes at a time", points, lambda p: p["peak_bytes"]),
        _plot("error, independent vectors", points, lambda p: p["error"]),
        _plot("error, vectors that drift", points, lambda p: p["error_drifting"]),
    ]
    return document(title, f'<h1>{escape(title)}</h1><div class="plots">{"".join(figures)}</div>{html_tables(tables(points))}')


def _plot(title: str, points: list[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> str:
    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(p["name"] for p in points))
        styles = [(colour, style) for style in ("-", "--", ":") * len(names) for colour in COLOURS]
        for name, (colour, style) in zip(names, styles, strict=False):
            curve = [(p["length"], found) for p in points if p["name"] == name and (found := value(p)) is not None]
            if curve:
                axes.plot(*zip(*curve, strict=True), style, color=colour, marker="o", markersize=3, linewidth=1.2, label=name)
        lengths = sorted({p["length"] for p in points})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.set_xlim(lengths[0] / 1.2, 1.2 * lengths[-1] * (lengths[-1] / lengths[0]) ** 0.7)  # room for the legend

    return plot(title, draw, "tokens in a row")
