"""Reinforcement learning without text: an agent acts in environments, and learns by the same credit, losses and loop as a policy that writes.

    environment   what is observed, and what actions lead to
    cart_pole     a pole on a cart, ours
    gymnasium     any environment of Gymnasium's with few numbers and few actions
    episodes      the source of rows: what an agent did, and what it was worth
"""

from bloomery.train.play.cart_pole import CartPole
from bloomery.train.play.environment import Environment, Moment, World
from bloomery.train.play.episodes import Episodes, returns_of
from bloomery.train.play.gymnasium import Gymnasium

__all__ = ["CartPole", "Environment", "Episodes", "Gymnasium", "Moment", "World", "returns_of"]
