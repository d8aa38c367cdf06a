"""Looks inside: what each layer would say, where attention looks, and which documents of the corpus are nearest in the model's own terms."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import islice
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models import Transformer
from bloomery.nn import SequenceLayout
from bloomery.stages.alignment.asked import Asked
from bloomery.stages.alignment.probe import Shown, View
from bloomery.stages.look import plot, table
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import Inputs
from bloomery.train.observe import layers, observed

PLACES = 48  # tokens of a prompt that are shown
EXCERPT = 160  # characters of a document


class LogitLens(View):
    """What the model would say next after each layer, were it the last one: its residual stream through the last norm and the head.

    Source: nostalgebraist (2020), "interpreting GPT: the logit lens".
    """

    prompt: str
    """What it reads."""

    @torch.no_grad()
    def look(self, asked: Asked, inputs: Inputs) -> Shown:
        ids = asked.ids(self.prompt)[:PLACES]
        by_layer = after_each_layer(asked, ids)
        logits = list(by_layer.values())
        final = int(logits[-1][-1].argmax())
        shares = [float(one[-1].softmax(-1)[final]) for one in logits]
        said = [asked.pieces(one.argmax(-1)) for one in logits]
        head = ("layer", *(escape(piece) for piece in asked.pieces(ids)))
        rows = [(name, *map(escape, one)) for name, one in zip(by_layer, said, strict=True)]
        curve = plot("share of its last word, by layer", lambda axes: axes.plot(range(len(shares)), shares, marker="o"), "layers read")
        return Shown(
            "What it would say after each layer", f'{curve}<div style="overflow-x:auto">{table(head, rows)}</div>',
            {"final": asked.pieces([final])[0], "shares": [round(share, 4) for share in shares], "said": said},
        )


class AttentionMaps(View):
    """Where the heads of each layer look, on average: a row for each token that reads, a column for each that is read."""

    prompt: str
    """What it reads."""

    @torch.no_grad()
    def look(self, asked: Asked, inputs: Inputs) -> Shown:
        ids = asked.ids(self.prompt)[:PLACES]
        maps = {place: weights.mean(0) for place, weights in attention(asked, ids).items()}
        if not maps:
            raise ConfigError("AttentionMaps: no layer of this model is attention whose weights are known; leave the view out")
        pieces = asked.pieces(ids)

        def drawn(weights: Tensor) -> Any:
            def draw(axes: Any) -> None:
                axes.imshow(weights.numpy(), cmap="Blues", vmin=0, aspect="auto")
                axes.set_yticks(range(len(pieces)), pieces, fontsize=4)
                axes.set_xticks([])

            return draw

        pictures = "".join(plot(place, drawn(weights), "token that is read") for place, weights in maps.items())
        nearest = {place: [pieces[int(row[: i + 1].argmax())] for i, row in enumerate(weights)] for place, weights in maps.items()}
        return Shown("Where attention looks", f'<div class="plots">{pictures}</div>', {"most": nearest})


class Nearest(View):
    """The documents of a corpus whose mean state behind the last norm is most alike that of a text, by its cosine. It says what the model finds
    alike, not what it has learnt the text from.
    """

    prompt: str
    """The text."""
    corpus: Prepare
    """What the model has read."""
    limit: Annotated[int, Gt(0)] = 1000
    """Documents that are looked at, the first ones."""
    count: Annotated[int, Gt(0)] = 5
    """How many are shown."""

    def look(self, asked: Asked, inputs: Inputs) -> Shown:
        wanted = state_of(asked, asked.ids(self.prompt))
        every = (row for batch in documents(inputs[self.corpus], columns=("id", "text")) for row in batch.to_pylist())
        found = [
            (float(torch.cosine_similarity(wanted, state_of(asked, asked.ids(row["text"])), 0)), row["id"], row["text"])
            for row in islice(every, self.limit)
        ]
        nearest = sorted(found, key=lambda one: -one[0])[: self.count]
        rows = [(f"{alike:.3f}", escape(name), escape(text[:EXCERPT])) for alike, name, text in nearest]
        return Shown(
            "The documents that it finds most alike", table(("cosine", "document", "begins"), rows, (0,)),
            {"nearest": [{"id": name, "cosine": round(alike, 5)} for alike, name, _ in nearest], "among": len(found)},
        )


@torch.no_grad()
def after_each_layer(asked: Asked, ids: Sequence[int], last: int = PLACES) -> dict[str, Tensor]:
    """What the model would say next were each layer the last one: "embedding" and the layers' numbers, each with (places, vocab) logits.

    Args:
        asked: a model that is one stack of layers; raises `ConfigError` where it is not.
        ids: what it reads.
        last: places that are told, the last ones.
    """
    model, hidden = stack_of(asked), asked.seen(ids).hidden
    names = ["embedding", *(str(layer) for layer in range(len(hidden) - 1))]
    return {name: asked.model.unembed(model.transform(model.norm(x[:, -last:])))[0] for name, x in zip(names, hidden, strict=True)}


@torch.no_grad()
def attention(asked: Asked, ids: Sequence[int]) -> dict[str, Tensor]:
    """Where each head looks, (heads, time, time) for each layer that is attention whose weights are known.

    Args:
        asked: the model.
        ids: what it reads.
    """
    tokens, maps = torch.tensor([ids], device=asked.model.device), dict[str, Tensor]()
    mixers = {place: block.mixer for place, block in layers(asked.model).items()}

    def note(place: str, given: tuple[Any, ...], made: Tensor) -> None:
        if (looks := mixers[place].looks(given[0], given[1])) is not None:
            maps[place] = looks.weights[0].cpu()

    with observed(mixers, note):
        asked.model.features(tokens, SequenceLayout.rows(*tokens.shape, device=asked.model.device))
    return maps


def state_of(asked: Asked, ids: Sequence[int]) -> Tensor:
    """(d_model,) the mean state behind the last norm."""
    last = asked.seen(ids).last
    assert last is not None  # every model tells it
    return last[0].mean(0)


def stack_of(asked: Asked) -> Transformer:
    """The stack of layers, which is what the last norm belongs to."""
    model = asked.model
    if not isinstance(model, Transformer):
        kind = asked.model.config.kind()
        raise ConfigError(f"LogitLens: a {kind} is not one stack of layers with a norm and a head; leave the view out")
    return model
