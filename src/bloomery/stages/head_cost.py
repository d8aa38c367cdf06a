"""`HeadCost`: what the loss over a vocabulary costs against the size of the vocabulary, by head.

    results.json     every point of every curve
    head_cost.txt    the tables
    head_cost.html   the plots
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from statistics import median
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.config import Config
from bloomery.core.units import Tokens, human_bytes, human_count
from bloomery.nn.head import HeadConfig
from bloomery.nn.init import FanInInit, initialise
from bloomery.stages.cost_curve import now, peak_bytes, threads
from bloomery.stages.look import COLOURS, document, html_tables, plot, text_tables
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace, write_json, write_text

Loss = Callable[[Tensor, Tensor], Tensor]
"""(features (n, d_model), targets (n,)) → total."""
ALL_LOGITS = "all logits held"


class HeadCurve(Config):
    """A head whose cost is measured. It is made anew for each vocabulary: cutoffs and the like are shares of it."""

    name: str
    """In the tables and beside its curve."""
    heads: tuple[HeadConfig, ...]
    """One per vocabulary size."""


class HeadCost(Stage):
    """Measures the seconds (medians, the heads taking turns) and the most bytes of a forward and a backward pass of the loss.

    The targets are as frequent as in text: token r with a probability ∝ 1/(r + 1) (Zipf's law), on which an adaptive softmax counts. Beside
    the heads stands the plain way, which holds all logits at once. Seconds are of the machine and of what else it does; bytes are not.
    """

    title: str
    """At the head of the page."""
    curves: tuple[HeadCurve, ...] = Field(min_length=1)
    """The heads."""
    vocab_sizes: tuple[int, ...] = Field(min_length=1)
    """Sizes of the vocabulary, growing."""
    d_model: int = Field(gt=0)
    """Width of the features."""
    tokens: Tokens = 2048
    """Positions whose loss is taken at once."""
    repeats: int = Field(default=5, gt=0)
    """Passes of which a median is taken, behind one that is not counted."""
    threads: int = Field(default=1, gt=0)
    """Threads of the CPU."""
    seed: int = 0
    """Of weights, features and targets."""

    def check(self) -> None:
        if list(self.vocab_sizes) != sorted({*self.vocab_sizes}):
            raise self.refuse("vocab_sizes", f"does not grow; {tuple(sorted({*self.vocab_sizes}))} does")
        for curve in self.curves:
            if len(curve.heads) != len(self.vocab_sizes):
                sizes = len(self.vocab_sizes)
                raise self.refuse("curves", f"has {len(curve.heads)} heads called {curve.name!r} for {sizes} vocab_sizes; give as many")
            for head, size in zip(curve.heads, self.vocab_sizes, strict=True):
                head.check_model(self.d_model, size)

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        points: list[dict[str, Any]] = []
        with threads(self.threads):
            for place, size in enumerate(self.vocab_sizes):
                points += self._measure(place, size, torch.device(context.device))
                context.progress(f"{self.reference}: {size} tokens of vocabulary measured")
        write_json(workspace.path / "results.json", {"title": self.title, "points": points})
        text = text_tables(self.title, _tables(points))
        write_text(workspace.path / "head_cost.txt", text)
        write_text(workspace.path / "head_cost.html", page_of(self.title, points))
        context.say(text)
        return {f"{p['name']}: peak_bytes": p["peak_bytes"] for p in points if p["vocab_size"] == self.vocab_sizes[-1]}

    def _measure(self, place: int, size: int, device: torch.device) -> list[dict[str, Any]]:
        """A point of each curve."""
        generator = torch.Generator().manual_seed(self.seed)
        features = torch.randn(self.tokens, self.d_model, generator=generator).to(device).requires_grad_()
        frequency = 1 / torch.arange(1, size + 1, dtype=torch.float32)
        targets = torch.multinomial(frequency, self.tokens, replacement=True, generator=generator).to(device)
        weights = torch.ones(self.tokens, device=device)
        modules = {curve.name: self._head(curve.heads[place], size, device) for curve in self.curves}
        losses: dict[str, Loss] = {
            name: lambda x, y, head=head: head.cross_entropy(x, y, weights)[0] for name, head in modules.items()
        }  # fmt: skip
        first = modules[self.curves[0].name]
        losses[ALL_LOGITS] = lambda x, y: nn.functional.cross_entropy(first(x), y, reduction="sum")
        flops = {curve.name: curve.heads[place].flops(self.d_model, size) for curve in self.curves}
        flops[ALL_LOGITS] = flops[self.curves[0].name]

        def both(loss: Loss) -> None:
            loss(features, targets).backward()
            features.grad = None
            for module in modules.values():
                module.zero_grad(set_to_none=True)

        peaks = peak_bytes({name: lambda loss=loss: both(loss) for name, loss in losses.items()}, device)
        seconds: dict[str, list[float]] = {name: [] for name in losses}
        for _ in range(self.repeats):
            for name, loss in losses.items():
                started = now(device)
                both(loss)
                seconds[name].append(now(device) - started)
        return [
            {"name": name, "vocab_size": size, "seconds": median(seconds[name]), "peak_bytes": peaks[name], "flops_per_token": flops[name]}
            for name in losses
        ]

    def _head(self, config: HeadConfig, size: int, device: torch.device) -> Any:
        head = config.build(nn.Embedding(size, self.d_model))
        initialise(head, FanInInit(), n_layers=1, seed=self.seed)
        return head.to(device)


KINDS: tuple[tuple[str, Callable[[dict[str, Any]], float], Callable[[float], str]], ...] = (
    ("forward and backward", lambda p: p["seconds"], lambda s: f"{1000 * s:.1f} ms"),
    ("most bytes allocated at a time, beside weights and features", lambda p: p["peak_bytes"], human_bytes),
    ("operations per token of the forward pass", lambda p: p["flops_per_token"], human_count),
)
"""Title, which figure, and how it is written."""


def _tables(points: list[dict[str, Any]]) -> list[tuple[str, list[tuple[str, ...]]]]:
    names, sizes = list(dict.fromkeys(p["name"] for p in points)), list(dict.fromkeys(p["vocab_size"] for p in points))
    at = {(p["name"], p["vocab_size"]): p for p in points}
    return [
        (title, [("vocabulary", *map(str, sizes)), *((name, *(show(value(at[name, n])) for n in sizes)) for name in names)])
        for title, value, show in KINDS
    ]


def page_of(title: str, points: list[dict[str, Any]]) -> str:
    """The plots and the tables as HTML."""

    def figure(name: str, value: Callable[[dict[str, Any]], float]) -> str:
        def draw(axes: Any) -> None:
            for curve, colour in zip(dict.fromkeys(p["name"] for p in points), COLOURS * len(points), strict=False):
                line = [(p["vocab_size"], value(p)) for p in points if p["name"] == curve]
                axes.plot(*zip(*line, strict=True), color=colour, marker="o", markersize=3, linewidth=1.2, label=curve)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")

        return plot(name, draw, "tokens in the vocabulary")

    plots = "".join(figure(name, value) for name, value, _ in KINDS)
    return document(title, f'<h1>{escape(title)}</h1><div class="plots">{plots}</div>{html_tables(_tables(points))}')
