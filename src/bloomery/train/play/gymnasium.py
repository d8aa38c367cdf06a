"""`Gymnasium`: environments of the library of that name; an extra, `pip install 'bloomery[gymnasium]'`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from bloomery.core.errors import ConfigError
from bloomery.core.rng import derive_seed
from bloomery.train.play.environment import Environment, Moment


class Gymnasium(Environment):
    """One that observes a vector and has a few actions to choose among.

    Source: Towers et al. (2024), Gymnasium, arXiv 2407.17032.
    """

    id: str = "CartPole-v1"
    """As Gymnasium knows it."""

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        one = self.make()
        observed, actions = one.observation_space, one.action_space
        if len(observed.shape or ()) != 1 or not hasattr(actions, "n"):
            raise self.refuse("id", f"observes {observed} and acts in {actions}; take one with a vector and a choice of actions")
        return int(observed.shape[0]), int(actions.n)

    @property
    def n_observed(self) -> int:
        return self._sizes[0]

    @property
    def n_actions(self) -> int:
        return self._sizes[1]

    def make(self) -> Any:
        """One of them."""
        try:
            import gymnasium  # pyrefly: ignore[missing-import] (an extra)
        except ImportError:
            raise ConfigError(f"Gymnasium.id={self.id!r} needs the library: pip install 'bloomery[gymnasium]'; CartPole() needs none") from None
        return gymnasium.make(self.id)

    def open(self, copies: int, seed: int) -> Gyms:
        return Gyms([self.make() for _ in range(copies)], seed, self.n_observed)


class Gyms:
    """Gymnasium's environments side by side. The first episode of copy i begins as (seed, i) says, and the others as its own numbers go on."""

    def __init__(self, copies: list[Any], seed: int, n_observed: int) -> None:
        self._copies, self._observed, self._fresh = copies, np.zeros((len(copies), n_observed)), [True] * len(copies)
        self._seeds = [derive_seed(seed, "gym", i) % 2**31 for i in range(len(copies))]

    def begin(self, copies: Bool[np.ndarray, " copies"]) -> Float[np.ndarray, "copies n_observed"]:
        """See `World`."""
        for i in np.flatnonzero(copies).tolist():
            self._observed[i], _ = self._copies[i].reset(seed=self._seeds[i] if self._fresh[i] else None)
            self._fresh[i] = False
        return self._observed.copy()

    def act(self, actions: Integer[np.ndarray, " copies"]) -> Moment:
        """See `World`."""
        told = [copy.step(int(action)) for copy, action in zip(self._copies, actions, strict=True)]
        for i, (observed, *_) in enumerate(told):
            self._observed[i] = observed
        rewards, ended, cut = (np.array([one[k] for one in told]) for k in (1, 2, 3))
        return Moment(self._observed.copy(), rewards.astype(float), ended.astype(bool), cut.astype(bool) & ~ended.astype(bool))
