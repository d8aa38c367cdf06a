"""Training speed and peak memory on a CPU beside the usual ways, on one shape, alternating in one run.

    python bench/train_cpu.py [--rounds 7] [--steps 3] [--only NAME …]

Contenders: our own loop; Hugging Face Trainer; a plain torch loop over transformers' Llama; each eager and compiled. Each lives in a process
of its own, is set up and warmed up, and then all take turns, a few steps each, for several rounds. What is printed: the median over the rounds
of tokens per second, the ratio to the best peer, peak memory of the process (its high-water mark, libraries included), and the share of the
matrix-product rate that the machine showed in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VOCAB, TIME, BATCH = 8192, 256, 16
SHAPE = {"vocab_size": VOCAB, "d_model": 384, "n_layers": 6, "n_heads": 6, "d_ff": 1024, "max_seq_len": TIME}
LR, WARMUP_STEPS = 3e-4, 4
PEERS = ("torch loop eager", "torch loop compiled", "HF Trainer eager", "HF Trainer compiled")
OURS = ("bloomery eager", "bloomery compiled")


def ours(compiled: bool) -> Iterator[None]:
    """Our own training loop, as `Train` runs it."""
    from bloomery.data.batch import Batch
    from bloomery.models.llama import LlamaConfig
    from bloomery.nn.layout import SequenceLayout
    from bloomery.objectives import CausalLM
    from bloomery.optim import AdamW, Constant
    from bloomery.train.loop import Course, Manner, train
    from bloomery.train.state import TrainState

    class RandomRows:
        """The same random tokens that the peers get, a row being a document."""

        time, vocab_size = TIME, VOCAB

        def batch(self, first_row: int, rows: int) -> Batch:
            tokens = random_tokens(first_row // BATCH, TIME + 1)
            return Batch(
                tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch_ones(rows, TIME), SequenceLayout.rows(rows, TIME), first_row
            )

    model = LlamaConfig(**SHAPE).build(seed=0)
    state = TrainState(model=model, optimizer=AdamW(learning_rate=LR).build(model))
    course = Course(objective=CausalLM(), schedule=Constant(), steps=10**9, rows=BATCH)
    for _ in train(state, RandomRows(), course, Manner(micro_batch=BATCH, compiled=compiled)):
        yield


def torch_loop(compiled: bool) -> Iterator[None]:
    """transformers' Llama in the loop that everybody writes."""
    import torch

    model = hf_llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True, weight_decay=0.1)
    forward = torch.compile(model) if compiled else model
    for step in range(10**9):
        tokens = random_tokens(step, TIME)
        loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def hf_trainer(compiled: bool, turns: Turns) -> None:
    """Hugging Face Trainer; it owns its loop, so the turns are taken in a callback at the end of each step."""
    import tempfile

    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**7

        def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
            tokens = random_tokens(i // BATCH, TIME)[i % BATCH]
            return {"input_ids": tokens, "labels": tokens}

    class TakeTurns(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            turns.step_done()

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, max_steps=10**5, learning_rate=LR, weight_decay=0.1,
        max_grad_norm=1.0, optim="adamw_torch_fused", lr_scheduler_type="constant", logging_strategy="no", save_strategy="no",
        report_to=[], disable_tqdm=True,
        use_cpu=True, torch_compile=compiled, dataloader_num_workers=0, seed=0,
    )  # fmt: skip
    Trainer(model=hf_llama(), args=arguments, train_dataset=Rows(), callbacks=[TakeTurns()]).train()


def matmul(turns: Turns) -> None:
    """Matrix products of a training step: forward, input gradient and weight gradient of each projection, as often as they occur."""
    import torch

    d, ff, rows = SHAPE["d_model"], SHAPE["d_ff"], BATCH * TIME
    shapes = [(rows, d, 3 * d), (rows, d, d), (rows, d, 2 * ff), (rows, ff, d)]
    operands = []
    for m, k, n in shapes:
        x, w, g = torch.randn(m, k), torch.randn(n, k), torch.randn(m, n)
        operands += [(x, w.t()), (g, w), (g.t(), x)]
    flops = sum(2 * 3 * m * k * n for m, k, n in shapes)
    while True:
        best = 0.0
        for _ in range(4):
            started = time.perf_counter()
            for a, b in operands:
                a @ b
            best = max(best, flops / (time.perf_counter() - started))
        turns.step_done(best)


def hf_llama():  # type: ignore[no-untyped-def]
    """transformers' Llama of the bench shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=SHAPE["d_model"], intermediate_size=SHAPE["d_ff"], num_hidden_layers=SHAPE["n_layers"],
        num_attention_heads=SHAPE["n_heads"], num_key_value_heads=SHAPE["n_heads"], max_position_embeddings=TIME, tie_word_embeddings=True,
        use_cache=False, attn_implementation="sdpa",
    ))  # fmt: skip


def random_tokens(step: int, time: int):  # type: ignore[no-untyped-def]
    import torch

    return torch.randint(0, VOCAB, (BATCH, time), generator=torch.Generator().manual_seed(step))


def torch_ones(rows: int, time: int):  # type: ignore[no-untyped-def]
    import torch

    return torch.ones(rows, time)


class Turns:
    """The worker's side of taking turns: waits for "go N", does N steps, answers with the seconds."""

    def __init__(self) -> None:
        self.left, self.asked, self.started, self.rates = WARMUP_STEPS, 0, 0.0, [0.0]

    def step_done(self, rate: float = 0.0) -> None:
        """To be called after each step; blocks when it is another's turn."""
        self.rates.append(rate)
        self.left -= 1
        if self.left == 0:
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            peak = int(status["VmHWM"].split()[0]) / 1024
            seconds = (time.perf_counter() - self.started) / max(1, self.asked)
            print(json.dumps({"seconds": seconds, "peak_mb": peak, "rate": max(self.rates)}), flush=True)
            line = sys.stdin.readline()
            if not line:
                os._exit(0)
            self.left = self.asked = int(line)
            self.started, self.rates = time.perf_counter(), [0.0]


def work(name: str) -> None:
    """The process of one contender."""
    import torch

    torch.manual_seed(0)
    turns, compiled = Turns(), name.endswith("compiled")
    if name == "matmul":
        matmul(turns)
    elif name.startswith("HF Trainer"):
        hf_trainer(compiled, turns)
    else:
        for _ in ours(compiled) if name.startswith("bloomery") else torch_loop(compiled):
            turns.step_done()


class Contender:
    """A worker process, seen from the outside."""

    def __init__(self, name: str) -> None:
        self.name, self.seconds, self.rates, self.peak_mb = name, [], [], 0.0
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started = time.perf_counter()
        self.answer()
        self.ready_s = time.perf_counter() - started

    def answer(self) -> dict[str, float]:
        """Waits for the worker's line; skips whatever a library prints."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"seconds"'):
                return json.loads(line)
        raise SystemExit(f"{self.name} died; run: {sys.executable} {__file__} --work {self.name!r}")

    def turn(self, steps: int) -> None:
        """Lets it do some steps and notes how long they took."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        told = self.answer()
        self.seconds.append(told["seconds"])
        self.rates.append(told["rate"])
        self.peak_mb = told["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps per turn")
    parser.add_argument("--only", nargs="*", help="contenders to run; all by default")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return

    from bloomery.models.llama import LlamaConfig

    flops = LlamaConfig(**SHAPE).flops_per_token(TIME)
    contenders = []
    for name in ("matmul", *(arguments.only or (*OURS, *PEERS))):
        contenders.append(Contender(name))
        print(f"{name}: ready after {contenders[-1].ready_s:.0f} s", flush=True)
    for round_ in range(arguments.rounds):
        turn = contenders[1:] if round_ % 2 == 0 else contenders[:0:-1]  # there and back, so that a drift of the machine favours nobody
        for contender in (contenders[0], *turn):
            contender.turn(2 if contender.name == "matmul" else arguments.steps)
        print(f"round {round_ + 1} of {arguments.rounds} done", flush=True)
    rate = statistics.median(contenders[0].rates)
    speeds = {c.name: BATCH * TIME / statistics.median(c.seconds) for c in contenders[1:]}
    best = max((speed for name, speed in speeds.items() if name in PEERS), default=None)
    best_memory = next((c.peak_mb for c in contenders if speeds.get(c.name) == best), None)
    print(f"\n{flops / 1e6:.1f} MFLOP per token; matrix products here: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':24}{'tokens/s':>9}{'spread':>8}{'× best peer':>13}{'peak MB':>9}{'× its peak':>12}{'of the rate':>13}")
    for c in contenders[1:]:
        spread = (max(c.seconds) - min(c.seconds)) / statistics.median(c.seconds)
        ratio = f"{speeds[c.name] / best:13.3f}" if best else " " * 13
        memory = f"{c.peak_mb / best_memory:12.2f}" if best_memory else " " * 12
        print(f"{c.name:24}{speeds[c.name]:9.0f}{spread:8.0%}{ratio}{c.peak_mb:9.0f}{memory}{speeds[c.name] * flops / rate:13.1%}")
    for c in contenders:
        c.process.kill()


if __name__ == "__main__":
    main()
