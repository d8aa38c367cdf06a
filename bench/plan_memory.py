"""Planned against measured memory: the most that the tensors of a training step take at a time.

    python -m bench.plan_memory [one-rank] [besides] [layouts] [aside] [unseen]

Measured is a real step of the real loop, every allocation and release of torch's CPU allocator counted in its order (by torch's profiler), on
top of weights, state and buffers that were there before; what waits in the host's memory lies where that allocator does not see it. Planned
is what `planning.memory` says before anything is allocated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any
from unittest import mock

import torch
from tests.mesh.ranks import on_ranks
from torch import Tensor
from torch._C._profiler import _EventType
from torch.autograd.profiler import profile

from bloomery.core.units import human_bytes
from bloomery.data import Batch, MaskedTokens, NextToken, RowTask
from bloomery.data.tasks import SpanCorruption
from bloomery.mesh import Layout, Mesh
from bloomery.mesh.held import numbers_here
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
    OlmoeConfig,
    Qwen3Config,
    T5Config,
)
from bloomery.nn import Mamba2Config
from bloomery.objectives import CausalLM, Distil, Frozen, Models, Objective
from bloomery.optim import AdamW, Average, Constant, Embeddings, Everything, LastLayers, Muon, OptimizerConfig, Trainable
from bloomery.planning.memory import memory
from bloomery.stages.anatomy import Planned, anatomy_of, example
from bloomery.stages.cost_curve import peak_bytes
from bloomery.stages.look_back import Nothing
from bloomery.train import Course, Healing, Manner, Precision, TrainState, train
from bloomery.train.beside import Beside
from bloomery.train.machine import activation_bytes
from bloomery.train.offload import Away, AwayOptimizer, Offloaded, offload_activations
from bloomery.train.recompute import Recompute, blocks_again, recompute
from bloomery.train.spreading import fresh, spread_model

NEXT_TOKEN, ADAMW, EVERYTHING, ONE_RANK, NOTHING_AGAIN, CAUSAL = NextToken(), AdamW(), Everything(), Layout(), Recompute(), CausalLM()
CHUNK_BYTES = 2 << 20  # of optimiser state on the device at a time: these models are small


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
    layout: Layout = ONE_RANK
    again: Recompute = NOTHING_AGAIN
    trainable: Trainable = EVERYTHING
    healing: Healing | None = None
    objective: Objective = CAUSAL
    offload: frozenset[Offloaded] = frozenset()


LLAMA = LlamaConfig(vocab_size=4096, d_model=256, n_layers=6, n_heads=4, max_seq_len=256)
SMALL = {"vocab_size": 2048, "d_model": 128, "n_layers": 3, "n_heads": 4, "max_seq_len": 256}
MAMBA = Mamba2ModelConfig(vocab_size=2048, d_model=128, n_layers=3, mamba=Mamba2Config(head_dim=32, d_state=32), max_seq_len=256)
CASES = {
    "llama, one micro-batch": Case(config=LLAMA, rows=4, micro_batch=4),
    "llama, four micro-batches": Case(config=LLAMA, rows=8, micro_batch=2),
    "llama, bf16": Case(config=LLAMA, rows=4, micro_batch=2, precision="bf16"),
    "llama, Muon, mostly weights": Case(config=LLAMA.replace(max_seq_len=64), rows=2, micro_batch=2, optimizer=Muon()),
    "llama, an average of weights": Case(config=LLAMA.replace(d_model=512, n_layers=2), rows=4, micro_batch=2, ema=0.99),
    "llama, updates that can be taken back": Case(config=LLAMA.replace(d_model=512, n_layers=2), rows=4, micro_batch=2, healing=Healing()),
    "llama, a large vocabulary, untied": Case(
        config=LLAMA.replace(vocab_size=32_768, d_model=192, n_layers=2, tie_embeddings=False), rows=4, micro_batch=4,
    ),
    "llama, long rows, grouped": Case(config=LLAMA.replace(n_kv_heads=2, n_layers=3, max_seq_len=1024), rows=2, micro_batch=1),
    "llama, all blocks recomputed": Case(config=LLAMA, rows=8, micro_batch=4, again=Recompute("full")),
    "llama, the last 2 of 6 layers": Case(config=LLAMA, rows=8, micro_batch=2, trainable=LastLayers(count=2)),
    "llama, frozen embeddings": Case(config=LLAMA.replace(n_layers=3), rows=4, micro_batch=2, trainable=Everything() - Embeddings()),
    "llama, all but products recomputed": Case(config=LLAMA, rows=8, micro_batch=4, again=Recompute("selective")),
    "llama, recomputed to stay within 100 MiB": Case(config=LLAMA, rows=8, micro_batch=4, again=Recompute("budget", 100 << 20)),
    "gpt2, all but products recomputed": Case(config=Gpt2Config(**SMALL), rows=8, micro_batch=4, again=Recompute("selective")),
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

EIGHT_ROWS = Case(config=LLAMA, rows=8, micro_batch=2)
LAYOUTS = {
    str(layout): replace(EIGHT_ROWS, layout=layout) for layout in (
        Layout(replicate=2), Layout(shard=2), Layout(shard=2, zero=2), Layout(shard=2, zero=1), Layout(tensor=2), Layout(context=2),
        Layout(pipeline=2), Layout(pipeline=2, schedule="gpipe"), Layout(pipeline=2, schedule="interleaved", stages=2),
        Layout(shard=2, tensor=2), Layout(shard=2, context=2), Layout(context=2, tensor=2), Layout(pipeline=2, shard=2),
        Layout(pipeline=2, tensor=2),
    )
} | {
    "shard=2, bf16": replace(EIGHT_ROWS, layout=Layout(shard=2), precision="bf16"),
    "shard=2, recomputed": replace(EIGHT_ROWS, layout=Layout(shard=2), again=Recompute("full")),
    "tensor=2, recomputed": replace(EIGHT_ROWS, layout=Layout(tensor=2), again=Recompute("full")),
    "shard=2, Muon": replace(EIGHT_ROWS, layout=Layout(shard=2), optimizer=Muon()),
    "shard=2, untied": replace(CASES["llama, a large vocabulary, untied"], micro_batch=2, layout=Layout(shard=2)),
    "shard=2,expert=2, mixtral": replace(CASES["mixtral"], layout=Layout(shard=2, expert=2)),
    "pipeline=2, bf16": replace(EIGHT_ROWS, layout=Layout(pipeline=2), precision="bf16"),
}  # fmt: skip

GROUPED = LlamaConfig(vocab_size=1024, d_model=192, n_layers=4, n_heads=6, n_kv_heads=2, max_seq_len=384)
NARROW = LlamaConfig(vocab_size=16_384, d_model=96, n_layers=10, n_heads=4, max_seq_len=128)
WIDE = LlamaConfig(vocab_size=6000, d_model=512, n_layers=3, n_heads=8, n_kv_heads=4, max_seq_len=128, tie_embeddings=False)
LONG = Qwen3Config(vocab_size=3000, d_model=160, n_layers=4, n_heads=4, n_kv_heads=4, max_seq_len=1024)
EXPERTS = OlmoeConfig(vocab_size=5000, d_model=160, n_layers=4, n_heads=4, d_ff=96, n_experts=8, n_active=2, max_seq_len=192)
ASIDE = {
    "shard=4, wide, grouped, untied": Case(config=WIDE, rows=8, micro_batch=2, layout=Layout(shard=4)),
    "replicate=2,shard=2,zero=1, wide, Muon": Case(
        config=WIDE, rows=8, micro_batch=2, layout=Layout(replicate=2, shard=2, zero=1), optimizer=Muon(),
    ),
    "shard=2,tensor=2, grouped": Case(config=GROUPED, rows=6, micro_batch=3, layout=Layout(shard=2, tensor=2)),
    "tensor=4, narrow and deep": Case(config=NARROW, rows=4, micro_batch=2, layout=Layout(tensor=4)),
    "context=4, long rows": Case(config=LONG, rows=2, micro_batch=1, layout=Layout(context=4)),
    "context=2, long rows, bf16": Case(config=LONG, rows=2, micro_batch=2, layout=Layout(context=2), precision="bf16"),
    "pipeline=4, narrow and deep": Case(config=NARROW, rows=12, micro_batch=1, layout=Layout(pipeline=4)),
    "pipeline=2,shard=2, narrow and deep": Case(config=NARROW, rows=16, micro_batch=2, layout=Layout(pipeline=2, shard=2)),
    "pipeline=2,context=2,interleaved, grouped": Case(
        config=GROUPED, rows=6, micro_batch=1, layout=Layout(pipeline=2, context=2, schedule="interleaved", stages=2),
    ),
    "pipeline=2,tensor=2,gpipe, long rows": Case(
        config=LONG, rows=4, micro_batch=1, layout=Layout(pipeline=2, tensor=2, schedule="gpipe"),
    ),
    "shard=2,expert=2, olmoe": Case(config=EXPERTS, rows=8, micro_batch=2, layout=Layout(shard=2, expert=2)),
    "replicate=2,shard=2,expert=2, olmoe, bf16": Case(
        config=EXPERTS, rows=8, micro_batch=1, layout=Layout(replicate=2, shard=2, expert=2), precision="bf16",
    ),
    "shard=2,context=2, gpt2, an average": Case(
        config=Gpt2Config(vocab_size=7000, d_model=144, n_layers=5, n_heads=6, max_seq_len=320), rows=4, micro_batch=2,
        layout=Layout(shard=2, context=2), ema=0.99,
    ),
    "tensor=2, qwen3, recomputed": Case(config=LONG, rows=3, micro_batch=1, layout=Layout(tensor=2), again=Recompute("full")),
}
"""Other shapes and products than those by which `planning.memory` had its allowances first; three terms were found by them."""  # fmt: skip

MANY_TOKENS = LlamaConfig(vocab_size=24_000, d_model=128, n_layers=6, n_heads=4, max_seq_len=128)
GEMMA = Gemma2Config(vocab_size=5000, d_model=192, n_layers=4, n_heads=4, n_kv_heads=2, d_ff=512, windows=(64, None), max_seq_len=256)
UNSEEN = {
    "tensor=2, gemma2, windows": Case(config=GEMMA, rows=4, micro_batch=2, layout=Layout(tensor=2)),
    "shard=2,tensor=2, many tokens, bf16": Case(config=MANY_TOKENS, rows=8, micro_batch=2, layout=Layout(shard=2, tensor=2), precision="bf16"),
    "context=2,tensor=2, wide": Case(config=WIDE, rows=6, micro_batch=3, layout=Layout(context=2, tensor=2)),
    "pipeline=2,tensor=2, many tokens": Case(config=MANY_TOKENS, rows=6, micro_batch=1, layout=Layout(pipeline=2, tensor=2)),
    "shard=3, gpt2": Case(config=Gpt2Config(**SMALL | {"d_model": 180, "n_layers": 5}), rows=9, micro_batch=3, layout=Layout(shard=3)),
    "pipeline=3, gemma2, windows": Case(config=GEMMA.replace(n_layers=6), rows=8, micro_batch=1, layout=Layout(pipeline=3)),
    "replicate=2,context=2, mixtral": Case(
        config=MixtralConfig(**SMALL, d_ff=192, n_experts=6, n_active=2), rows=4, micro_batch=1, layout=Layout(replicate=2, context=2),
    ),
    "tensor=2, grouped, all but products recomputed": Case(
        config=GROUPED, rows=4, micro_batch=2, layout=Layout(tensor=2), again=Recompute("selective"),
    ),
}
"""Written down when the terms were as they are now, and measured once."""  # fmt: skip


class Known(Frozen):
    """A model of known sizes that a loss asks."""

    config: ModelConfig

    @property
    def architecture(self) -> ModelConfig:
        return self.config


TEACHER = Known(config=LLAMA.replace(d_model=384, n_layers=4, n_heads=6))
BESIDES = {
    "llama, with a teacher": Case(config=LLAMA, rows=4, micro_batch=2, objective=0.5 * CAUSAL + 0.5 * Distil(teacher=TEACHER)),
    "llama, the last 2 layers, with a teacher": Case(
        config=LLAMA, rows=4, micro_batch=2, objective=Distil(teacher=TEACHER), trainable=LastLayers(count=2),
    ),
    "shard=2, with a teacher": Case(
        config=LLAMA, rows=8, micro_batch=2, objective=0.5 * CAUSAL + 0.5 * Distil(teacher=TEACHER), layout=Layout(shard=2),
    ),
    "replicate=2, with a teacher": Case(
        config=LLAMA, rows=8, micro_batch=2, objective=Distil(teacher=TEACHER), layout=Layout(replicate=2),
    ),
    "shard=2, the last 2 of 6 layers": Case(config=LLAMA, rows=8, micro_batch=2, layout=Layout(shard=2), trainable=LastLayers(count=2)),
    "llama, activations in the host's memory": Case(config=LLAMA, rows=8, micro_batch=4, offload=frozenset({"activations"})),
    "gpt2, activations in the host's memory": Case(config=Gpt2Config(**SMALL), rows=8, micro_batch=8, offload=frozenset({"activations"})),
    "llama, the optimiser in the host's memory": Case(
        config=LLAMA.replace(max_seq_len=64), rows=2, micro_batch=2, offload=frozenset({"optimizer"}), healing=Healing(),
    ),
    "llama, Muon in the host's memory": Case(
        config=LLAMA.replace(max_seq_len=64), rows=2, micro_batch=2, offload=frozenset({"optimizer"}), optimizer=Muon(),
    ),
    "llama, both in the host's memory": Case(
        config=LLAMA, rows=4, micro_batch=4, offload=frozenset({"activations", "optimizer"}), ema=0.99,
    ),
    "llama, all recomputed, what blocks read in the host's memory": Case(
        config=LLAMA, rows=8, micro_batch=4, again=Recompute("full"), offload=frozenset({"activations"}),
    ),
    "llama, all but products recomputed, likewise": Case(
        config=LLAMA, rows=8, micro_batch=4, again=Recompute("selective"), offload=frozenset({"activations"}),
    ),
    "shard=2, activations in the host's memory": Case(
        config=LLAMA, rows=16, micro_batch=4, offload=frozenset({"activations"}), layout=Layout(shard=2),
    ),
    "shard=2, zero=1, both in the host's memory": Case(
        config=WIDE.replace(n_layers=4), rows=16, micro_batch=4, offload=frozenset({"activations", "optimizer"}),
        layout=Layout(shard=2, zero=1),
    ),
    "shard=2, all recomputed, what blocks read in the host's memory": Case(
        config=LLAMA, rows=16, micro_batch=4, again=Recompute("full"), offload=frozenset({"activations"}), layout=Layout(shard=2),
    ),
    "tensor=2, activations in the host's memory": Case(
        config=LLAMA, rows=8, micro_batch=8, offload=frozenset({"activations"}), layout=Layout(tensor=2),
    ),
    "context=2, activations in the host's memory": Case(
        config=LLAMA, rows=8, micro_batch=8, offload=frozenset({"activations"}), layout=Layout(context=2),
    ),
    "pipeline=2, activations in the host's memory": Case(
        config=LLAMA, rows=16, micro_batch=4, offload=frozenset({"activations"}), layout=Layout(pipeline=2),
    ),
    "shard=2, the optimiser in the host's memory": Case(
        config=LLAMA.replace(max_seq_len=64), rows=4, micro_batch=2, offload=frozenset({"optimizer"}), layout=Layout(shard=2),
    ),
}
"""Beside what is trained: models that are asked, what is not trained, and what waits in the host's memory."""  # fmt: skip


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

    def turns(self, first_row: int, rows: int) -> bool:
        return False

    def figures(self, first_row: int, rows: int) -> dict[str, float]:
        return {}


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of their storages, each once."""
    return sum({id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}.values())


def unseen(tensor: Tensor) -> Tensor:
    """A copy that torch's allocator knows nothing of."""
    return torch.from_numpy(tensor.detach().numpy().copy())


class Aside(Away):
    """The host's memory beside a device that is itself the host."""

    def send(self, tensor: Tensor) -> Tensor:
        return unseen(tensor)

    def fetch(self, host: Tensor, device: torch.device) -> Tensor:
        return host.clone()


def move(part: torch.optim.Optimizer, parameters: Iterable[Tensor], where: str | None) -> None:
    """The same for what an optimiser keeps."""
    for parameter in parameters:
        slots: dict[str, Any] = part.state.get(parameter, {})
        slots |= {name: (unseen if where else torch.clone)(value) for name, value in slots.items() if value.dim()}


def measured(case: Case) -> list[int]:
    """The most bytes that each rank's tensors take at a time in the second step, when the optimiser has its state."""
    return [measure(case)] if case.layout.world == 1 else on_ranks(case.layout.world, measure, case)


def measure(case: Case) -> int:
    """The same on this rank."""
    with ExitStack() as changes:
        changes.enter_context(mock.patch("bloomery.train.offload._move", move))
        changes.enter_context(mock.patch("bloomery.train.offload.CHUNK_BYTES", CHUNK_BYTES))
        return _measure(case)


def _measure(case: Case) -> int:
    mesh = Mesh.join(case.layout)
    parts = spread_model(case.config, mesh, fresh(case.config, seed=0), case.trainable)
    model, local = parts.model, {name: held.local for name, held in parts.holding.parameters.items()}
    average = None if case.ema is None else Average(local, case.ema)
    others = {one.address: spread_model(one.architecture, mesh, fresh(one.architecture, seed=1), Nothing()).model.eval()
              for one in case.objective.frozen() if one.architecture is not None}  # fmt: skip
    asked = bytes_of(held for other in others.values() for held in map(numbers_here, other.parameters()))
    optimizer = case.optimizer.of(parts.members)
    optimizer = AwayOptimizer(optimizer) if "optimizer" in case.offload else optimizer
    state = TrainState(model, optimizer, average, holding=parts.holding, beside=Beside(frozen=others))
    row = Rows(case).batch(0, 1)
    recompute(model, case.again, lambda: case.micro_batch * activation_bytes(CausalLM(), Models(model), row))
    if "activations" in case.offload:
        offload_activations(model, Aside("cpu"))
    course = Course(objective=case.objective, schedule=Constant(), steps=2, rows=case.rows, precision=case.precision, healing=case.healing)
    steps = train(state, Rows(case), course, Manner(micro_batch=case.micro_batch))  # type: ignore[arg-type]
    next(steps)
    state.holding.forget_gradients()  # the profiler does not see the release of what was there before it
    kept = [] if average is None else list(average.values.values())
    guarded = 0 if case.healing is None else bytes_of(local.values())
    there = [] if "optimizer" in case.offload else list(state.optimizer.state().values())
    before = bytes_of([*local.values(), *model.buffers(), *there, *kept]) + guarded + asked
    if mesh.alone:
        return before + peak_bytes({"step": lambda: next(steps)}, torch.device("cpu"))["step"]
    return before + most_bytes(lambda: next(steps), lambda: [*state.optimizer.gradients, *state.optimizer.state().values()])


def most_bytes(step: Callable[[], object], left: Callable[[], Iterable[Tensor]]) -> int:
    """The most bytes that a step on one of several ranks has allocated at a time, beyond what was there before it.

    What gloo copies in order to send it, its own threads let go of, and the profiler does not see that. An allocation that is never seen to go
    is taken for one of those, which are there for as long as an exchange, and left out.

    Args:
        step: does it.
        left: tensors that are there afterwards.
    """
    with profile(profile_memory=True) as profiled:
        step()
    there = {tensor.untyped_storage().data_ptr() for tensor in left()}
    events, nodes = [], list(profiled.kineto_results.experimental_event_tree())
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.tag == _EventType.Allocation:
            events.append((node.start_time_ns, node.extra_fields.alloc_size, node.extra_fields.ptr))
    came: dict[int, tuple[int, int]] = {}
    changes = []
    for at, change, place in sorted(events):
        if change > 0:
            came[place] = at, change
        elif place in came:
            changes += [came.pop(place), (at, change)]
    changes += [one for place, one in came.items() if place in there]
    return max(accumulate(change for _, change in sorted(changes)))


def planned(case: Case) -> list[float]:
    """The same, foretold, of the ranks of each place in the pipeline."""
    training = Planned(
        config=case.config, time=case.config.max_seq_len, task=case.task, optimizer=case.optimizer, precision=case.precision, decay=case.ema,
        guarded=case.healing is not None, trainable=case.trainable, objective=case.objective, offload=case.offload,
    )  # fmt: skip
    with mock.patch("bloomery.train.offload.CHUNK_BYTES", CHUNK_BYTES):
        anatomy = anatomy_of(training, case.micro_batch, training.keeps(case.again))
    return [rank.total for rank in memory(anatomy, case.layout, case.rows, blocks_again(anatomy, case.layout, case.again))]


def error(case: Case) -> tuple[float, float, float]:
    """Measured and planned bytes of the ranks that have most to hold, and how far the plan is off at the place where it is off most."""
    there, told = measured(case), planned(case)
    each = len(there) // len(told)
    there = [max(there[place * each : (place + 1) * each]) for place in range(len(told))]
    return max(there), max(told), max((t / m - 1 for m, t in zip(there, told, strict=True)), key=abs)


KINDS = {"one-rank": CASES, "besides": BESIDES, "layouts": LAYOUTS, "aside": ASIDE, "unseen": UNSEEN}


def main() -> None:
    """Prints a line per case."""
    worst = 0.0
    chosen = {name: case for kind in sys.argv[1:] or KINDS for name, case in KINDS[kind].items()}
    for name, case in chosen.items():
        there, told, off = error(case)
        worst = max(worst, abs(off))
        print(f"{name:42} measured {human_bytes(there):>9}  planned {human_bytes(told):>9}  {off:+.2%}", flush=True)
    print(f"{len(chosen)} cases; the largest error is {worst:.2%}")


if __name__ == "__main__":
    main()
