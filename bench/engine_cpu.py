"""What an engine's ways to keep keys and values, and its guesses, cost and save, on a CPU: a model of the tales of `bench.speculative_cpu`.

    python -m bench.engine_cpu [--store store] [--texts 1 8 32] [--new 96] [--rounds 3]

As many beginnings of tales that it has not read are written to at once, and each text is `--new` tokens long. The ways take turns within each
round, with the same packed weights, on one thread; what counts are new tokens by the seconds of processor time, prompts included. Greedy texts
are compared with those of the first way, token by token up to where they part; logits behind each token of unread tales, read through a cache
in pieces, with those of the model itself.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from pathlib import Path
from statistics import median

import torch
from bench.speculative_cpu import LARGE, SMALL, TIME, beginnings

from bloomery.generate import Decoding, Draft, Drafter, Engine, FloatPast, Greedy, Int8Past, LogitBias, Ngram, PackedWeights, Past, job_by
from bloomery.models import CausalModel, causal
from bloomery.nn import SequenceLayout
from bloomery.stages.stage import RunContext
from bloomery.stages.trained import opened, tokenizer_of
from bloomery.store import Store

PIECE = 24  # tokens read at a time through a cache


def kept(model: CausalModel, past: Past | None) -> CausalModel:
    """The model with caches of a kind; shares its weights."""
    return model if past is None else past.applied(copy.copy(model))


def told(model: CausalModel, tokens: torch.Tensor, cached: bool) -> torch.Tensor:
    """Log-probabilities behind each token, read at once or through a cache."""
    whole, read = SequenceLayout.rows(*tokens.shape), []
    if not cached:
        return model(tokens, whole).log_softmax(-1)
    cache = model.new_cache(*tokens.shape)
    for start in range(0, tokens.shape[1], PIECE):
        part = slice(start, start + PIECE)
        read.append(model(tokens[:, part], SequenceLayout(whole.positions[:, part]), cache))
    return torch.cat(read, dim=1).log_softmax(-1)


def alike(a: list[list[int]], b: list[list[int]]) -> float:
    """The share of tokens of texts before the first at which they part."""
    same = sum(next((i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y), len(one)) for one, other in zip(a, b, strict=True))
    return same / sum(map(len, a))


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    context = RunContext(store=Store(given.store), compile="never", trackers=())
    small, large = SMALL.run(context), LARGE.run(context)
    model, tokenizer = PackedWeights().applied(causal(opened(large, "cpu"))), tokenizer_of(large)
    bfloat16, int8 = FloatPast(precision="bfloat16"), Int8Past()
    prompts = beginnings(context, tokenizer, 200)
    unread = torch.tensor([tale for tale in beginnings(context, tokenizer, 200, 96) if len(tale) == 96][:24])
    with torch.inference_mode():
        wanted = told(model, unread, cached=False)
        for past in (None, bfloat16, int8):
            own = kept(model, past)
            found, taken = told(own, unread, cached=True), sum(slots.nbytes for slots in own.new_cache(1, 1024).slots) / 1024
            apart, nats = (found - wanted).abs().max(), (wanted.exp() * (wanted - found)).sum(-1).mean()
            agree = (found.argmax(-1) == wanted.argmax(-1)).float().mean()
            print(f"{past or 'float32'!s:26} {taken:7.0f} bytes a token; log-probabilities apart by {apart:.1e} at most, {nats:.1e} nats, "
                  f"likeliest token the same in {agree:.2%} of {unread.numel()}", flush=True)  # fmt: skip

    ways: dict[str, tuple[Past | None, bool, Drafter | None]] = {
        "rows": (None, False, None), "rows, bfloat16": (bfloat16, False, None), "rows, int8": (int8, False, None), "pages": (None, True, None),
        "pages, int8": (int8, True, None), "rows, Ngram": (None, False, Ngram()),
        "rows, Draft, 3": (None, False, Draft(model=small.path, n_tokens=3)),
        "pages, Draft, 3": (None, True, Draft(model=small.path, n_tokens=3)),
    }  # fmt: skip
    never = LogitBias(biases={tokenizer.end: -100.0})  # so that all texts are equally long
    for rows in given.texts:
        engines = {
            way: Engine(kept(model, past), {tokenizer.end}, tokenizer.vocab_size, rows, TIME, 0, rows * 160 + TIME if paged else None, draft)
            for way, (past, paged, draft) in ways.items()
        }  # fmt: skip
        rates, texts = {way: list[float]() for way in ways}, dict[str, list[list[int]]]()
        for number in range(given.rounds):
            for way, engine in list(engines.items())[:: 1 if number % 2 == 0 else -1]:
                jobs = [job_by(Decoding(by=Greedy(), rules=(never,), max_new_tokens=given.new), tokenizer, prompt) for prompt in prompts[:rows]]
                began = time.process_time()
                for job in jobs:
                    engine.add(job)
                while engine.live or engine.waiting:
                    engine.step()
                rates[way].append(sum(len(job.tokens) for job in jobs) / (time.process_time() - began))
                texts[way] = [job.tokens for job in jobs]
        for way in ways:
            ratio = median(a / b for a, b in zip(rates[way], rates["rows"], strict=True))
            print(f"{rows:2} texts, {way:16} {median(rates[way]):7.1f} tokens/s: {ratio:.2f} × rows; "
                  f"{alike(texts['rows'], texts[way]):.1%} of tokens before texts part", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
