"""How likely a model finds tokens of rows that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.models import Model
from bloomery.nn import SequenceLayout
from bloomery.nn.chunked import logits_by_chunk

PAD = 0  # any valid id: no token sees it


class Told(NamedTuple):
    """Tokens that were told from those before them, row by row.

    Attributes:
        logprobs: of each, in nats.
        tokens: their ids.
        rows: where they stand.
        likeliest: whether each is the model's first choice.
    """

    logprobs: Float[Tensor, " n"]
    tokens: Int[Tensor, " n"]
    rows: Int[Tensor, " n"]
    likeliest: Bool[Tensor, " n"]


@torch.no_grad()
def told_tokens(model: Model, rows: Sequence[tuple[Sequence[int] | np.ndarray, Sequence[bool] | np.ndarray]], device: str = "cpu") -> Told:
    """Reads rows beside each other, as far as the model reads.

    Args:
        model: as it is.
        rows: ids, and which of them are to be told; the first one of a row never is.
        device: of the model.
    """
    width = min(max(len(ids) for ids, _ in rows), model.config.max_seq_len)
    tokens = torch.full((len(rows), width), PAD, dtype=torch.long)
    wanted = torch.zeros_like(tokens, dtype=torch.bool)
    for i, (ids, mask) in enumerate(rows):
        read = min(len(ids), width)
        tokens[i, :read] = torch.as_tensor(ids[:read])
        wanted[i, : read - 1] = torch.as_tensor(mask[1:read], dtype=torch.bool)  # place t predicts token t + 1
    tokens, wanted = tokens.to(device), wanted.to(device)
    lengths = torch.tensor([len(ids) for ids, _ in rows], device=device)
    positions = torch.arange(width, device=device).expand_as(tokens)
    features = model.features(tokens, SequenceLayout(positions, (positions < lengths[:, None]).long()))[wanted]
    targets = tokens.roll(-1, dims=1)[wanted]
    logprobs, likeliest = [features.new_zeros(0, dtype=torch.float32)], [wanted.new_zeros(0)]
    for part, logits in logits_by_chunk(model.head, features):
        its = logits.float().log_softmax(-1).gather(-1, targets[part, None])[:, 0]
        logprobs.append(its)
        likeliest.append(logits.argmax(-1) == targets[part])
    return Told(torch.cat(logprobs), targets, wanted.nonzero()[:, 0], torch.cat(likeliest))
