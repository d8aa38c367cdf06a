"""From a training as it is configured to what a planner knows of it: one step of it, on tensors without memory."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bloomery.data import Batch, NextToken, RowTask
from bloomery.data.batch import Labels
from bloomery.data.tasks import SpanCorruption
from bloomery.models import ModelConfig
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.objectives import CausalLM, Models, Objective
from bloomery.optim import AdamW, OptimizerConfig
from bloomery.planning.anatomy import Anatomy, dissect
from bloomery.planning.trace import without_memory
from bloomery.train import Precision


def anatomy_of(
    config: ModelConfig, *, rows: int, time: int, objective: Objective = CausalLM(), optimizer: OptimizerConfig = AdamW(),  # noqa: B008
    task: RowTask = NextToken(), precision: Precision = "fp32", averaged: bool = False,  # noqa: B008
) -> Anatomy:
    """Of a training of a model in micro-batches of `rows` packed rows of `time` places.

    Args:
        config: of the model.
        rows: in a micro-batch.
        time: places in a row.
        objective: the loss.
        optimizer: what takes the steps.
        task: what is to be learnt from rows.
        precision: of matrix products.
        averaged: whether a moving average of the weights is kept.
    """
    with without_memory():
        model, batch = config.skeleton(), example(config, task, rows, time)

        def loss() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                totals = objective.read(Models(model), batch)
            terms = [total / 1.0 for total, _ in totals]
            return sum(terms[1:], terms[0])

        return dissect(
            model, loss, lambda: optimizer.build(model), rows=rows, time=time, row_bytes=bytes_of(batch) // rows, averaged=averaged,
        )  # fmt: skip


def example(config: ModelConfig, task: RowTask, rows: int, time: int) -> Batch:
    """Rows as a task gives them to a model: of the right shapes, and with nothing in them."""
    text = task.text_time(time) if isinstance(task, SpanCorruption) else time
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
