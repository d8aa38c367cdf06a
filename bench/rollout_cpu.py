"""A step of GRPO on a CPU beside trl's GRPOTrainer on transformers' Llama: tokens per second from prompts to changed weights.

    python -m bench.rollout_cpu [--shapes tiny small] [--rounds 3] [--steps 6] [--threads 2]

A step writes eight texts to each of a few prompts, judges them by their length, and learns from them once; neither side has a reference
model, and both draw at temperature 1 from all tokens. Both begin with the same fresh weights, so that hardly any text ends by itself, and as
many tokens are written. The sides take turns, each turn in a process of its own; what counts is tokens written, by the seconds of whole steps.

What a tiny model takes is what is between the products. The larger one's step is mostly products, at the rate that the processor has for both
sides: there only what is read once instead of eight times can be saved.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.turns import turns

from bloomery.core.units import human_count
from bloomery.data import Each
from bloomery.models import LlamaConfig, save_hub
from bloomery.objectives import OverTokens, PolicyGradient
from bloomery.optim import AdamW, Constant
from bloomery.stages.init import Hub
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer, load_tokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store
from bloomery.text.readers import TaleStories
from bloomery.train.credit import GroupRelative
from bloomery.train.earnings import Earns
from bloomery.train.rewards import Longer
from bloomery.train.rollouts import Rollout

SIDES = ("ours", "trl")
PROMPTS, SAMPLES, READ, WRITTEN, VOCABULARY, RATE = 8, 8, 48, 64, 1024, 1e-4
TIME = READ + WRITTEN
SHAPES = {
    "tiny": LlamaConfig(vocab_size=VOCABULARY, d_model=64, n_layers=2, n_heads=4, d_ff=176, max_seq_len=256),
    "small": LlamaConfig(vocab_size=VOCABULARY, d_model=256, n_layers=4, n_heads=4, d_ff=688, max_seq_len=256),
}
TALES = Prepare(source=TaleStories(count=500))
TOKENIZER = TrainTokenizer(corpora=(TALES,), vocab_size=VOCABULARY)
TOKENS = Tokenize(corpus=TALES, tokenizer=TOKENIZER)


def ours(folder: Path, context: RunContext, steps: int) -> list[tuple[float, float]]:
    """Seconds and tokens written of each step, as `Train` does them."""
    training = Train(
        tokenizer=TOKENIZER, init=Hub(path=folder), sources=(Share(tokens=TOKENS),), packing=Each(), max_seq_len=TIME, steps=steps,
        batch_tokens=PROMPTS * SAMPLES * TIME, objective=PolicyGradient(over=OverTokens()), optimizer=AdamW(learning_rate=RATE),
        schedule=Constant(), healing=None, rollout=Rollout(
            prompt_tokens=READ, max_new_tokens=WRITTEN, samples=SAMPLES, earns=Earns(rewards=(Longer(tokens=WRITTEN),), credit=GroupRelative()),
        ),
    )  # fmt: skip
    lines = (training.run(context).path / "metrics.jsonl").read_text().splitlines()
    rows = PROMPTS * SAMPLES
    return [(rows * TIME / one["tokens_per_s"], rows * one["length"]) for one in map(json.loads, lines)]


def theirs(folder: Path, context: RunContext, steps: int) -> list[tuple[float, float]]:
    """The same of trl's."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = load_tokenizer(TOKENIZER.run(context))
    texts = [text for batch in documents(TALES.run(context), columns=("text",)) for text in batch.column("text").to_pylist()]
    prompts = [tokenizer.decode(tokenizer.encode(text)[: READ - 1]) for text in texts]
    reader = PreTrainedTokenizerFast(
        tokenizer_file=str(TOKENIZER.run(context).checked("tokenizer.json")), bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>",
    )  # fmt: skip
    found: list[tuple[float, float]] = []

    class Timed(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.append((time.perf_counter() - self.began, written.pop()))

    written: list[float] = []

    def longer(completions: list[str], completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        written.append(float(sum(map(len, completion_ids))))
        return [len(ids) / WRITTEN for ids in completion_ids]

    with tempfile.TemporaryDirectory() as out:
        arguments = GRPOConfig(
            output_dir=out, use_cpu=True, bf16=False, gradient_checkpointing=False, per_device_train_batch_size=PROMPTS * SAMPLES,
            num_generations=SAMPLES, max_completion_length=WRITTEN, max_steps=steps, learning_rate=RATE, lr_scheduler_type="constant",
            logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True, temperature=1.0, beta=0.0,
        )  # fmt: skip
        GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa"), reward_funcs=longer,
            args=arguments, train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]), processing_class=reader,
            callbacks=[Timed()],
        ).train()  # fmt: skip
    return found


def turn(side: str, steps: int, threads: int, folder: Path) -> None:
    """One turn of a side: prints tokens per second, the median of its steps after the first."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as store:
        context = RunContext(store=Store(Path(store)), quiet=True, compile="never", trackers=())
        found = {"ours": ours, "trl": theirs}[side](folder, context, steps + 1)[1:]
    print(json.dumps({
        "tokens_per_s": median(tokens / seconds for seconds, tokens in found), "tokens": median(tokens for _, tokens in found),
    }))  # fmt: skip


def main() -> None:
    """Runs the benchmark, or, with a side, one turn of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.side is not None:
        turn(asked.side, asked.steps, asked.threads, asked.folder)
        return
    print(f"{PROMPTS} prompts of {READ} tokens, {SAMPLES} texts of {WRITTEN} each; {asked.threads} threads")
    for shape in asked.shapes:
        speeds: dict[str, list[float]] = {side: [] for side in SIDES}
        with tempfile.TemporaryDirectory() as folder:
            config = SHAPES[shape]
            save_hub(config.build(seed=0), config, Path(folder))
            arguments = ["--folder", folder, "--steps", str(asked.steps), "--threads", str(asked.threads)]
            for side, found in turns("bench.rollout_cpu", SIDES, asked.rounds, arguments):
                speeds[side].append(found["tokens_per_s"])
                print(f"{side:5}{found['tokens_per_s']:9.0f} tokens/s written and learnt from, {found['tokens']:.0f} tokens a step", flush=True)
        ratio = median(a / b for a, b in zip(*(speeds[side] for side in SIDES), strict=True))
        print(f"{human_count(config.n_params)} parameters: {ratio:.2f} × the tokens per second of trl, the median of {asked.rounds} rounds")


if __name__ == "__main__":
    main()
