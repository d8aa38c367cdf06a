"""Rewards: what an answer is worth, as values. Several of them add up by their weights; one of weight 0 is only watched."""

from bloomery.train.rewards.model import Likelier, Scored
from bloomery.train.rewards.reward import Answer, Reward, Verifiable
from bloomery.train.rewards.steps import Stepwise
from bloomery.train.rewards.tales import TrueTale
from bloomery.train.rewards.verifiable import Format, KnownAnswer, Longer, Overlong, Quantity
from bloomery.train.rewards.watch import Proxies

__all__ = [
    "Answer", "Format", "KnownAnswer", "Likelier", "Longer", "Overlong", "Proxies", "Quantity", "Reward", "Scored", "Stepwise", "TrueTale",
    "Verifiable",
]  # fmt: skip
