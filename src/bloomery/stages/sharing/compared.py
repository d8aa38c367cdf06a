"""Files that were written, read back and compared with the model that they are of: what they hold is what it is, and it says the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.core.errors import ArtifactError
from bloomery.models import AdaptedConfig, Model, ModelConfig, load_adapter, load_hub
from bloomery.models.gguf import load_gguf
from bloomery.models.hub import DTYPES, Written
from bloomery.nn import Passage, SequenceLayout

ROWS, LONGEST = 2, 64  # of the text that models are asked about
CLOSE = 1e-4  # of the largest logit: what the order of sums may move


class Difference(NamedTuple):
    """How far two models are from each other on the same text.

    Attributes:
        largest: of the differences between logits.
        scale: the largest logit.
        same: share of the places at which both find the same token likeliest.
    """

    largest: float
    scale: float
    same: float

    @property
    def close(self) -> bool:
        """Whether it is no more than the order of sums may move."""
        return self.largest <= CLOSE * max(self.scale, 1.0)

    def __str__(self) -> str:
        if not self.largest:
            return "the same logits"
        return f"logits within {self.largest:.2g} (the largest is {self.scale:.3g}), the same likeliest token at {self.same:.1%} of the places"


def text_for(config: ModelConfig) -> Int[Tensor, "rows time"]:
    """Random tokens, the same each time: rows as long as the model reads, or `LONGEST`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(config.vocab_size, (ROWS, min(LONGEST, config.max_seq_len)), generator=generator)


@torch.no_grad()
def logits_of(model: Model, tokens: Int[Tensor, "rows time"]) -> Float[Tensor, "rows time vocab"]:
    """What a model says about a text; an encoder–decoder has it as its passage, too."""
    rows, time = tokens.shape
    layout = SequenceLayout.rows(rows, time, causal=model.config.reads_forward)
    passage = Passage(tokens, SequenceLayout.rows(rows, time, causal=False)) if model.config.reads_passage else None
    return model.eval()(tokens, layout, passage=passage).float()


def difference(ours: Float[Tensor, "rows time vocab"], theirs: Float[Tensor, "rows time vocab"]) -> Difference:
    """Between what two models say about one text."""
    same = (ours.argmax(-1) == theirs.argmax(-1)).float().mean()
    return Difference(float((ours - theirs).abs().max()), float(ours.abs().max()), float(same))


def check_hub(folder: Path, model: Model, config: ModelConfig, written: Written = "fp32") -> Difference:
    """Reads a hub's folder back and compares it with the model.

    Args:
        folder: what was written.
        model: what it was written from; only its weights under the names of `config` are compared where it is an adapted one.
        config: of what was written.
        written: what weights were rounded to.

    Returns:
        How far rounding has moved what the model says; nothing in float32.

    Raises:
        ArtifactError: a weight is not the model's, rounded; or with the model's own weights the folder's model says something else.
    """
    read = load_hub(folder)[1]
    tokens, ours = text_for(config), {name: parameter.detach().cpu() for name, parameter in model.named_parameters()}
    for name, parameter in read.named_parameters():
        if not torch.equal(parameter, ours[name].to(DTYPES[written]).float()):
            raise ArtifactError(f"{folder}: {name} does not read back as it was written; write it again on another disk")
    rounded = logits_of(read, tokens)
    _pour(read, ours)
    exact = logits_of(read, tokens)
    if model.config == config:  # beneath an adapter it says something else
        _same(difference(logits_of(model.cpu(), tokens), exact), f"{folder}: its config.json")
    return difference(exact, rounded)


def check_adapter(folder: Path, model: Model) -> Difference:
    """Reads an adapter's folder back and compares the model under it with the adapted one.

    Raises:
        ArtifactError: a weight is not the model's, or the model says something else.
    """
    config = model.config
    assert isinstance(config, AdaptedConfig)
    adapter, weights = load_adapter(folder, config.base)
    again: Model = AdaptedConfig(base=config.base, adapter=adapter).build(seed=0)
    _pour(again, {name: parameter.detach().cpu() for name, parameter in model.named_parameters()} | dict(weights))
    tokens = text_for(config)
    return _same(difference(logits_of(model.cpu(), tokens), logits_of(again, tokens)), f"{folder}")


def check_gguf(path: Path, model: Model) -> Difference:
    """Reads a GGUF file back and says how far rounding has moved what the model says."""
    tokens = text_for(model.config)
    return difference(logits_of(model.cpu(), tokens), logits_of(load_gguf(path, model.config), tokens))


def _pour(model: Model, weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def _same(found: Difference, what: str) -> Difference:
    if not found.close:
        raise ArtifactError(f"{what} describes another model: with the same weights, {found}; this is a fault of the export, please report it")
    return found
