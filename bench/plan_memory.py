"""Planned against measured memory: the most that the tensors of a training step take at a time.

    python -m bench.plan_memory

Measured is a real step of the real loop, every allocation and release of torch's CPU allocator counted in its order (by torch's profiler), on
top of weights, state and buffers that were there before. Planned is what `planning.memory` says before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bloomery.core.units import human_bytes
from bloomery.data import Batch, MaskedTokens, NextToken, RowTask
from bloomery.data.tasks import SpanCorruption
from bloomery.mesh import Layout
from bloomery.models import (
    AlbertConfig,
    BertConfig,
    DebertaConfig,
    Gemma2Config,
    Gpt2Config,
    LlamaConfig,
    Mamba2ModelConfig,
    MixtralConfig,
    ModelConfig,
    Qwen3Config,
    T5Config,
)
from bloomery.nn import Mamba2Config
from bloomery.objectives import CausalLM
from bloomery.optim import AdamW, Average, Constant, Muon, OptimizerConfig
from bloomery.planning.memory import memory
from bloomery.stages.anatomy import anatomy_of, example
from bloomery.stages.cost_curve import peak_bytes
from bloomery.train import Course, Manner, Precision, TrainState, train

NEXT_TOKEN, ADAMW = NextToken(), AdamW()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training whose memory is planned and measured."""

    config: ModelConfig
    rows: int
    micro_batch: int
    task: RowTask = NEXT_TOKEN
    optimizer: OptimizerConfig = ADAMW
    precision: Precision = "fp32"
    ema: float | None = None


LLAMA = LlamaConfig(vocab_size=4096, d_model=256, n_layers=6, n_heads=4, max_seq_len=256)
SMALL = {"vocab_size": 2048, "d_model": 128, "n_layers": 3, "n_heads": 4, "max_seq_len": 256}
MAMBA = Mamba2ModelConfig(vocab_size=2048, d_model=128, n_layers=3, mamba=Mamba2Config(head_dim=32, d_state=32), max_seq_len=256)
CASES = {
    "llama, one micro-batch": Case(config=LLAMA, rows=4, micro_batch=4),
    "llama, four micro-batches": Case(config=LLAMA, rows=8, micro_batch=2),
    "llama, bf16": Case(config=LLAMA, rows=4, micro_batch=2, precision="bf16"),
    "llama, Muon, mostly weights": Case(config=LLAMA.replace(max_seq_len=64), rows=2, micro_batch=2, optimizer=Muon()),
    "llama, an average of weights": Case(config=LLAMA.replace(d_model=512, n_layers=2), rows=4, micro_batch=2, ema=0.99),
    "llama, a large vocabulary, untied": Case(
        config=LLAMA.replace(vocab_size=32_768, d_model=192, n_layers=2, tie_embeddings=False), rows=4, micro_batch=4,
    ),
    "llama, long rows, grouped": Case(config=LLAMA.replace(n_kv_heads=2, n_layers=3, max_seq_len=1024), rows=2, micro_batch=1),
    "gpt2": Case(config=Gpt2Config(**SMALL), rows=8, micro_batch=4),
    "qwen3, bf16, Muon": Case(config=Qwen3Config(**SMALL), rows=4, micro_batch=4, precision="bf16", optimizer=Muon()),
    "gemma2, windows": Case(config=Gemma2Config(**SMALL, d_ff=256, windows=(32, None)), rows=4, micro_batch=2),
    "mixtral": Case(config=MixtralConfig(**SMALL, d_ff=256, n_experts=4, n_active=2), rows=8, micro_batch=4),
    "mamba2": Case(config=MAMBA, rows=8, micro_batch=4),
    "bert": Case(config=BertConfig(**SMALL), task=MaskedTokens(), rows=8, micro_batch=4),
    "albert, six times one layer": Case(
        config=AlbertConfig(**SMALL | {"n_layers": 6, "d_embedding": 64}), task=MaskedTokens(), rows=8, micro_batch=4,
    ),
    "deberta": Case(config=DebertaConfig(**SMALL, n_buckets=32), task=MaskedTokens(), rows=4, micro_batch=2),
    "t5": Case(config=T5Config(**SMALL), task=SpanCorruption(), rows=4, micro_batch=2),
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Random tokens in rows of a case's shape."""

    case: Case

    @property
    def time(self) -> int:
        return self.case.config.max_seq_len

    def batch(self, first_row: int, rows: int) -> Batch:
        batch = example(self.case.config, self.case.task, rows, self.time)
        generator = torch.Generator().manual_seed(first_row)
        return replace(batch, tokens=torch.randint(0, self.case.config.vocab_size, batch.tokens.shape, generator=generator))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of their storages, each once."""
    return sum({id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}.values())


def measured(case: Case) -> int:
    """The most bytes that tensors take at a time in the second step, when the optimiser has its state."""
    model = case.config.build(seed=0)
    average = None if case.ema is None else Average(dict(model.named_parameters()), case.ema)
    state = TrainState(model, case.optimizer.build(model), average)
    course = Course(objective=CausalLM(), schedule=Constant(), steps=2, rows=case.rows, precision=case.precision)
    steps = train(state, Rows(case), course, Manner(micro_batch=case.micro_batch))  # type: ignore[arg-type]
    next(steps)
    state.optimizer.zero_grad()  # the profiler does not see the release of what was there before it
    kept = [] if average is None else list(average.values.values())
    before = bytes_of([*model.parameters(), *model.buffers(), *state.optimizer.state().values(), *kept])
    return before + peak_bytes({"step": lambda: next(steps)}, torch.device("cpu"))["step"]


def planned(case: Case) -> float:
    """The same, foretold."""
    anatomy = anatomy_of(
        case.config, rows=case.micro_batch, time=case.config.max_seq_len, task=case.task, optimizer=case.optimizer, precision=case.precision,
        averaged=case.ema is not None,
    )
    return memory(anatomy, Layout(), case.rows)[0].total


def main() -> None:
    """Prints a line per case."""
    worst = 0.0
    for name, case in CASES.items():
        there, told = measured(case), planned(case)
        worst = max(worst, abs(told / there - 1))
        print(f"{name:36} measured {human_bytes(there):>9}  planned {human_bytes(told):>9}  {told / there - 1:+.2%}", flush=True)
    print(f"{len(CASES)} cases; the largest error is {worst:.2%}")


if __name__ == "__main__":
    main()
