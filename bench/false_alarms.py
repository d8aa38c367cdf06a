"""How often `Healing` takes a healthy step for a bad one: python bench/false_alarms.py --store STORE --into FOLDER.

Ordinary trainings on data that nobody has tampered with, with several seeds each: every event is a false alarm. The runs themselves are left
alone (nothing is judged while they go on), so that one series of losses, gradients and updates serves to try any thresholds: `climb` is asked
about it afterwards, once with the norms of gradients as they are, and, where the training clips them, once as they reach the optimiser, which
is what `train` has it judge. Said of each: its events by cause, and how near its highest values came to their limits.

`alarms.json` has the series, `--from` reads them instead of training anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bloomery.data import Cut, Fit, Packed, Packing, TokenShards
from bloomery.data.source import Source
from bloomery.models import LlamaConfig, ModelConfig
from bloomery.nn import ExpertsConfig
from bloomery.objectives import CausalLM
from bloomery.optim import AdamW, Muon, OptimizerConfig, WarmupCosine
from bloomery.recipe.tales import tale_model, tale_tokens
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.store import Store, read_json, write_json
from bloomery.text.readers import Files
from bloomery.train import Course, Healing, Manner, TrainState, train
from bloomery.train.healing import Ledger, Signals, climb

USUAL = AdamW(learning_rate=3e-3)
NEVER = Healing(sigmas=1e12)  # measures updates, and finds nothing far out


@dataclass(frozen=True, kw_only=True)
class Ordinary:
    """A training as people do them."""

    source: Callable[[int], Source]
    model: ModelConfig
    optimizer: OptimizerConfig = USUAL
    rows: int = 16
    steps: int = 600
    clip_norm: float | None = 1.0


def ordinary(context: RunContext, folder: Path) -> dict[str, Ordinary]:
    """Those that are looked at, by name."""
    tales = tale_tokens()
    told = TokenShards.open(tales.read.run(context))
    code = shards(context, "code", Path(asyncio.__file__).parent.as_posix() + "/*.py", 1024)
    words = shards(context, "words", random_words(folder / "words.jsonl").as_posix(), 300)

    def rows_of(tokens: TokenShards, packing: Packing, time: int) -> Callable[[int], Source]:
        return lambda seed: Packed(tokens, packing, time=time, seed=seed)

    small, tale_rows = tale_model(d_model=48, n_layers=2), rows_of(told, Fit(), 64)
    usual = Ordinary(source=tale_rows, model=small)
    coder = LlamaConfig(vocab_size=1024, d_model=64, n_layers=2, n_heads=4, max_seq_len=128)
    return {
        "tales": usual, "tales, not clipped": replace(usual, clip_norm=None), "tales, 4 rows": replace(usual, rows=4, steps=1200),
        "tales, 4 rows, not clipped": replace(usual, rows=4, steps=1200, clip_norm=None),
        "tales, a high rate": replace(usual, optimizer=AdamW(learning_rate=2e-2)), "tales, Muon": replace(usual, optimizer=Muon(), steps=400),
        "tales, experts": replace(usual, steps=400, model=small.replace(feed_forwards=(ExpertsConfig(n_experts=4, n_active=2, d_ff=96),))),
        "code": Ordinary(source=rows_of(code, Cut(), 128), model=coder, rows=8),
        "random words, over and over": Ordinary(
            source=rows_of(words, Cut(), 64), rows=4, steps=1500, optimizer=AdamW(),
            model=LlamaConfig(vocab_size=300, d_model=32, n_layers=1, n_heads=2, max_seq_len=64),
        ),
    }  # fmt: skip


def shards(context: RunContext, name: str, path: str, vocab_size: int) -> TokenShards:
    """Files as tokens."""
    corpus = Prepare(name=name, source=Files(path=path))
    tokenizer = TrainTokenizer(name=name, corpora=(corpus,), vocab_size=vocab_size)
    return TokenShards.open(Tokenize(name=name, corpus=corpus, tokenizer=tokenizer).run(context))


def random_words(path: Path) -> Path:
    """Documents in which nothing is to be learnt but words, and which a model therefore learns by heart."""
    draw = random.Random(1)
    words = ["".join(draw.choices("aeioubcdlmnrst", k=draw.randint(2, 8))) for _ in range(400)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": " ".join(draw.choices(words, k=40))}) + "\n" for _ in range(400)))
    return path


def series(one: Ordinary, seed: int) -> Iterator[tuple[float, float, float]]:
    """Loss, norm of the gradient and size of the update of each step."""
    model = one.model.build(seed)
    state = TrainState(model, one.optimizer.build(model))
    course = Course(
        objective=CausalLM(), schedule=WarmupCosine(), steps=one.steps, rows=one.rows, clip_norm=one.clip_norm, seed=seed, healing=NEVER,
    )  # fmt: skip
    for report in train(state, one.source(seed), course, Manner(micro_batch=one.rows)):
        assert state.update is not None
        yield report.loss, report.grad_norm, float(state.update[0])


def judged(steps: list[list[float]], healing: Healing, clip_norm: float | None) -> tuple[Counter[str], dict[str, float]]:
    """What `healing` makes of a series: events by cause, and of each value the highest share of its limit that it came to."""
    known, causes, near, update = Ledger(), Counter[str](), Counter[str](), None
    for number, (loss, grad_norm, moved) in enumerate(steps, start=1):
        limits = {
            "loss": healing.limit(known.losses, healing.loss_rise), "grad_norm": healing.limit(known.grad_norms, healing.gradient_rise),
            "update": healing.limit(known.updates, healing.update_rise),
        }  # fmt: skip
        clipped, refused = clip_norm is not None, (update or 0.0) > limits["update"]
        for name, value in (("loss", loss), ("grad_norm", 0.0 if clipped else grad_norm), ("update", update or 0.0)):
            near[name] = max(near[name], value / limits[name])
        known, events = climb(healing, known, number, Signals(loss, grad_norm, update, refused, clipped=clipped))
        causes.update(event.cause for event in events)
        update = moved
    return causes, {name: round(value, 2) for name, value in near.items()}


def main() -> None:
    """Trains, or reads what was recorded, and judges."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", type=Path, required=True)
    arguments.add_argument("--into", type=Path, required=True)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--from", dest="recorded", type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    recorded: dict[str, Any] = {} if options.recorded is None else read_json(options.recorded)
    if not recorded:
        for name, one in ordinary(RunContext(store=Store(options.store), quiet=True), options.into).items():
            runs = [list(series(one, seed)) for seed in range(options.seeds)]
            recorded[name] = {"clip_norm": one.clip_norm, "runs": runs}
            write_json(options.into / "alarms.json", recorded)
            tell(name, recorded[name])
    else:
        for name, found in recorded.items():
            tell(name, found)


def tell(name: str, found: dict[str, Any]) -> None:
    """A line for each seed."""
    for seed, steps in enumerate(found["runs"]):
        for clip_norm in dict.fromkeys((None, found["clip_norm"])):
            causes, near = judged(steps, Healing(), clip_norm)
            told = ", ".join(f"{count} × {cause}" for cause, count in causes.items()) or "nothing"
            norms = "as clipped" if clip_norm else "as they are"
            print(f"{name}, seed {seed}, {len(steps)} steps, norms {norms}: {told}; nearest {near}", flush=True)


if __name__ == "__main__":
    main()
