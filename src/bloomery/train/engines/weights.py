"""The weights that a policy writes by, for engines that do not hold the policy itself."""

from __future__ import annotations

from torch import Tensor

from bloomery.models import Model, ModelConfig
from bloomery.models.tasks import TaskConfig
from bloomery.nn.init import Pour


def writing_weights(model: Model) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A policy as an engine needs it: its config, and its weights by name; adapters taken in where they can be, heads for tasks left out.

    Args:
        model: the policy, of which this rank has all.
    """
    stored, found = model.config.stored(), dict[str, Tensor]()

    def own(pour: Pour) -> None:
        for name, parameter in model.named_parameters():
            pour(name, parameter.detach())

    stored.filled(own)(found.__setitem__)
    if not isinstance(stored.config, TaskConfig):
        return stored.config, found
    return stored.config.base, {name.removeprefix("base."): whole for name, whole in found.items() if name.startswith("base.")}
