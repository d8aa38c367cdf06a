"""`CartPole`: a pole stands on a cart, which is pushed to the left or to the right; how long does it stay upright?

    θ̈ = (g·sin θ − cos θ·f) / (l·(4/3 − m·cos² θ / M)),   f = (F + m·l·θ̇²·sin θ) / M,   ẍ = f − m·l·θ̈·cos θ / M

M being the mass of cart and pole, l half the length of the pole, F = ±10 N, in steps of 0.02 s by Euler's method. Each step earns 1. The
episode ends where the pole leans by more than 12° or the cart is further out than 2.4, and is broken off after 500 steps.

Source: Barto, Sutton and Anderson (1983), "Neuronlike Adaptive Elements That Can Solve Difficult Learning Control Problems"; constants and
limits are those of Gymnasium's CartPole-v1.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Gt
from jaxtyping import Bool, Float, Integer

from bloomery.core.rng import numpy_rng
from bloomery.train.play.environment import Environment, Moment

GRAVITY, CART, POLE, HALF, FORCE, TICK = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
FURTHEST, STEEPEST = 2.4, 12 * 2 * np.pi / 360


class CartPole(Environment):
    """See above. Observed are position, speed, angle and speed of the angle."""

    longest: Annotated[int, Gt(0)] = 500
    """Steps after which an episode is broken off."""

    @property
    def n_observed(self) -> int:
        return 4

    @property
    def n_actions(self) -> int:
        return 2

    def open(self, copies: int, seed: int) -> CartPoles:
        return CartPoles(copies, seed, self.longest)


class CartPoles:
    """Carts side by side. Episode k of cart i begins as (seed, i, k) says.

    Attributes:
        states: (copies, 4).
    """

    def __init__(self, copies: int, seed: int, longest: int) -> None:
        self.states, self._seed, self._longest = np.zeros((copies, 4)), seed, longest
        self._episodes, self._steps = np.zeros(copies, int), np.zeros(copies, int)

    def begin(self, copies: Bool[np.ndarray, " copies"]) -> Float[np.ndarray, "copies 4"]:
        """See `World`."""
        for i in np.flatnonzero(copies).tolist():
            self.states[i] = numpy_rng("cart", self._seed, i, int(self._episodes[i])).uniform(-0.05, 0.05, 4)
            self._episodes[i] += 1
            self._steps[i] = 0
        return self.states.copy()

    def act(self, actions: Integer[np.ndarray, " copies"]) -> Moment:
        """See `World`."""
        self.states = pushed(self.states, actions)
        self._steps += 1
        ended = (np.abs(self.states[:, 0]) > FURTHEST) | (np.abs(self.states[:, 2]) > STEEPEST)
        return Moment(self.states.copy(), np.ones(len(actions)), ended, ~ended & (self._steps >= self._longest))


def pushed(states: Float[np.ndarray, "copies 4"], actions: Integer[np.ndarray, " copies"]) -> Float[np.ndarray, "copies 4"]:
    """Where carts are a step later; action 1 pushes to the right."""
    x, speed, angle, turn = states.T
    sin, cos, mass, lever = np.sin(angle), np.cos(angle), CART + POLE, POLE * HALF
    push = (np.where(actions == 1, FORCE, -FORCE) + lever * turn**2 * sin) / mass
    turning = (GRAVITY * sin - cos * push) / (HALF * (4 / 3 - POLE * cos**2 / mass))
    gaining = push - lever * turning * cos / mass
    return np.stack([x + TICK * speed, speed + TICK * gaining, angle + TICK * turn, turn + TICK * turning], 1)
