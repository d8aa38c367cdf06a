"""Reinforcement learning without text: an agent learns to keep a pole upright on a cart, by the losses that policies of texts learn by."""

from __future__ import annotations

from bloomery.recipe import Recipe
from bloomery.stages.play import Play
from bloomery.train.play import CartPole, Gymnasium


def cart_pole(*, gymnasium: str = "", moments: int = 195_000, seeds: int = 3, seed: int = 0) -> Recipe:
    """PPO on our own cart, or on an environment of Gymnasium's by its id: --gymnasium CartPole-v1."""
    environment = Gymnasium(id=gymnasium) if gymnasium else CartPole()
    runs = (Play(name=f"seed_{number}", environment=environment, moments=moments, seed=seed + number) for number in range(seeds))
    return Recipe(name="cart_pole", wanted=tuple(runs))
