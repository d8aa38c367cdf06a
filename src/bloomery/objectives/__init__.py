"""Losses, one file each: values handed to the loop."""

from bloomery.objectives.balance import LoadBalance, RouterZ
from bloomery.objectives.causal_lm import CausalLM
from bloomery.objectives.heads import HeadCrossEntropy, HeadLoss, HeadSquaredError
from bloomery.objectives.objective import Combined, Models, Objective, Reading, Sum, Total, real_tokens
from bloomery.objectives.replaced import ReplacedTokens

__all__ = [
    "CausalLM", "Combined", "HeadCrossEntropy", "HeadLoss", "HeadSquaredError", "LoadBalance", "Models", "Objective", "Reading",
    "ReplacedTokens", "RouterZ", "Sum", "Total", "real_tokens",
]  # fmt: skip
