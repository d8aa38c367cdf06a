"""What optimisers share: rates and decays by what a parameter is, and steps over all parameters of a group at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from bloomery.optim.groups import Member, Role
from bloomery.optim.optimizer import OptimizerConfig


class Graded(OptimizerConfig):
    """Optimisers with one rule for all parameters, and rates and decays by what a parameter is. Subclasses write `part`.

    Matrices and the head decay by λ, embeddings by a λ of their own, vectors (norms, biases) never.
    """

    embedding_rate: Annotated[float, Gt(0)] = 1.0
    """Rate of embeddings, relative to `learning_rate`."""
    head_rate: Annotated[float, Gt(0)] = 1.0
    """Rate of an untied head, relative to `learning_rate`."""
    weight_decay: Annotated[float, Ge(0)] = 0.1
    """λ of matrices and of the head."""
    embedding_decay: Annotated[float, Ge(0)] = 0.0
    """λ of embeddings."""

    def parts(self, everything: Sequence[Member]) -> Sequence[torch.optim.Optimizer]:
        return [self.part(everything)]

    @abstractmethod
    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        """The torch optimiser for the members of some roles."""

    def pace(self, member: Member) -> float:
        """The factor on a member's rate that its model's initialisation (µP) asks for under this rule.

        Where an update's size goes by the rate alone, as under Adam, it is the member's own.
        """
        return member.rate

    def decay(self, decay: float, pace: float) -> float:
        """λ at a pace. Where an update has λθ on its own, it is divided by the pace, so that decay goes on as at any other."""
        return decay / pace

    def groups(self, everything: Sequence[Member], roles: Collection[Role], vector_rate: float = 1.0) -> list[dict[str, Any]]:
        """torch's groups of parameters for the members of some roles."""
        settings = {
            Role.MATRIX: (self.learning_rate, self.weight_decay),
            Role.HEAD: (self.learning_rate * self.head_rate, self.weight_decay),
            Role.EMBEDDING: (self.learning_rate * self.embedding_rate, self.embedding_decay),
            Role.VECTOR: (self.learning_rate * vector_rate, 0.0),
        }
        groups: list[dict[str, Any]] = []
        for role in roles:
            (rate, decay), of_role = settings[role], [member for member in everything if member.role is role]
            paces = [(member.parameter, (self.pace(member), member.layer_rate)) for member in of_role]
            for pace, layer_rate in dict.fromkeys(both for _, both in paces):
                parameters = [parameter for parameter, own in paces if own == (pace, layer_rate)]
                lr = rate * pace * layer_rate
                groups.append({"params": parameters, "lr": lr, "weight_decay": self.decay(decay, pace), "role": role})
        return groups


class Stepper(torch.optim.Optimizer):
    """A torch optimiser of ours. Subclasses write `update`, for all parameters of a group at once.

    Args:
        groups: as `Graded.groups` makes them.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self.update(group, parameters, [parameter.grad for parameter in parameters])

    def update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Moves parameters by their gradients, which it leaves as they are.

        Args:
            group: `lr` and `weight_decay` of this step, and `role`.
            parameters: those that have a gradient.
            gradients: of each.
        """
        raise NotImplementedError

    def slots(self, name: str, parameters: Sequence[Tensor], like: Sequence[Tensor] | None = None) -> list[Tensor]:
        """A part of the state of each parameter, from zeros of its own shape or of those in `like`."""
        for parameter, shaped in zip(parameters, like or parameters, strict=True):
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(shaped, memory_format=torch.preserve_format)
        return [self.state[parameter][name] for parameter in parameters]

    def count(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """How many steps each has taken, this one included: doubles, on its device."""
        steps = self.slots("step", parameters, [parameter.new_zeros(()) for parameter in parameters])
        torch._foreach_add_(steps, 1.0)
        return [step.double() for step in steps]
