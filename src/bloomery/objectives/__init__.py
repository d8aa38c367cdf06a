"""Losses, one file each: values handed to the loop."""

from bloomery.objectives.balance import LoadBalance, RouterZ
from bloomery.objectives.causal_lm import CausalLM
from bloomery.objectives.objective import Combined, Models, Objective, Reading, Sum, Total, real_tokens

__all__ = ["CausalLM", "Combined", "LoadBalance", "Models", "Objective", "Reading", "RouterZ", "Sum", "Total", "real_tokens"]
