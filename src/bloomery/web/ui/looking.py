"""Looks into a model that is talked to: what each layer would say, where a layer's heads look, how likely each token of an answer is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import DataError
from bloomery.evals.likelihood import told_tokens
from bloomery.stages.alignment.asked import Asked
from bloomery.stages.alignment.views import PLACES, after_each_layer, attention
from bloomery.text.chat import ChatTemplate, check_messages
from bloomery.web.ui.pieces import pieces_of

READ = 512  # tokens that are read to look inside, the last ones
LIKELY = 3  # words that a layer would say


def ids_of(asked: Asked, messages: Any, text: Any) -> list[int]:
    """What a model reads of a conversation, or of a text as the beginning of a document; raises `DataError` where it is neither."""
    if isinstance(messages, list):
        check_messages(messages)
        return ChatTemplate().render(messages, asked.tokenizer).ids
    if not isinstance(text, str):
        raise DataError("there is nothing to read; give messages, or a text")
    return [asked.tokenizer.begin, *asked.tokenizer.encode(text)]


def inside(asked: Asked, ids: Sequence[int], layer: int | None) -> dict[str, Any]:
    """What each layer would say behind the last tokens, the likeliest words first, and the weights of each head of one layer between them.

    Args:
        asked: the model.
        ids: what it reads, of which the last tokens count.
        layer: the number of the attention layer whose heads are told, from 0; None takes the last one.
    """
    ids = list(ids)[-min(READ, asked.model.config.max_seq_len) :]
    shown = ids[-PLACES:]
    said = []
    for name, logits in after_each_layer(asked, ids).items():
        best = logits.float().softmax(-1).topk(LIKELY)
        words = [
            [[piece["text"], round(p, 4)] for piece, p in zip(pieces_of(asked.tokenizer, row), share, strict=True)]
            for row, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        said.append({"layer": name, "words": words})
    maps = list(attention(asked, ids).items())
    told = {"pieces": pieces_of(asked.tokenizer, shown), "before": len(ids) - len(shown), "said": said, "layers": [name for name, _ in maps]}
    if not maps:
        return told | {"layer": None, "heads": []}
    number = len(maps) - 1 if layer is None else min(max(0, layer), len(maps) - 1)
    weights = maps[number][1][:, -len(shown) :, -len(shown) :].tolist()
    return told | {"layer": number, "heads": [[[round(value, 3) for value in row] for row in head] for head in weights]}


def weighed(asked: Asked, messages: Any, answer: str) -> list[dict[str, Any]]:
    """Each token of an answer to a conversation with its probability, the one that ends it too.

    Raises:
        DataError: it is no conversation that can be answered, or longer than the model reads.
    """
    if not isinstance(messages, list):
        raise DataError("there is nothing to answer; give messages")
    check_messages(messages, add_generation_prompt=True)
    template, tokenizer = ChatTemplate(), asked.tokenizer
    before = len(template.render(messages, tokenizer, add_generation_prompt=True).ids)
    ids = template.render([*messages, {"role": "assistant", "content": answer}], tokenizer).ids
    if len(ids) > (longest := asked.model.config.max_seq_len):
        raise DataError(f"the conversation has {len(ids)} tokens, and the model reads {longest}; shorten it")
    told = told_tokens(asked.model, [(ids, [place >= before for place in range(len(ids))])], str(asked.model.device))
    pieces = pieces_of(tokenizer, ids[before:])
    return [piece | {"p": round(math.exp(logprob), 6)} for piece, logprob in zip(pieces, told.logprobs.tolist(), strict=True)]
