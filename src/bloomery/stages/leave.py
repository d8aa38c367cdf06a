"""What a training leaves of its model, at its end, or on the way as the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bloomery.mesh import Holding
from bloomery.models import AdaptedConfig, ModelConfig, save_adapter, wholes_of, write_held_model

PARTS = ("model", "adapter")


def leave_model(folder: Path, config: ModelConfig, holding: Holding, values: Mapping[str, Tensor] | None = None) -> None:
    """Writes `model/`, and, where an adapter was trained instead of it, this alone in `adapter/`. All ranks must ask.

    Args:
        folder: where to.
        config: of the model while it is trained.
        holding: its parameters, as this rank holds them.
        values: what is written in the stead of some, by name: of their average, say.
    """
    write_held_model(folder / "model", config, holding, values)
    if isinstance(config, AdaptedConfig):
        weights = dict(wholes_of(config, holding, config.trained, values))
        if holding.mesh.leads:
            save_adapter(folder / "adapter", config, weights)
