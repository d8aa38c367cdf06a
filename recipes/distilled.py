"""A small model that learns from a larger one as well as from the text: beside the same model that learns from the text alone."""

from __future__ import annotations

from typing import Any

from bloomery.data import Cut
from bloomery.models import LlamaConfig
from bloomery.nn import WiredInit
from bloomery.objectives import CausalLM, Distil, DistilAttention, DistilSimilarity, Objective
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_optimizer, tale_tokens
from bloomery.stages.init import Scratch
from bloomery.stages.paired import Paired, Way
from bloomery.stages.train import Share, Train

TIME = 128


def distilled(
    *, tales: int = 8000, teacher_steps: int = 1200, steps: int = 400, share: float = 0.5, temperature: float = 2.0, inside: float = 1.0,
    seeds: int = 3, seed: int = 0,
) -> Recipe:
    """A teacher, and a student of a ninth of its size: with the same initial weights, rows and steps, alone and by the teacher's logits,
    with which tokens it takes for alike, and with where it looks.

    `share` is how much of the loss is the teacher's: (1 − share)·CE + share·T²·KL; `inside` weighs a term on inner states beside it.
    """
    tokens = tale_tokens(count=tales, seed=seed)
    common: dict[str, Any] = {
        "tokenizer": tokens.tokenizer, "sources": (Share(tokens=tokens.read),), "packing": Cut(), "max_seq_len": TIME, "batch_tokens": 2048,
    }  # fmt: skip
    teacher = Train(name="teacher", init=_model(128, 4), steps=teacher_steps, optimizer=tale_optimizer(3e-3, 1e-2), seed=seed, **common)
    logits = (1 - share) * CausalLM() + share * Distil(teacher=teacher, temperature=temperature)
    ways: dict[str, Objective] = {
        "alone": CausalLM(),
        "logits": logits,
        "similarity": logits + inside * DistilSimilarity(teacher=teacher),
        "attention": logits + inside * DistilAttention(teacher=teacher),
    }

    def student(name: str, objective: Objective, number: int) -> Train:
        return Train(
            name=f"{name}_{number}", init=_model(48, 2), objective=objective, steps=steps, optimizer=tale_optimizer(3e-3, 1e-2),
            seed=seed + number, **common,
        )  # fmt: skip

    compared = Paired(
        name="distilled", title="A student alone, and with a teacher", text=tokens.unread, max_seq_len=TIME, beside=(teacher,),
        ways=tuple(Way(name=name, runs=tuple(student(name, one, i) for i in range(seeds))) for name, one in ways.items()),
    )  # fmt: skip
    return Recipe(name="distilled", wanted=(compared,))


def _model(d_model: int, n_layers: int) -> Scratch:
    return Scratch(model=LlamaConfig(
        vocab_size=1024, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=round(2.75 * d_model), max_seq_len=TIME,
        init=WiredInit(embedding=0.4),
    ))  # fmt: skip
