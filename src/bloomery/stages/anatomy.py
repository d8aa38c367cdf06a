"""From a training as it is configured to what a planner knows of it: one step of it, on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from math import inf, lcm
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from bloomery.core.errors import ConfigError
from bloomery.data import Batch, NextToken, RowTask
from bloomery.data.batch import Labels, Samples
from bloomery.mesh import ALONE, Holding
from bloomery.models import AdaptedConfig, Model, ModelConfig, TransformerConfig
from bloomery.models.transformer import NamedConfig
from bloomery.nn.adapters import shells
from bloomery.nn.adapters.prompts import there_already
from bloomery.nn.cross_entropy import chunks_of
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.objectives import CausalLM, Frozen, Models, Objective
from bloomery.optim import AdamW, Average, Everything, OptimizerConfig, Trainable
from bloomery.optim.graded import Stepper
from bloomery.planning.anatomy import Anatomy, Keeps, Turn, dissect
from bloomery.planning.trace import Stretch, trace, without_memory
from bloomery.train import Precision, offload
from bloomery.train.guard import Guard
from bloomery.train.manner import autocast
from bloomery.train.offload import Away, Offloaded, check_together, offload_activations
from bloomery.train.recompute import Recompute, recompute

PLANS = 256
"""Trainings whose anatomy is remembered: the seeds, phases and members of a recipe are alike, and each takes a second."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A training, as far as its memory and its speed go.

    Attributes:
        config: of the model.
        time: places in a row.
        objective: the loss.
        optimizer: what takes the steps.
        task: what is to be learnt from rows.
        precision: of matrix products.
        decay: of the moving average of the weights; None where none is kept.
        guarded: whether updates can be taken back, for which a copy of the weights is kept.
        trainable: what of the model is trained.
        device: whose habits it has, as torch calls it: losses work in larger chunks on a GPU.
        offload: what waits in the host's memory while the device does not need it.
        before: the model that it goes on from, where that is known: a loss may ask it, too.
        writes: whether the model writes its rows itself.
    """

    config: ModelConfig
    time: int
    objective: Objective = CausalLM()  # noqa: RUF009
    optimizer: OptimizerConfig = AdamW()  # noqa: RUF009
    task: RowTask = NextToken()  # noqa: RUF009
    precision: Precision = "fp32"
    decay: float | None = None
    guarded: bool = False
    trainable: Trainable = Everything()  # noqa: RUF009
    device: Literal["cpu", "cuda"] = "cpu"
    offload: frozenset[Offloaded] = frozenset()
    before: Frozen | None = None
    writes: bool = False

    def keeps(self, again: Recompute) -> Keeps:
        """What its blocks keep.

        Raises:
            ConfigError: not both can be.
        """
        check_together(self.offload, again)
        return "host" if self.sends and again.kind == "none" else again.keeps

    @property
    def sends(self) -> bool:
        """Whether activations wait in the host's memory: all that blocks keep, or what those read that are computed again."""
        return "activations" in self.offload


def anatomy_of(planned: Planned, rows: int, keeps: Keeps = "all") -> Anatomy:
    """Of a training in micro-batches of so many packed rows, whose blocks keep so much for their backward pass."""
    turns = turns_of(planned) if "optimizer" in planned.offload else ()
    return replace(_anatomy_of(planned, rows, keeps), turns=turns)


@lru_cache(maxsize=PLANS)
def _anatomy_of(planned: Planned, rows: int, keeps: Keeps) -> Anatomy:
    config = planned.config
    if isinstance(planned.trainable, Everything) and (short := shortened(config)) is not None:  # else layers are not alike
        return lengthened(_anatomy_of(replace(planned, config=short), rows, keeps), cycle_of(short), config.n_layers)
    with without_memory():
        model, batch, loss = micro_batch_of(planned, rows, planned.time, "all" if keeps == "host" else keeps)
        away = Unseen()
        if planned.sends and keeps != "all":
            offload_activations(model, away)
            loss()
        sent = away.bytes
        found = dissect(
            model, loss, lambda: Updates(planned, model), rows=rows, time=planned.time, row_bytes=bytes_of(batch) // rows,
            last=cache(partial(loss_of, planned)), asked=asked_by(planned.objective).values(),
            itself=planned.before in planned.objective.frozen(),
        )  # fmt: skip
        return without_inputs(found) if planned.sends and keeps == "all" else replace(found, sent=sent)


def without_inputs(anatomy: Anatomy) -> Anatomy:
    """The same where what blocks read waits in the host's memory, all of them being computed again."""
    first, further = (
        tuple(replace(one, away=one.reads if one.reads >= offload.LEAST_BYTES else 0) for one in some)
        for some in (anatomy.first, anatomy.further)
    )
    return replace(anatomy, first=first, further=further, sent=float(sum(one.away for one in first)))


class Unseen(Away):
    """Sends tensors without memory to where no plan sees them, and counts their bytes."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.bytes = 0

    def send(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.nbytes
        with _disable_current_modes():
            return torch.empty_like(tensor)

    def fetch(self, host: Tensor, device: torch.device) -> Tensor:
        return host.clone()


def turns_of(planned: Planned) -> tuple[Turn, ...]:
    """In which state is brought from the host's memory: see `AwayOptimizer`."""
    with torch.device("meta"):
        model = planned.config.skeleton()
    planned.trainable.freeze(model)
    groups = [(part, group["params"]) for part in planned.optimizer.build(model).parts for group in part.param_groups if group["params"]]
    trained = sum(p.nbytes for _, parameters in groups for p in parameters)
    return tuple(
        Turn(sum(p.nbytes for p in some) / trained, inf if isinstance(part, Stepper) else max(offload.CHUNK_BYTES, *(p.nbytes for p in some)))
        for part, some in groups
    )


@lru_cache(maxsize=PLANS)
def loss_of(planned: Planned, places: int) -> tuple[Stretch, Stretch]:
    """What the loss does to memory for so many places, in the first micro-batch of a step and in later ones.

    Args:
        planned: a training.
        places: part of a row, or whole rows.
    """
    with without_memory():
        rows, time = (1, places) if places < planned.time else (places // planned.time, planned.time)
        model, _, loss = micro_batch_of(planned, rows, time, "all")
        return trace(model, loss)[-1], trace(model, loss)[-1]


def micro_batch_of(planned: Planned, rows: int, time: int, keeps: Keeps) -> tuple[Model, Batch, Callable[[], Tensor]]:
    """The model of a training, a batch as it reads them, and what does the forward pass of it."""
    config = planned.config
    model = config.skeleton()
    time += there_already(model)
    batch = example(config, planned.task, rows, time)
    if planned.objective.needs:
        batch = replace(batch, samples=Samples.blank(rows, time))
    planned.trainable.freeze(model)
    if keeps == "products":
        recompute(model, Recompute("selective"))
    frozen = asked_by(planned.objective)
    objective = planned.objective if len(frozen) == len(planned.objective.frozen()) else CausalLM()

    def loss() -> Tensor:
        with autocast(planned.precision, "cpu"), chunks_of(planned.device):
            totals = objective.read(Models(model, frozen), batch)
        terms = [total / 1.0 for total, _ in totals]
        return sum(terms[1:], terms[0])

    return model, batch, loss


class Updates:
    """What a training does to its weights once it has gradients, and what it keeps for that."""

    def __init__(self, planned: Planned, model: nn.Module) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._pulls: dict[str, dict[str, Tensor]] = {}
        """Tensors as large as those that penalties pull towards, and as what says how hard."""
        around = {f"{path}.{one.keeps[0]}": one for path, one in shells(model).items() if any(change.adds for change in one.changes)}
        own = {name: p for name, p in trained.items() if ".adapters." not in name}
        rounded = {name: shell.base for name, shell in around.items() if len(shell.keeps) > 1}  # others stand where they are pulled to
        every = {name: shell.base for name, shell in around.items()}
        for i, (_, penalty) in enumerate(planned.objective.penalties()):
            self._pulls |= {f"anchor {i}": own | rounded} | ({f"importance {i}": own | every} if penalty.importance is not None else {})
        self._optimizer = planned.optimizer.build(model)
        self._guard = Guard(Holding.alone(model, ALONE)) if planned.guarded else None
        self._average = None if planned.decay is None else Average(trained, planned.decay)

    def step(self) -> None:
        """Changes the weights."""
        if self._guard is None:
            self._optimizer.step()
        else:
            self._guard.update(self._optimizer.step, inf)
        if self._average is not None:
            self._average.update()

    def state(self) -> dict[str, Tensor]:
        """What the optimiser keeps, under `<name of the parameter>|<slot>`."""
        return self._optimizer.state()

    def copies(self) -> dict[str, Tensor]:
        """What else is kept, likewise."""
        average = {} if self._average is None else self._average.values
        before = {} if self._guard is None else self._guard.before
        kept = {"average": average, "before": before, **self._pulls}
        return {f"{name}|{slot}": tensor for slot, some in kept.items() for name, tensor in some.items()}


def asked_by(objective: Objective) -> dict[str, Model]:
    """The models that an objective asks beside the one that is trained, by their address; those whose sizes are not known yet are left out."""
    known = {one.address: one.architecture for one in objective.frozen()}
    return {at: config.skeleton().eval().requires_grad_(requires_grad=False) for at, config in known.items() if config is not None}


def cycle_of(parts: TransformerConfig | AdaptedConfig) -> int:
    """Layers after which all begins again."""
    if isinstance(parts, AdaptedConfig):
        assert isinstance(parts.base, TransformerConfig | AdaptedConfig)
        return cycle_of(parts.base)
    return lcm(len(parts.mixers), len(parts.feed_forwards))


def shortened(config: ModelConfig) -> TransformerConfig | AdaptedConfig | None:
    """The same stack with three cycles of layers, from which the anatomy of many follows; None where it would not be shorter."""
    if isinstance(config, AdaptedConfig):
        short = shortened(config.base)
        try:
            return None if short is None or config.adapter.picks_layers else AdaptedConfig(base=short, adapter=config.adapter)
        except ConfigError:  # what it is for stands in a layer that is left out
            return None
    parts = config.transformer if isinstance(config, NamedConfig) else config
    if not isinstance(parts, TransformerConfig) or parts.n_distinct_layers is not None:
        return None
    cycle = cycle_of(parts)
    layers = 3 * cycle + parts.n_layers % cycle
    if layers >= parts.n_layers:
        return None
    try:
        return parts.replace(n_layers=layers)
    except ConfigError:  # norms that are made for a depth
        return None


def lengthened(small: Anatomy, cycle: int, layers: int) -> Anatomy:
    """The anatomy of a stack of more layers: the second cycle again and again."""
    have = len(small.blocks)
    tail = layers - have + 2 * cycle  # from there on they are the last ones
    sources = [i if i < cycle else have - layers + i if i >= tail else cycle + i % cycle for i in range(layers)]

    def renamed(name: str, source: int, layer: int) -> str:
        own = f"blocks.{source}."
        return f"blocks.{layer}.{name.removeprefix(own)}" if name.startswith(own) else name

    def stretches(some: Sequence[Stretch]) -> tuple[Stretch, ...]:
        found = [some[0]]
        for layer, source in enumerate(sources):
            block, behind = some[2 * source + 1], some[-1 if layer == layers - 1 else 2]
            found += [replace(block, weights=frozenset(renamed(name, source, layer) for name in block.weights)), behind]
        return tuple(found)

    weights = {name: weight for name, weight in small.weights.items() if not name.startswith("blocks.")}
    for layer, source in enumerate(sources):
        own = {name: weight for name, weight in small.weights.items() if name.startswith(f"blocks.{source}.")}
        weights |= {renamed(name, source, layer): weight for name, weight in own.items()}
    return replace(
        small, first=stretches(small.first), further=stretches(small.further), weights=weights, update=small.update * layers / have,
        calls=small.calls * layers / have, sent=small.sent * layers / have,
    )  # fmt: skip


def example(config: ModelConfig, task: RowTask, rows: int, time: int) -> Batch:
    """Rows as a task gives them to a model: of the right shapes, and with nothing in them."""
    text = task.text_time(time)
    tokens, weight = torch.zeros(rows, text, dtype=torch.long), torch.ones(rows, text)
    layout = SequenceLayout.packed(torch.ones_like(tokens), causal=config.reads_forward)
    batch = Batch(tokens, torch.zeros_like(tokens), weight, layout)
    if task.sees_prefix:
        batch = replace(batch, layout=replace(layout, prefix=torch.ones_like(tokens, dtype=torch.bool)))
    if task.gives_passage:
        passage = torch.zeros(rows, time, dtype=torch.long)
        batch = replace(batch, passage=Passage(passage, SequenceLayout.packed(torch.ones_like(passage), causal=False)))
    if task.gives_draws:
        batch = replace(batch, draws=torch.zeros(rows, text))
    if task.labelled:
        labels = {head: Labels(torch.zeros_like(tokens), torch.ones_like(weight)) for head in task.labelled}
        batch = replace(batch, layout=replace(batch.layout, parts=torch.zeros_like(tokens)), labels=labels)
    return batch


def bytes_of(batch: Batch) -> int:
    """Of all tensors of a batch."""
    layouts = [batch.layout] if batch.passage is None else [batch.layout, batch.passage.layout]
    tensors = [batch.tokens, batch.targets, batch.loss_weight, batch.draws, None if batch.passage is None else batch.passage.tokens]
    tensors += [one for layout in layouts for one in (layout.positions, layout.segments, layout.prefix, layout.parts)]
    tensors += [one for labels in batch.labels.values() for one in (labels.targets, labels.loss_weight)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
