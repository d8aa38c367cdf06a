"""What `transformers` makes of a folder, where it is installed: the last word on whether others read the same model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from bloomery.models import load_hub
from bloomery.stages.sharing.compared import Difference, difference, logits_of, text_for


def through_transformers(folder: Path) -> tuple[str, Difference] | None:
    """Its version, and how far what it says is from what we say, of the weights as they were written; None where it is not installed.

    Args:
        folder: as the hub has it, with weights in any precision; they are read in float32.
    """
    if find_spec("transformers") is None:
        return None
    import transformers

    config, model = load_hub(folder)
    showed_bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        theirs = getattr(transformers, config.to_hub()["architectures"][0]).from_pretrained(folder, dtype=torch.float32).eval()
    finally:
        if showed_bars:
            transformers.utils.logging.enable_progress_bar()
    tokens = text_for(config)
    asked = {"decoder_input_ids": tokens} if config.reads_passage else {}
    with torch.no_grad():
        said = theirs(input_ids=tokens, **asked).logits
    return transformers.__version__, difference(logits_of(model, tokens), said.float())
