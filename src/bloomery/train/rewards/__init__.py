"""Rewards: what an answer is worth, as values. Several of them add up by their weights; one of weight 0 is only watched."""

from bloomery.train.rewards.reward import Answer, Reward, Verifiable
from bloomery.train.rewards.tales import TaleTruth
from bloomery.train.rewards.verifiable import Exact, Format, Length, Overlong, Quantity
from bloomery.train.rewards.watch import Proxies

__all__ = ["Answer", "Exact", "Format", "Length", "Overlong", "Proxies", "Quantity", "Reward", "TaleTruth", "Verifiable"]
