"""A recipe for pre-training on any text, from a few values: what the verb `pretrain` and the simplest recipes are made of."""

from __future__ import annotations

from bloomery.core.units import human_count
from bloomery.models import LlamaConfig
from bloomery.optim import AdamW, Muon, WarmupCosine
from bloomery.recipe.graph import Recipe
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.report import Report
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.text.readers import Reader

HEAD_DIM = 64


def pretrain(
    name: str, source: Reader, *, vocab_size: int = 4096, d_model: int = 256, n_layers: int = 4, max_seq_len: int = 256,
    batch_tokens: int = 4096, steps: int = 500, learning_rate: float = 3e-3, held_out: float = 0.02, prompts: tuple[str, ...] = (),
    seed: int = 0,
) -> Recipe:
    """Prepares a source, trains a tokenizer and a Llama on it, measures on documents set aside, and reports.

    Args:
        name: of the recipe and of what it makes.
        source: where the documents come from.
        vocab_size: tokens in the vocabulary, at least 262.
        d_model: width of the model, a multiple of 64.
        n_layers: depth of the model.
        max_seq_len: tokens in a row.
        batch_tokens: tokens in a step, a multiple of max_seq_len.
        steps: optimiser steps.
        learning_rate: at its highest.
        held_out: share of the documents that is set aside; 0 sets none aside and measures nothing.
        prompts: beginnings for the model to go on with while it is trained.
        seed: of weights and order.
    """
    corpus = Prepare(name=name, source=source, held_out=held_out)
    tokenizer = TrainTokenizer(name=name, corpora=(corpus,), vocab_size=vocab_size, sample_bytes=16 << 20)
    read = Tokenize(name=name, corpus=corpus, tokenizer=tokenizer)
    aside = (Tokenize(name=f"{name}_held_out", corpus=corpus, tokenizer=tokenizer, split="held_out"),) if held_out else ()
    model = LlamaConfig(vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=d_model // HEAD_DIM or 1, max_seq_len=max_seq_len)
    train = Train(
        name=name, tokenizer=tokenizer, init=Scratch(model=model), sources=(Share(tokens=read),), max_seq_len=max_seq_len,
        batch_tokens=batch_tokens, steps=steps, optimizer=Muon(learning_rate=learning_rate, others=AdamW(learning_rate=learning_rate)),
        schedule=WarmupCosine(), seed=seed, watch=Watch(held_out=aside, prompts=prompts, every=max(1, steps // 5)),
    )  # fmt: skip
    title = f"{name}: {human_count(model.n_params)} parameters, {human_count(steps * batch_tokens)} tokens"
    return Recipe(name=name, wanted=(Report(name=name, title=title, trainings=(train,)), train))
