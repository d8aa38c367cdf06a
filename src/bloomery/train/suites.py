"""How many questions a model answers rightly, without writing a word: an answer is right if each of its tokens is the model's first choice."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from bloomery.data.batch import Batch
from bloomery.data.packing import Fit
from bloomery.data.shards import TokenShards
from bloomery.data.source import Packed
from bloomery.mesh import Mesh, Pipeline, settle
from bloomery.models import Model, Transformer
from bloomery.nn.chunked import logits_by_chunk
from bloomery.nn.head import OutputHead


@torch.no_grad()
def answered(
    model: Model, shards: TokenShards, *, time: int, rows: int, questions: int, mesh: Mesh, device: str = "cpu"
) -> tuple[int, int]:
    """How many answers in conversations are those that greedy decoding would give, each with the true conversation before it; and of how many.

    One pass over the text, for which no answer has to be written: greedy decoding gives exactly the expected tokens if and only if each of
    them is the likeliest after those before it. An answer that reads the same in other tokens counts as wrong.

    Args:
        model: that is asked.
        shards: of conversations, with masks; documents longer than `time` tokens are cut, and answers with them.
        time: tokens in a row.
        rows: per forward pass.
        questions: asked at most, or a few more: always the same ones.
        mesh: the ranks, all of which ask the same.
        device: of the model.
    """
    right = asked = 0
    model.eval()
    for batch in Packed(shards, Fit(), time=time, seed=0).once(rows):
        batch = batch.to(device)
        numbers, wanted = answers_in(batch.loss_weight > 0)
        missed = missed_in(model, batch, mesh)[wanted]
        found = torch.ones(int(numbers.max()) + 1 if len(numbers) else 0, dtype=torch.bool, device=missed.device)
        found[numbers[missed]] = False
        right, asked = right + int(found.sum()), asked + len(found)
        if asked >= questions:
            break
    settle(model, mesh)
    model.train()
    return right, asked


def missed_in(model: Model, batch: Batch, mesh: Mesh) -> Bool[Tensor, "batch time"]:
    """Where something is to be learnt and another token is the model's first choice. Each rank looks at its own stretch of time, the last one
    of a pipeline for all of that; all of them know all of it then.

    Args:
        model: this rank's part of it.
        batch: whole, the same on all ranks.
        mesh: the ranks.
    """
    own = batch.share(mesh.time.index, mesh.time.size)
    missed, wanted = torch.zeros_like(own.loss_weight), own.loss_weight > 0

    def look(features: Tensor) -> None:
        missed[wanted] = (first_choices(model.head, features[wanted]) != own.targets[wanted]).to(missed)

    if mesh.layout.pipeline == 1:
        look(model.features(own.tokens, own.layout))
    else:
        assert isinstance(model, Transformer)
        pipeline = Pipeline(mesh, len(model.blocks))

        def forward(stage: int, micro: int, x: Tensor | None) -> Tensor:
            y = model.through(x, own.tokens, own.layout, pipeline.spans[stage])
            if stage == len(pipeline.spans) - 1:
                look(y)
            return y

        pipeline.run(forward, 1, [missed.new_empty((*missed.shape, model.config.d_model))], learn=False)
    stretches = mesh.time.gather(mesh.axis("pipeline").sum_(missed))  # (ranks, batch, stretch)
    return stretches.movedim(0, 1).flatten(1) > 0


def answers_in(learnt: Tensor) -> tuple[Tensor, Tensor]:
    """The runs of places in (batch, time) at which something is learnt: the number of each such place's run, and where the places are."""
    before = torch.zeros_like(learnt)
    before[:, 1:] = learnt[:, :-1]
    begins = (learnt & ~before).flatten()
    return begins.cumsum(0)[learnt.flatten()] - 1, learnt


def first_choices(head: OutputHead, features: Tensor) -> Tensor:
    """The likeliest token at each of some places; logits are formed chunk by chunk."""
    found = [logits.argmax(-1) for _, logits in logits_by_chunk(head, features)]
    return torch.cat(found) if found else features.new_zeros(0, dtype=torch.long)
