"""Tokens per second of a model that checks guesses, beside the same model without them, on a CPU; both trained on tales.

    python -m bench.speculative_cpu [--store store] [--texts 8] [--new 160] [--rounds 3] [--threads 2]

The model has 12 layers of width 256, the one that guesses a single one; both are trained on the first run (some ten minutes
of two cores), and read from the store after it. Texts are written one by one to beginnings of tales that neither has read. The ways take turns
within each round, in one process, with the same packed weights; what counts are new tokens by the seconds of the whole, prompts included.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bloomery.core.units import human_count
from bloomery.data import Fit
from bloomery.generate import Decoding, Draft, Drafter, EarlyExit, Greedy, LogitBias, Ngram, PackedWeights, Random, Sampler, Writer
from bloomery.models import LlamaConfig, causal
from bloomery.optim import AdamW, Muon
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.stages.trained import opened, tokenizer_of
from bloomery.store import Store
from bloomery.text.readers import TaleStories
from bloomery.text.tales import Tales
from bloomery.text.tokenizer import Tokenizer

VOCABULARY, TIME, BEGINNING = 1280, 512, 32
STORIES = Prepare(name="stories", source=TaleStories(tales=Tales(size="short"), count=16_000))
UNREAD = Prepare(name="unread", source=TaleStories(tales=Tales(size="short", split="held_out"), count=200))
TOKENIZER = TrainTokenizer(corpora=(STORIES,), vocab_size=VOCABULARY, sample_bytes=4 << 20)
BY: tuple[Sampler, ...] = (Greedy(), Random())


def training(name: str, d_model: int, n_layers: int, steps: int) -> Train:
    """A model of the tales."""
    model = LlamaConfig(vocab_size=VOCABULARY, d_model=d_model, n_layers=n_layers, n_heads=d_model // 64, max_seq_len=TIME)
    return Train(
        name=name, init=Scratch(model=model), sources=(Share(tokens=Tokenize(name="stories", corpus=STORIES, tokenizer=TOKENIZER)),),
        batch_tokens=2048, steps=steps, tokenizer=TOKENIZER, packing=Fit(), max_seq_len=256,
        optimizer=Muon(learning_rate=3e-3, weight_decay=0.0, others=AdamW(learning_rate=1e-2, weight_decay=0.0)),
    )  # fmt: skip


LARGE, SMALL = training("large", 256, 12, 160), training("small", 256, 1, 500)


def speed(writer: Writer, prompts: Sequence[Sequence[int]]) -> tuple[float, list[list[int]]]:
    """Tokens per second, and the texts."""
    began = time.perf_counter()
    texts = [writer.write([prompt], [number])[0].tokens for number, prompt in enumerate(prompts)]
    return sum(map(len, texts)) / (time.perf_counter() - began), texts


def beginnings(context: RunContext, tokenizer: Tokenizer, count: int, tokens: int = BEGINNING) -> list[list[int]]:
    """How unread tales begin."""
    texts = [text for batch in documents(UNREAD.run(context), columns=("text",)) for text in batch.column("text").to_pylist()]
    return [[tokenizer.begin, *tokenizer.encode(text)][:tokens] for text in texts[:count]]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--new", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore")
    context = RunContext(store=Store(given.store), compile="never", trackers=())
    small, large = SMALL.run(context), LARGE.run(context)
    model, tokenizer = PackedWeights().applied(causal(opened(large, "cpu"))), tokenizer_of(large)
    ways: dict[str, Drafter | None] = {
        "alone": None, "Draft, 3 tokens": Draft(model=small.path, n_tokens=3), "Draft, 5 tokens": Draft(model=small.path, n_tokens=5),
        "Draft, 8 tokens": Draft(model=small.path, n_tokens=8), "Ngram": Ngram(), "EarlyExit, 3 layers": EarlyExit(n_layers=3),
    }  # fmt: skip
    print(f"{human_count(model.config.n_params)} parameters, guessed for by {human_count(opened(small, 'cpu').config.n_params)}; "
          f"{given.texts} texts of {given.new} tokens, {given.threads} threads")  # fmt: skip
    passes = 0
    read = model.features

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal passes
        passes += 1
        return read(*arguments, **options)

    model.features = counted  # type: ignore[method-assign]
    prompts = beginnings(context, tokenizer, given.texts)
    for by in BY:
        never = LogitBias(biases={tokenizer.end: -100.0})  # so that all texts are equally long
        writers = {
            way: Writer(model, tokenizer, Decoding(by=by, rules=(never,), max_new_tokens=given.new, draft=drafter))
            for way, drafter in ways.items()
        }  # fmt: skip
        found: dict[str, list[float]] = {way: [] for way in ways}
        a_pass: dict[str, float] = {}
        texts: dict[str, list[list[int]]] = {}
        for number in range(given.rounds):
            for way, writer in list(writers.items())[:: 1 if number % 2 == 0 else -1]:
                passes = 0
                rate, texts[way] = speed(writer, prompts)
                found[way].append(rate)
                a_pass[way] = sum(map(len, texts[way])) / (passes - given.texts)  # without those that read prompts
        for way in ways:
            ratio = median(a / b for a, b in zip(found[way], found["alone"], strict=True))
            same = "the same texts" if texts[way] == texts["alone"] else "other texts"
            print(f"{by!s:10} {way:20} {median(found[way]):7.1f} tokens/s, {a_pass[way]:.2f} a pass: {ratio:.2f} × ({same})", flush=True)


if __name__ == "__main__":
    main()
