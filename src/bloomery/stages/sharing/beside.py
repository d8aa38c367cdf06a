"""What `transformers` makes of a folder, where it is installed: the last word on whether others read the same model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from bloomery.models import Model
from bloomery.stages.sharing.compared import Difference, difference, logits_of, text_for


def through_transformers(folder: Path, model: Model) -> tuple[str, Difference] | None:
    """Its version, and how far what it says is from what the model says; None where it is not installed.

    Args:
        folder: as the hub has it, with weights in any precision; they are read in float32.
        model: that the folder was written from.
    """
    if find_spec("transformers") is None:
        return None
    import transformers

    reads = {name: getattr(transformers, name) for name in model.config.to_hub()["architectures"]}  # type: ignore[attr-defined]
    theirs = next(iter(reads.values())).from_pretrained(folder, dtype=torch.float32).eval()
    tokens = text_for(model.config)
    asked = {"decoder_input_ids": tokens} if model.config.reads_passage else {}
    with torch.no_grad():
        said = theirs(input_ids=tokens, **asked).logits
    return transformers.__version__, difference(logits_of(model.cpu(), tokens), said.float())
