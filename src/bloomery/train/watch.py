"""What is measured while a model is trained: bits per byte of held-out text, and answers to fixed prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from bloomery.data.packing import Cut
from bloomery.data.shards import TokenShards
from bloomery.data.source import Packed
from bloomery.generate import Sampler, stream
from bloomery.models import Model, causal
from bloomery.objectives import CausalLM, Models
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer


def held_out(
    model: Model, shards: TokenShards, tokenizer: Tokenizer, *, time: int, tokens: int, rows: int, device: str = "cpu",
) -> Mapping[str, float]:
    """How well a model predicts text that it is not trained on.

        bits per byte = nats / (ln 2 · bytes)

    over the tokens that count (for conversations: the answers). Bytes are those of the predicted text, so that models with different
    tokenizers compare.

    Args:
        model: any.
        shards: the text.
        tokenizer: which made the shards.
        time: tokens per row.
        tokens: measured at most, always the same ones.
        rows: per forward pass.
        device: of the model.

    Returns:
        `bits_per_byte`, and `loss` in nats per token.
    """
    lengths = torch.from_numpy(tokenizer.byte_lengths)
    models, objective = Models(model.eval()), CausalLM()
    nats, weight, size, seen = 0.0, 0.0, 0, 0
    with torch.inference_mode():
        for batch in Packed(shards, Cut(), time=time, seed=0).once(rows):
            ((total, _),) = objective.read(models, batch.to(device))
            nats, weight = nats + float(total), weight + batch.weight
            size += int(lengths[batch.targets[batch.loss_weight > 0]].sum())
            seen += batch.tokens.numel()
            if seen >= tokens:
                break
    model.train()
    return {"bits_per_byte": nats / (math.log(2) * max(size, 1)), "loss": nats / max(weight, 1.0)}


def answers(
    model: Model, prompts: Sequence[str], tokenizer: Tokenizer, template: ChatTemplate | None, sampler: Sampler, max_new_tokens: int,
) -> list[str]:
    """What a model makes of each prompt: its continuation, or its answer where there is a chat template. The same for the same weights."""
    model.eval()
    texts = []
    for number, prompt in enumerate(prompts):
        if template is None:
            ids = [tokenizer.begin, *tokenizer.encode(prompt)]
        else:
            ids = template.render([{"role": "user", "content": prompt}], tokenizer, add_generation_prompt=True).ids
        texts.append(tokenizer.decode(stream(causal(model), ids, sampler, {tokenizer.end}, max_new_tokens, number, tokenizer.vocab_size)))
    model.train()
    return texts
