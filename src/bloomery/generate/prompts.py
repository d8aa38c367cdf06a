"""Prompts, and passages that are read beside them: whether a model can go on with them, and how they become the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from bloomery.core.errors import DataError
from bloomery.models.model import CausalModel
from bloomery.nn.layout import Passage, SequenceLayout

PADDING_ID = 0  # any valid id: what it leaves in the cache is overwritten before it is seen


def as_passage(model: CausalModel, passages: Sequence[Sequence[int]] | None) -> Passage | None:
    """Passages as the rows of a batch, padded on the right."""
    if passages is None:
        return None
    tokens, lengths = padded(passages, model.device)
    real = (torch.arange(tokens.shape[1], device=model.device) < lengths[:, None]).long()
    return Passage(tokens, SequenceLayout.packed(real, causal=False))


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Int[Tensor, "batch longest"], Int[Tensor, " batch"]]:
    """Rows of different lengths, padded on the right; and the lengths."""
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[*row, *[PADDING_ID] * (longest - len(row))] for row in rows], device=device)
    return tokens, torch.tensor([len(row) for row in rows], device=device)


def room_behind(model: CausalModel, prompt: Sequence[int], what: str = "the prompt") -> int:
    """How many tokens fit behind a prompt; raises `DataError` where none do, or where the model does not know it."""
    longest = model.config.max_seq_len
    if not prompt:
        raise DataError(f"{what} is empty; begin it with the token that begins a document")
    if len(prompt) >= longest:
        over = len(prompt) + 1 - longest
        raise DataError(f"{what} has {len(prompt)} tokens, and with one new token that is {over} more than max_seq_len={longest}; shorten it")
    _check_ids(model, prompt, what)
    return longest - len(prompt)


def _check_ids(model: CausalModel, ids: Sequence[int], what: str) -> None:
    vocab_size = model.config.vocab_size
    if not 0 <= min(ids) <= max(ids) < vocab_size:
        alien = next(token for token in ids if not 0 <= token < vocab_size)
        raise DataError(f"{what} has the token id {alien}, and the model knows 0 to {vocab_size - 1}; encode it with the model's own tokenizer")


def check_passages(model: CausalModel, passages: Sequence[Sequence[int]] | None, n_prompts: int) -> None:
    """Raises `DataError` where they do not go with the model or the prompts."""
    kind = model.config.kind()
    if passages is None:
        if model.config.reads_passage:
            raise DataError(f"a {kind} writes about a passage, and there is none; give one beside the prompt")
        return
    if not model.config.reads_passage:
        raise DataError(f"a {kind} reads no passage beside the prompt; put what it is to read into the prompt")
    if len(passages) != n_prompts:
        raise DataError(f"there are {len(passages)} passages for {n_prompts} prompts; give one for each")
    for i, passage in enumerate(passages):
        check_text(model, passage, f"passage {i}")


def check_text(model: CausalModel, text: Sequence[int], what: str) -> None:
    """Raises `DataError` where a model cannot read a text as a whole."""
    longest = model.config.max_seq_len
    if not 0 < len(text) <= longest:
        raise DataError(f"{what} has {len(text)} tokens, and the model reads 1 to max_seq_len={longest}; give as many")
    _check_ids(model, text, what)
