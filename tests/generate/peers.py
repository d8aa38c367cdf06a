"""A small model of ours, and the same weights in transformers."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.models import LlamaConfig, save_hub
from bloomery.nn import FanInInit
from bloomery.text.tokenizer import Characters, Tokenizer

LETTERS, ENDS = "abcdefghijklmnopqrstuvwxyz A", ".!?,;:-+*/=#\n"
TOKENIZER = Tokenizer.train([LETTERS + ENDS], vocab_size=48, model=Characters())
END = TOKENIZER.end
CONFIG = LlamaConfig(
    vocab_size=48, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=64, tie_embeddings=False,
    init=FanInInit(gain=1.5, embedding=1.0),
)  # fmt: skip
MODEL = CONFIG.build(11).eval()
PROMPTS = [torch.randint(7, 48, (n,), generator=torch.Generator().manual_seed(i)).tolist() for i, n in enumerate([3, 8, 14] * 70)]
"""210 prompts, 70 of each length."""
NEW = 20


@cache
def peer() -> Any:
    """Read from what ours has written."""
    transformers = pytest.importorskip("transformers")
    with tempfile.TemporaryDirectory() as folder:
        save_hub(MODEL, CONFIG, Path(folder))
        return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def generated(
    prompts: list[list[int]] = PROMPTS, new: int = NEW, processor: Callable[[int], Any] | None = None, **options: Any
) -> list[list[int]]:
    """What transformers' `generate` writes to each prompt, up to the token that ends it; prompts of one length go together.

    Args:
        prompts: token ids.
        new: the most tokens of each.
        processor: from the length of a prompt to what changes scores behind it.
        options: of theirs.
    """
    by_length, told = defaultdict(list), {}
    for i, prompt in enumerate(prompts):
        by_length[len(prompt)].append(i)
    for length, numbers in by_length.items():
        ids = torch.tensor([prompts[i] for i in numbers])
        own = {} if processor is None else {"logits_processor": [processor(length)]}
        rows = peer().generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, eos_token_id=END, pad_token_id=END,
            **{"do_sample": False} | options | own,
        )  # fmt: skip
        for i, row in zip(numbers, rows[:, length:].tolist(), strict=True):
            told[i] = row[: row.index(END)] if END in row else row
    return [told[i] for i in range(len(prompts))]
