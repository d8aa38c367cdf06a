"""Tokens per second of an engine beside transformers' generate with a static cache, on a CPU with the same weights.

    python -m bench.generate_cpu [--shape 124m] [--batch 1 8 32] [--rounds 3] [--threads 2] [--ways packed int8]

At batch 1 and 8 all prompts have 64 tokens, and 64 are written to each. At 32 prompts have 16 to 128 tokens and ask for 16 to 96: transformers
pads the prompts and goes on until the longest is done, an engine lets go of a text that is. What counts are the tokens that were asked for, by
the seconds of the whole, prompts included; no text ends by itself. Sides take turns, each in a process of its own.

The weights are kept in several ways (see `generate/weights.py`): plain, packed and compiled are the same fp32 numbers as theirs, bfloat16, int8
and int4 are fewer bytes. A ratio of the first kind and one of the second are two things. Every side writes all of it once before it is timed:
that is when code is written.

At batch 1 every weight is read once for each token: the share of what memory could give is told, by the rate at which this machine adds up
numbers in memory, and the bytes of the weights as they are kept.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.turns import turns

from bloomery.core.units import human_count
from bloomery.generate import Bfloat16Weights, CompiledWeights, Engine, Int4Weights, Int8Weights, Job, PackedWeights, Weights
from bloomery.models import Gpt2Config, ModelConfig, causal, load_hub, save_hub

WAYS: dict[str, tuple[Weights | None, float]] = {
    "plain": (None, 4), "packed": (PackedWeights(), 4), "compiled": (CompiledWeights(), 4),
    "bfloat16": (Bfloat16Weights(), 2), "int8": (Int8Weights(), 1), "int4": (Int4Weights(), 0.5 + 4 / 64),
}  # fmt: skip
"""How weights are kept, and bytes of each."""
PEER = "transformers"
SHAPES: dict[str, ModelConfig] = {
    "tiny": Gpt2Config(vocab_size=512, d_model=64, n_layers=2, n_heads=4, max_seq_len=256),
    "124m": Gpt2Config(vocab_size=50257, d_model=768, n_layers=12, n_heads=12, max_seq_len=1024),
}


def asked(batch: int, vocab_size: int) -> list[tuple[list[int], int]]:
    """Prompts, and how many tokens each asks for."""
    chance = random.Random(batch)
    lengths = [(64, 64)] * batch if batch < 32 else [(chance.randint(16, 128), chance.randint(16, 96)) for _ in range(batch)]
    return [([chance.randrange(vocab_size - 1) for _ in range(prompt)], new) for prompt, new in lengths]


def ours(folder: Path, requests: list[tuple[list[int], int]], weights: Weights | None) -> Any:
    """What writes all of it once."""
    model = causal(load_hub(folder)[1]).eval()
    if weights is not None:
        weights.applied(model)

    def write() -> None:
        capacity = max(len(prompt) + new for prompt, new in requests)
        engine = Engine(model, set(), rows=len(requests), capacity=capacity)
        jobs = [Job(prompt, lambda logits: int(logits.argmax()), new) for prompt, new in requests]
        for job in jobs:
            engine.add(job)
        while any(job.ended is None for job in jobs):
            engine.step()
        assert [len(job.tokens) for job in jobs] == [new for _, new in requests]

    return write


def theirs(folder: Path, requests: list[tuple[list[int], int]]) -> Any:
    """The same of transformers'."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32).eval()
    longest, most = max(len(prompt) for prompt, _ in requests), max(new for _, new in requests)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt, _ in requests])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt, _ in requests])

    def write() -> None:
        written = model.generate(
            ids, attention_mask=mask, do_sample=False, min_new_tokens=most, max_new_tokens=most, cache_implementation="static",
            disable_compile=True, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        assert written.shape[1] == longest + most

    return write


def turn(side: str, batch: int, threads: int, folder: Path, vocab_size: int) -> None:
    """One turn of a side: prints tokens per second, at small batches the better of two."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    requests = asked(batch, vocab_size)
    write = theirs(folder, requests) if side == PEER else ours(folder, requests, WAYS[side][0])
    seconds = []
    with torch.inference_mode():
        write()
        for _ in range(2 if batch < 32 else 1):
            began = time.perf_counter()
            write()
            seconds.append(time.perf_counter() - began)
    print(json.dumps({"tokens_per_s": sum(new for _, new in requests) / min(seconds)}))


def memory_rate(threads: int) -> float:
    """Bytes per second at which numbers in memory are added up."""
    torch.set_num_threads(threads)
    numbers, best = torch.ones(1 << 27), 0.0
    for _ in range(5):
        began = time.perf_counter()
        numbers.sum()
        best = max(best, numbers.nbytes / (time.perf_counter() - began))
    return best


def main() -> None:
    """Runs the benchmark, or, with a side, one turn of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--side", choices=(*WAYS, PEER))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    config = SHAPES[given.shape]
    if given.side is not None:
        turn(given.side, given.batch[0], given.threads, given.folder, config.vocab_size)
        return
    rate = memory_rate(given.threads)
    print(f"{human_count(config.n_params)} parameters; {given.threads} threads; memory {rate / 1e9:.1f} GB/s")
    sides = (*given.ways, PEER)
    with tempfile.TemporaryDirectory() as folder:
        save_hub(config.build(seed=0), config, Path(folder))
        for batch in given.batch:
            speeds: dict[str, list[float]] = {side: [] for side in sides}
            arguments = ["--folder", folder, "--shape", given.shape, "--batch", str(batch), "--threads", str(given.threads)]
            for side, found in turns("bench.generate_cpu", sides, given.rounds, arguments):
                speeds[side].append(found["tokens_per_s"])
            for way in given.ways:
                ratio = median(a / b for a, b in zip(speeds[way], speeds[PEER], strict=True))
                read = median(speeds[way]) * WAYS[way][1] * config.n_params / rate
                share = f"; weights read at {read:.0%} of the rate of memory" if batch == 1 else ""
                told = f"{median(speeds[way]):7.1f} tokens/s beside {median(speeds[PEER]):6.1f} of {PEER}"
                print(f"batch {batch:2}: {way:9}{told}: {ratio:.2f} × (median of {given.rounds} rounds){share}", flush=True)


if __name__ == "__main__":
    main()
