"""Texts as vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bloomery.generate.prompts import check_text, padded
from bloomery.models.model import CausalModel
from bloomery.nn.layout import SequenceLayout

AT_ONCE = 16


@torch.inference_mode()
def embedded(model: CausalModel, texts: Sequence[Sequence[int]]) -> Float[Tensor, "texts d_features"]:
    """The mean of what the vocabulary's head reads over the tokens of each text, of length 1.

    Args:
        model: as it is.
        texts: token ids, one at least of each.

    Raises:
        DataError: a text is empty, too long, or has an id that the model does not know.
    """
    for i, text in enumerate(texts):
        check_text(model, text, f"input {i}")
    found = []
    for start in range(0, len(texts), AT_ONCE):
        tokens, lengths = padded(texts[start : start + AT_ONCE], model.device)
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        real = positions < lengths[:, None]
        features = model.features(tokens, SequenceLayout(positions, real.long())).float()
        found.append(F.normalize((features * real[..., None]).sum(1), dim=-1))
    return torch.cat(found).cpu()
