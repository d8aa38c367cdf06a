"""What is measured while a model is trained: bits per byte of held-out text, and answers to fixed prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from bloomery.data.batch import Batch
from bloomery.data.packing import Cut
from bloomery.data.shards import TokenShards
from bloomery.data.source import Packed
from bloomery.data.tasks import NextToken, RowTask, Vocabulary, once
from bloomery.generate import Sampler, stream
from bloomery.models import Model, causal
from bloomery.objectives import CausalLM, Models, Objective
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.passes import figures_of

NEXT_TOKEN, CAUSAL_LM = NextToken(), CausalLM()


def held_out(
    model: Model, shards: TokenShards, tokenizer: Tokenizer, *, time: int, tokens: int, rows: int, device: str = "cpu",
    task: RowTask = NEXT_TOKEN, objective: Objective = CAUSAL_LM,
) -> Mapping[str, float]:
    """How well a model predicts text that it is not trained on.

    Where each token is told from those before it:

        bits per byte = nats / (ln 2 · bytes)

    over the tokens that count (for conversations: the answers). Bytes are those of the predicted text, so that models with different
    tokenizers compare. Under other tasks it is the objective that is measured, and its metrics, per unit of weight; they compare between
    models of one tokenizer and one task only.

    Args:
        model: any.
        shards: the text.
        tokenizer: which made the shards.
        time: tokens per row.
        tokens: measured at most, always the same ones, hidden and cut in the same way.
        rows: per forward pass.
        device: of the model.
        task: under which the text is read.
        objective: what is measured under tasks other than `NextToken`.

    Returns:
        `bits_per_byte`, and `loss` in nats per token; or `loss` and the objective's metrics, with `masked_perplexity` = exp(nll) under tasks
        that hide tokens: the perplexity of a hidden token when all that the task hides is hidden at once. It is neither that of the text nor
        the pseudo-perplexity of Salazar et al. (2020), arXiv 1910.14659, who hide one token at a time.
    """
    models = Models(model.eval())
    with torch.inference_mode():
        if task.every_token:
            figures = _next_tokens(models, Packed(shards, Cut(), time=time, seed=0), tokenizer, tokens, rows, device)
        else:
            source = Packed(shards, Cut(), time=task.raw_time(time), seed=0)
            figures = _under(task, objective, models, once(source, task, rows, 0, Vocabulary(tokenizer)), tokens, device)
    model.train()
    return figures


def _next_tokens(models: Models, source: Packed, tokenizer: Tokenizer, tokens: int, rows: int, device: str) -> Mapping[str, float]:
    lengths, objective = torch.from_numpy(tokenizer.byte_lengths), CausalLM()
    nats, weight, size, seen = 0.0, 0.0, 0, 0
    for batch in source.once(rows):
        ((total, _),) = objective.read(models, batch.to(device))
        nats, weight = nats + float(total), weight + batch.weight
        size += int(lengths[batch.targets[batch.loss_weight > 0]].sum())
        seen += batch.tokens.numel()
        if seen >= tokens:
            break
    return {"bits_per_byte": nats / (math.log(2) * max(size, 1)), "loss": nats / max(weight, 1.0)}


def _under(
    task: RowTask, objective: Objective, models: Models, batches: Iterator[Batch], tokens: int, device: str
) -> Mapping[str, float]:
    sums: dict[tuple[int, str], float] = {}
    weights: list[float] = []
    seen = 0
    for batch in batches:
        terms = objective(models, batch.to(device))
        weights = [old + term.weight for old, term in zip(weights or [0.0] * len(terms), terms, strict=True)]
        for i, term in enumerate(terms):
            for name, value in {"": term.total, **term.metrics}.items():
                sums[i, name] = sums.get((i, name), 0.0) + float(value)
        seen += batch.tokens.numel() if batch.passage is None else batch.passage.tokens.numel()
        if seen >= tokens:
            break
    figures = figures_of({(i, name): value / (weights[i] or 1.0) for (i, name), value in sums.items()})
    hidden = {"masked_perplexity": math.exp(figures["nll"])} if task.both_ways and "nll" in figures else {}
    return figures | hidden


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
