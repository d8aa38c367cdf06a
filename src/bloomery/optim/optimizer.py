"""`OptimizerConfig`, the value, and `Optimizer`, what it builds: groups with rates of their own, and a state keyed by canonical names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from bloomery.core.config import Config
from bloomery.core.errors import ArtifactError
from bloomery.optim.groups import Member, members
from bloomery.optim.layer_rates import EvenRates, LayerRates


class OptimizerConfig(Config):
    """How gradients become updates. Subclasses write `parts`."""

    learning_rate: Annotated[float, Gt(0)] = 3e-3
    """Full rate η; the schedule's factor multiplies it."""
    layer_rates: LayerRates = EvenRates()
    """Factors on all rates by layer: `EvenRates()`, `Geometric()` or `CosineRates()`."""

    def build(self, model: nn.Module) -> Optimizer:
        """The optimiser for all trainable parameters of a model."""
        return self.of(members(model))

    def of(self, everything: Sequence[Member]) -> Optimizer:
        """The optimiser for these parameters, of which there may be parts only: those that this rank holds."""
        return Optimizer(everything, self.parts(self.layer_rates.over(everything)))

    def parts(self, everything: Sequence[Member]) -> Sequence[torch.optim.Optimizer]:
        """The torch optimisers that step together, with the full rates of all parameters."""
        raise NotImplementedError

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules by which it moves weights: optimisers that have the same can go on with each other's state."""
        return (self.kind(),)

    def at(self, learning_rate: float) -> OptimizerConfig:
        """The same at another learning rate; rates that go with it keep their ratio."""
        return self.replace(learning_rate=learning_rate)


class Optimizer:
    """One or several torch optimisers that step together.

    Args:
        members: the parameters, for their names.
        parts: torch optimisers, whose groups' `lr` at this moment are the full rates, which each step multiplies by the schedule's factor.
    """

    def __init__(self, members: Sequence[Member], parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)
        self.parameters = [member.parameter for member in members]
        self._names: dict[Tensor, str] = {member.parameter: member.name for member in members}
        self._groups = [(group, float(group["lr"])) for part in parts for group in part.param_groups]

    def step(self, factor: float = 1.0) -> None:
        """Updates every parameter with its group's rate times `factor`."""
        for group, rate in self._groups:
            group["lr"] = rate * factor
        for part in self.parts:
            self.update(part)

    def update(self, part: torch.optim.Optimizer) -> None:
        """Steps with one of them, whose groups have their rates."""
        part.step()

    @property
    def learning_rate(self) -> float:
        """The rate of the last step, the highest of all groups."""
        return max(group["lr"] for group, _ in self._groups)

    @property
    def rates(self) -> dict[str, float]:
        """The rates of the last step by role ("matrix", "embedding", "head", "vector"), of each the highest; of those that are here."""
        found: dict[str, float] = {}
        for group, _ in self._groups:
            role = group["role"].value
            found[role] = max(group["lr"], found.get(role, 0.0))
        return found

    def zero_grad(self) -> None:
        """Lets go of all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients that exist."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def state(self) -> dict[str, Tensor]:
        """All state as tensors under `<canonical name>|<slot>`; not copies."""
        return {f"{self._names[p]}|{slot}": v for part in self.parts for p, slots in part.state.items() for slot, v in slots.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over a state that `state` gave, and forgets its own.

        Raises:
            ArtifactError: it belongs to another model.
        """
        slots: dict[str, dict[str, Tensor]] = {}
        for path, value in state.items():
            name, slot = path.rsplit("|", 1)
            slots.setdefault(name, {})[slot] = value.clone()
        if unknown := slots.keys() - set(self._names.values()):
            raise ArtifactError(f"the optimiser's state has {min(unknown)!r}, which the model has not; it belongs to another model")
        for part in self.parts:
            for group in part.param_groups:
                for parameter in group["params"]:
                    part.state.pop(parameter, None)
                    if self._names[parameter] in slots:
                        own = slots[self._names[parameter]]
                        part.state[parameter] = {slot: value.to(parameter.device) for slot, value in own.items()}
