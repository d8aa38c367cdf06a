"""What is measured while a model is trained: bits per byte of held-out text, and answers to fixed prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from bloomery.data.packing import Cut, Fit
from bloomery.data.shards import TokenShards
from bloomery.data.source import Packed
from bloomery.data.tasks import NextToken, RowTask, Vocabulary, once
from bloomery.generate import Sampler, stream
from bloomery.mesh import ALONE, Holding, settle
from bloomery.models import Model, causal
from bloomery.objectives import CausalLM, Models, Objective
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.manner import Manner
from bloomery.train.passes import figures_of, passes

NEXT_TOKEN, CAUSAL_LM = NextToken(), CausalLM()
NONE: Mapping[str, Model] = MappingProxyType({})


def held_out(
    model: Model, shards: TokenShards, tokenizer: Tokenizer, *, time: int, tokens: int, rows: int, device: str = "cpu",
    task: RowTask = NEXT_TOKEN, objective: Objective = CAUSAL_LM, holding: Holding | None = None, frozen: Mapping[str, Model] = NONE,
) -> Mapping[str, float]:
    """How well a model predicts text that it is not trained on.

    Where each token is told from those before it:

        bits per byte = nats / (ln 2 · bytes)

    over the tokens that count (for conversations: the answers). Bytes are those of the predicted text, so that models with different
    tokenizers compare. Under other tasks it is the objective that is measured, and its metrics, per unit of weight; they compare between
    models of one tokenizer and one task only. All ranks of a layout read the same rows.

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
        holding: where ranks share the model, what this one has of it.
        frozen: the models that the objective asks beside it.

    Returns:
        `bits_per_byte`, and `loss` in nats per token; or `loss` and the objective's metrics, with `masked_perplexity` = exp(nll) under tasks
        that hide tokens: the perplexity of a hidden token when all that the task hides is hidden at once. It is neither that of the text nor
        the pseudo-perplexity of Salazar et al. (2020), arXiv 1910.14659, who hide one token at a time.
    """
    objective = CAUSAL_LM if task.every_token else objective
    holding = holding or Holding.alone(model, ALONE)
    run = passes(Models(model, frozen), holding, objective, Manner(micro_batch=rows, device=device), "fp32")
    packing = Fit() if shards.whole else Cut()
    if task.every_token:
        batches = Packed(shards, packing, time=time, seed=0).once(rows)
    else:
        source = Packed(shards, packing, time=task.raw_time(time), seed=0)
        batches = once(source, task, rows, 0, Vocabulary(tokenizer))
    lengths = torch.from_numpy(tokenizer.byte_lengths)
    sums: dict[tuple[int, str], float] = {}
    weights: list[float] = []
    size, seen = 0, 0
    model.eval()
    settle(model, holding.mesh)
    with torch.no_grad():
        for batch in batches:
            of_batch = objective.weights(batch)
            weights = [old + new for old, new in zip(weights or [0.0] * len(of_batch), of_batch, strict=True)]
            for key, value in run(batch, of_batch, False).over(holding, copies=holding.mesh.readers.size).items():
                sums[key] = sums.get(key, 0.0) + value
            size += int(lengths[batch.targets[batch.loss_weight > 0]].sum()) if task.every_token else 0
            seen += batch.tokens.numel() if batch.passage is None else batch.passage.tokens.numel()
            if seen >= tokens:
                break
    settle(model, holding.mesh)
    model.train()
    figures = figures_of({(term, name): value / (weights[term] or 1.0) for (term, name), value in sums.items()})
    if task.every_token:
        return {"bits_per_byte": sums.get((0, ""), 0.0) / (math.log(2) * max(size, 1)), "loss": figures["loss"]}
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
