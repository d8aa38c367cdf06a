"""Training speed, utilisation and peak memory on GPUs beside transformers' Trainer: bf16, compiled, rows of 2,048 tokens, in one run.

    python bench/train_gpu.py [--shapes 124m 1b] [--rounds 3] [--steps 10] [--record FILE]
    python bench/train_gpu.py --layout replicate=4           # the same on four GPUs: ours on this layout, theirs data-parallel
    python bench/train_gpu.py --smoke                        # tiny, eager and on the CPU: only shows that the script works

Both train the same shape (a Llama) with fused AdamW under bf16 autocast on fp32 weights, on the same random tokens; nothing is downloaded. Each
turn is a process of its own, so that each has the whole card; the turns alternate, and the medians over the rounds are printed. The micro-batch
of each is the largest power of two that fits, found by halving. Utilisation is operations per token (`flops_per_token`: matrix products and
causal attention, forward and backward, nothing recomputed) times tokens per second, over the card's published dense bf16 rate. The aim is 50 %
on a Hopper card.

Without a GPU it says so, measures nothing, and ends well. torch and transformers of any stock CUDA image will do, with PYTHONPATH=src.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

POOL_ROWS = 64  # random rows, over and over
LR = 3e-4
OURS, OURS_8, THEIRS = "bloomery", "bloomery fp8", "HF Trainer"
OUT_OF_MEMORY = 3  # exit code of a worker
SHEETS = 'NVIDIA data sheets; halved where they say "with sparsity"'
DENSE_BF16_TFLOPS = {
    "H200 NVL": 835.5, "H200": 989.5, "H100 NVL": 835.5, "H100 PCIe": 756.5, "H100": 989.5, "GH200": 989.5, "B200": 2250.0,
    "A100": 312.0, "A800": 312.0, "A30": 165.0, "A10G": 70.0, "A10": 125.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0, "RTX 4090": 165.2,
}  # fmt: skip
"""What a card's name has in it → its rate; the first that fits counts. A Hopper card without PCIe or NVL in its name is an SXM one.
Source: `SHEETS`."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama and how it is trained.

    Attributes:
        sizes: of the model, in our words.
        time: tokens in a row.
        rows: in a step, of each rank that reads rows of its own.
    """

    sizes: dict[str, Any]
    rows: int
    time: int = 2048

    @property
    def config(self) -> Any:
        """Our config of it."""
        from bloomery.models.llama import LlamaConfig

        return LlamaConfig(**self.sizes, max_seq_len=self.time)


SHAPES = {
    "124m": Shape(sizes={"vocab_size": 50_304, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 2048}, rows=64),
    "1b": Shape(sizes={"vocab_size": 50_304, "d_model": 2048, "n_layers": 18, "n_heads": 16, "d_ff": 5504}, rows=32),
    "tiny": Shape(sizes={"vocab_size": 512, "d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 128}, rows=4, time=64),
}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a worker is to do: `warm_up` steps, then `steps` of them by the clock."""

    contender: str
    shape: str
    micro_batch: int
    steps: int
    warm_up: int
    device: str = "cuda"
    compiled: bool = True
    layout: str = ""


@dataclass(kw_only=True)
class Clock:
    """Times the steps after the warm-up, from one waiting for the device to another."""

    turn: Turn
    done: int = 0
    started: float = 0.0
    seconds: float = 0.0

    def step_done(self) -> None:
        """To be called after each step."""
        import torch

        self.done += 1
        if self.done in (self.turn.warm_up, self.turn.warm_up + self.turn.steps):
            if self.turn.device == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.started, self.seconds = now, (now - self.started) / self.turn.steps


@cache
def pool(shape: str) -> Any:
    """(rows, time + 1) random tokens, the same for everybody."""
    import torch

    size = (POOL_ROWS, SHAPES[shape].time + 1)
    return torch.randint(0, SHAPES[shape].sizes["vocab_size"], size, generator=torch.Generator().manual_seed(0))


def ours(turn: Turn, clock: Clock) -> None:
    """Our own training loop on the ranks of a layout, as `Train` runs it."""
    import torch

    from bloomery.data.batch import Batch
    from bloomery.mesh import Layout, Mesh
    from bloomery.nn.layout import SequenceLayout
    from bloomery.objectives import CausalLM
    from bloomery.optim import AdamW, Constant
    from bloomery.train import Course, Manner, TrainState, train
    from bloomery.train.spreading import fresh, spread_model

    shape, layout = SHAPES[turn.shape], Layout.parse(turn.layout)

    class RandomRows:
        """Rows of the pool, each a document."""

        time, vocab_size = shape.time, shape.sizes["vocab_size"]

        def figures(self, first_row: int, rows: int) -> dict[str, float]:
            return {}

        def batch(self, first_row: int, rows: int) -> Batch:
            tokens = pool(turn.shape)[torch.arange(first_row, first_row + rows) % POOL_ROWS]
            weight = torch.ones(rows, self.time)
            return Batch(
                tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), weight, SequenceLayout.rows(rows, self.time), first_row,
            )

    mesh = Mesh.join(layout, turn.device)
    spread = spread_model(shape.config, mesh, fresh(shape.config, seed=0))
    state = TrainState(spread.model, AdamW(learning_rate=LR).of(spread.members), holding=spread.holding)
    course = Course(
        objective=CausalLM(), schedule=Constant(), steps=turn.warm_up + turn.steps, rows=shape.rows * layout.readers,
        precision="fp8" if turn.contender == OURS_8 else "bf16",
    )
    manner = Manner(micro_batch=turn.micro_batch, compiled=turn.compiled, device=mesh.device)
    for _ in train(state, RandomRows(), course, manner):  # type: ignore[arg-type]
        clock.step_done()



def theirs(turn: Turn, clock: Clock) -> None:
    """Hugging Face Trainer on transformers' Llama; under a launcher it is data-parallel by itself."""
    import tempfile

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    shape = SHAPES[turn.shape]
    sizes = shape.sizes

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**7

        def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
            tokens = pool(turn.shape)[i % POOL_ROWS, :-1]
            return {"input_ids": tokens, "labels": tokens}

    class Timed(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            clock.step_done()

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=sizes["vocab_size"], hidden_size=sizes["d_model"], intermediate_size=sizes["d_ff"], num_hidden_layers=sizes["n_layers"],
        num_attention_heads=sizes["n_heads"], num_key_value_heads=sizes["n_heads"], max_position_embeddings=shape.time,
        tie_word_embeddings=True, use_cache=False, attn_implementation="sdpa",
    ))  # fmt: skip
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=turn.micro_batch, gradient_accumulation_steps=shape.rows // turn.micro_batch,
        max_steps=turn.warm_up + turn.steps, learning_rate=LR, weight_decay=0.1, max_grad_norm=1.0, optim="adamw_torch_fused",
        lr_scheduler_type="constant", logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True, bf16=True,
        use_cpu=turn.device == "cpu", torch_compile=turn.compiled, dataloader_num_workers=0, seed=0,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Timed()]).train()


def measure(turn: Turn) -> dict[str, float]:
    """Seconds per step, and the most bytes that tensors took on this rank's device."""
    import torch

    clock = Clock(turn=turn)
    (theirs if turn.contender == THEIRS else ours)(turn, clock)
    if turn.device == "cuda":
        return {"seconds": clock.seconds, "peak_bytes": torch.cuda.max_memory_allocated()}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"seconds": clock.seconds, "peak_bytes": int(status["VmHWM"].split()[0]) * 1024}


def work(turn: Turn) -> None:
    """The process of one turn."""
    import torch

    try:
        measured = measure(turn)
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(measured), flush=True)


def take(turn: Turn, world: int) -> dict[str, float] | None:
    """Lets a turn be taken; None where the memory does not suffice."""
    launcher = [] if world == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [sys.executable, *launcher, __file__, "--work", json.dumps(asdict(turn))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == OUT_OF_MEMORY or (run.returncode and f"exitcode  : {OUT_OF_MEMORY}" in run.stderr):
        return None
    if run.returncode:
        sys.exit(f"{run.stderr[-4000:]}\n{turn.contender} died at {turn}")
    return json.loads(next(line for line in run.stdout.splitlines() if line.startswith('{"seconds"')))


def compare(turns: list[Turn], rounds: int, world: int) -> dict[str, dict[str, Any]]:
    """The contenders' turns on one shape: by name, the medians and what they were taken over."""
    found: dict[str, list[dict[str, float]]] = {turn.contender: [] for turn in turns}
    for round_ in range(rounds):
        for i in range(len(turns))[:: 1 if round_ % 2 == 0 else -1]:  # there and back, so that a drift of the machine favours nobody
            while (measured := take(turns[i], world)) is None:
                if turns[i].micro_batch == 1:
                    sys.exit(f"{turns[i].contender}: not even one row of {turns[i].shape} fits; take a smaller shape")
                turns[i] = Turn(**asdict(turns[i]) | {"micro_batch": turns[i].micro_batch // 2})
            found[turns[i].contender].append(measured)
            print(f"round {round_ + 1}, {turns[i].contender}, {turns[i].shape}: {measured['seconds']:.3f} s per step of micro-batches of "
                  f"{turns[i].micro_batch}", flush=True)  # fmt: skip
    return {turn.contender: {
        "micro_batch": turn.micro_batch, "seconds": statistics.median(one["seconds"] for one in found[turn.contender]),
        "peak_bytes": max(one["peak_bytes"] for one in found[turn.contender]), "turns": found[turn.contender],
    } for turn in turns}  # fmt: skip


def dense_bf16_rate(name: str) -> float | None:
    """Published operations per second of a card's dense bf16 matrix products; None for cards that are not in the list."""
    return next((tflops * 1e12 for part, tflops in DENSE_BF16_TFLOPS.items() if part in name), None)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=["124m", "1b"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="by the clock, per turn")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before, in which it is compiled")
    parser.add_argument("--micro-batch", type=int, default=32, help="rows to begin with, a power of two; halved until they fit")
    parser.add_argument("--layout", default="", help="AXIS=RANKS,… of our run on several GPUs, as in `bloomery run --layout`")
    parser.add_argument("--peak-tflops", type=float, help="the card's dense bf16 rate, where the list does not have it")
    parser.add_argument("--fp8", action="store_true", help="ours in 8 bits, too; its utilisation is told of the bf16 rate")
    parser.add_argument("--record", type=Path, help="where to write what was measured, as JSON")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, eager, on the CPU; its figures say nothing")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Turn(**json.loads(options.work)))
        return
    if not (options.smoke or torch.cuda.is_available()):
        print("There is no GPU here: nothing was measured, and nothing is claimed.")
        return

    from bloomery.mesh import Layout

    layout = Layout.parse(options.layout)
    how: dict[str, Any] = {"steps": options.steps, "warm_up": options.warm_up, "layout": options.layout}
    if options.smoke:
        how |= {"steps": 2, "warm_up": 1, "device": "cpu", "compiled": False}
        options.shapes, options.rounds = ["tiny"], 1
    contenders = [OURS, *([OURS_8] if options.fp8 else []), *([THEIRS] if importlib.util.find_spec("accelerate") else [])]
    if THEIRS not in contenders:
        print("HF Trainer is left out: accelerate, which it asks for, is not installed")
    card = "CPU" if options.smoke else torch.cuda.get_device_name()
    peak = options.peak_tflops * 1e12 if options.peak_tflops else dense_bf16_rate(card)
    of = "whose dense bf16 rate is not in the list" if peak is None else f"{peak / 1e12:.1f} dense bf16 TFLOP/s ({SHEETS})"
    hardware = {
        "card": card, "ranks": layout.world, "memory_bytes": 0 if options.smoke else torch.cuda.get_device_properties(0).total_memory,
        "torch": torch.__version__, "cuda": torch.version.cuda, "peak_flops": peak,
    }  # fmt: skip
    print(f"{layout.world} × {card}, {of}; torch {torch.__version__}, CUDA {torch.version.cuda}")
    record: dict[str, Any] = {"hardware": hardware, "how": how, "shapes": {}}
    lines = [f"{'':24}{'tokens/s':>11}{'× HF':>8}{'MFU':>8}{'peak GB':>9}{'× its peak':>12}{'micro-batch':>13}"]
    for name in options.shapes:
        shape = SHAPES[name]
        first = min(options.micro_batch, shape.rows)
        turns = [Turn(contender=contender, shape=name, micro_batch=first, **how) for contender in contenders]
        measured = compare(turns, options.rounds, layout.world)
        tokens = {c: shape.rows * shape.time * (layout.world if c == THEIRS else layout.readers) for c in contenders}
        flops, peer = shape.config.flops_per_token(shape.time), measured.get(THEIRS)
        for contender, figures in measured.items():
            speed = figures["tokens_per_s"] = tokens[contender] / figures["seconds"]
            figures["mfu"] = None if peak is None else speed * flops / (peak * layout.world)
            ratio = f"{speed * peer['seconds'] / tokens[THEIRS]:8.3f}" if peer else " " * 8
            memory = f"{figures['peak_bytes'] / peer['peak_bytes']:12.2f}" if peer else " " * 12
            share = " " * 8 if figures["mfu"] is None else f"{figures['mfu']:8.1%}"
            lines.append(f"{f'{name}, {contender}':24}{speed:11.0f}{ratio}{share}{figures['peak_bytes'] / 1e9:9.2f}{memory}"
                         f"{figures['micro_batch']:13}")  # fmt: skip
        record["shapes"][name] = {"parameters": shape.config.n_params, "flops_per_token": flops, "contenders": measured}
        lines.append(f"  {shape.config.n_params / 1e6:.0f} M parameters, {flops / 1e9:.3f} GFLOP per token, {shape.rows} rows of {shape.time} "
                     "tokens per step and reader")  # fmt: skip
        if options.record:
            options.record.write_text(json.dumps(record, indent=1) + "\n")
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
