"""A step of LoRA on a CPU beside peft on transformers' Llama: tokens per second and peak memory, on the same weights and the same rows.

    python -m bench.lora_cpu [--shape small] [--rounds 5] [--steps 4] [--threads 2]

The sides take turns, each turn in a process of its own, so that a noisy minute falls on both and the peak of one is not the other's. Both
train the same matrices (all of attention and feed-forward) at the same rank with AdamW; before anything is timed, both say the same loss.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.turns import turns

from bloomery.core.units import human_bytes, human_count
from bloomery.data.batch import Batch
from bloomery.models import AdaptedConfig, LlamaConfig, save_hub
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import LoRA
from bloomery.objectives import CausalLM, Models
from bloomery.optim import AdamW

SIDES = ("ours", "peft")
ROWS, TIME, RANK, ALPHA = 4, 256, 8, 16
SHAPES = {
    "tiny": LlamaConfig(vocab_size=512, d_model=64, n_layers=2, n_heads=4, max_seq_len=TIME),
    "small": LlamaConfig(vocab_size=8192, d_model=384, n_layers=6, n_heads=6, max_seq_len=TIME),
    "medium": LlamaConfig(vocab_size=16384, d_model=768, n_layers=12, n_heads=12, max_seq_len=TIME),
}
RATE = 1e-4


def tokens_of(config: LlamaConfig, steps: int) -> torch.Tensor:
    """The rows of each step; the last token of each is a target only."""
    return torch.randint(0, config.vocab_size, (steps, ROWS, TIME + 1), generator=torch.Generator().manual_seed(3))


def ours(config: LlamaConfig, folder: Path) -> Callable[[torch.Tensor], float]:
    """A step of ours."""
    model = AdaptedConfig(base=config, adapter=LoRA(rank=RANK, alpha=ALPHA)).build(seed=0).train()
    optimizer, objective = AdamW(learning_rate=RATE).build(model), CausalLM()

    def step(tokens: torch.Tensor) -> float:
        batch = Batch(tokens[:, :-1], tokens[:, 1:], torch.ones(ROWS, TIME), SequenceLayout.rows(ROWS, TIME))
        optimizer.zero_grad()
        (loss,) = objective(Models(model), batch)
        (loss.total / loss.weight).backward()
        optimizer.step()
        return float(loss.total.detach()) / loss.weight

    return step


def theirs(config: LlamaConfig, folder: Path) -> Callable[[torch.Tensor], float]:
    """A step of peft's on the model of transformers, as its documentation trains one."""
    import peft
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
    matrices = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = peft.LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=matrices)
    model = peft.get_peft_model(model, adapter).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), fused=True)

    def step(tokens: torch.Tensor) -> float:
        optimizer.zero_grad()
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


class Peak(threading.Thread):
    """The most memory that this process has had resident beyond what it has now, looked at every two milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.began = self.most = resident()
        self._over = threading.Event()

    def run(self) -> None:
        """Looks until it is told to end."""
        while not self._over.wait(0.002):
            self.most = max(self.most, resident())

    def end(self) -> int:
        """Bytes."""
        self._over.set()
        self.join()
        return self.most - self.began


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def turn(side: str, shape: str, steps: int, threads: int, folder: Path) -> None:
    """One turn of a side: prints the seconds of a step, the peak beyond the program without a model, and the first loss."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    config = SHAPES[shape]
    rows = tokens_of(config, steps + 1)
    if side == "peft":
        import peft  # noqa: F401  its own size is no memory of training
        import transformers.models.llama.modeling_llama  # noqa: F401
    peak = Peak()
    peak.start()
    step = {"ours": ours, "peft": theirs}[side](config, folder)
    first = step(rows[0])
    seconds = []
    for tokens in rows[1:]:
        began = time.perf_counter()
        step(tokens)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": median(seconds), "peak_bytes": peak.end(), "loss": first}))


def main() -> None:
    """Runs the benchmark, or, with a side, one turn of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.side is not None:
        turn(asked.side, asked.shape, asked.steps, asked.threads, asked.folder)
        return
    config = SHAPES[asked.shape]
    adapted = AdaptedConfig(base=config, adapter=LoRA(rank=RANK, alpha=ALPHA))
    print(f"{human_count(config.n_params)} parameters, {human_count(adapted.n_params)} trained; {ROWS} rows of {TIME}; {asked.threads} threads")
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        save_hub(config.build(seed=0), config, Path(folder))
        arguments = ["--folder", folder, "--shape", asked.shape, "--steps", str(asked.steps), "--threads", str(asked.threads)]
        for side, last in turns("bench.lora_cpu", SIDES, asked.rounds, arguments):
            found[side].append(last)
            speed, peak = ROWS * TIME / last["seconds"], human_bytes(last["peak_bytes"])
            print(f"{side:5} {speed:9.0f} tokens/s  {peak:>10}  first loss {last['loss']:.6f}")
    losses = [one["loss"] for turns in found.values() for one in turns]
    assert max(losses) - min(losses) < 1e-4, "the sides do not train the same model"
    speed, memory = (
        median(b[what] / a[what] for a, b in zip(found["ours"], found["peft"], strict=True)) for what in ("seconds", "peak_bytes")
    )
    print(f"ours beside peft, medians of {asked.rounds} rounds: {speed:.2f} × the tokens per second, {1 / memory:.2f} × the peak memory")


if __name__ == "__main__":
    main()
