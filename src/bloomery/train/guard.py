"""`Guard`: measures how far an update moves the weights, and takes back one that moves them too far, without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bloomery.mesh import Holding


class Guard:
    """Makes updates, and holds them to a limit. It needs a copy of the weights that are trained, as this rank holds them.

    An update that is taken back leaves the weights as they were. The optimiser's moments have taken in the gradient then, which was sound: it
    is the next update that is the smaller for it.

    Args:
        holding: the parameters.
    """

    def __init__(self, holding: Holding) -> None:
        self._held, self._world = holding.trainable(), holding.mesh.world
        self.before = {held.name: torch.empty_like(held.local) for held in self._held}
        """The weights before the last update, by name."""

    @torch.no_grad()
    def update(self, make: Callable[[], None], limit: float) -> Tensor:
        """Makes an update, and takes it back if its size is above the limit, or is not a number.

            size = ‖θ′ − θ‖ / ‖θ‖, over all parameters that are trained and all ranks

        Args:
            make: changes the weights.
            limit: the largest size; ∞ takes back only what is not finite.

        Returns:
            (size, 1 if it was taken back), on the device.
        """
        weights = [held.local.detach() for held in self._held]
        before = list(self.before.values())
        torch._foreach_copy_(before, weights)
        make()
        pairs = [(new, old) for new, old, held in zip(weights, before, self._held, strict=True) if held.speaks]
        moved, whole = [torch.dist(new, old) for new, old in pairs], [torch.linalg.vector_norm(old) for _, old in pairs]
        zero = [before[0].new_zeros(())]  # a rank may speak for none
        squares = torch.stack([torch.stack(norms or zero).double().square().sum() for norms in (moved, whole)])
        size = torch.div(*self._world.sum_(squares).sqrt().unbind())
        refused = ~((size <= limit) & size.isfinite())
        for new, old in zip(weights, before, strict=True):
            torch.where(refused, old, new, out=new)
        return torch.stack([size, refused.double()]).float()
