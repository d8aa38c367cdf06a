"""`Environment`: what an agent observes and does, as a value; `World`: copies of one, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Integer

from bloomery.core.config import Config


class Moment(NamedTuple):
    """What the actions of all copies have led to.

    Attributes:
        observed: the state that each has come to.
        rewards: what each has earned by its action.
        ended: whether its episode is over, and nothing can come after.
        cut: whether it was broken off there, although more could have come.
    """

    observed: Float[np.ndarray, "copies n_observed"]
    rewards: Float[np.ndarray, " copies"]
    ended: Bool[np.ndarray, " copies"]
    cut: Bool[np.ndarray, " copies"]


class World(Protocol):
    """Copies of an environment."""

    def begin(self, copies: Bool[np.ndarray, " copies"]) -> Float[np.ndarray, "copies n_observed"]:
        """Begins new episodes in some of the copies; what all of them observe then."""
        ...

    def act(self, actions: Integer[np.ndarray, " copies"]) -> Moment:
        """Lets time pass by one step. Episodes that are over must be begun anew before the next."""
        ...


class Environment(Config, ABC):
    """What an agent lives in."""

    @property
    @abstractmethod
    def n_observed(self) -> int:
        """Numbers in an observation."""

    @property
    @abstractmethod
    def n_actions(self) -> int:
        """Actions to choose among."""

    @abstractmethod
    def open(self, copies: int, seed: int) -> World:
        """Copies whose episodes begin as the seed says."""
