"""Losses, one file each: values handed to the loop."""

from bloomery.objectives.alike import CoSENT, CosineSquaredError, InfoNCE, VectorLoss
from bloomery.objectives.balance import LoadBalance, RouterZ
from bloomery.objectives.causal_lm import CausalLM
from bloomery.objectives.distil import Distil, Divergence, ForwardKL, FromTeacher, JensenShannon, ReverseKL
from bloomery.objectives.distil_inside import DistilAttention, DistilHidden, DistilSimilarity, InsideTeacher
from bloomery.objectives.ewc import EWC
from bloomery.objectives.frozen import Frozen, Importance
from bloomery.objectives.heads import HeadCrossEntropy, HeadLoss, HeadSquaredError
from bloomery.objectives.l2_sp import L2SP
from bloomery.objectives.objective import Combined, Models, Objective, Penalty, Reading, Sum, Total, real_tokens
from bloomery.objectives.replaced import ReplacedTokens

__all__ = [
    "EWC", "L2SP", "CausalLM", "CoSENT", "Combined", "CosineSquaredError", "Distil", "DistilAttention", "DistilHidden", "DistilSimilarity",
    "Divergence", "ForwardKL", "FromTeacher", "Frozen", "HeadCrossEntropy", "HeadLoss", "HeadSquaredError", "Importance", "InfoNCE",
    "InsideTeacher", "JensenShannon", "LoadBalance", "Models", "Objective", "Penalty", "Reading", "ReplacedTokens", "ReverseKL", "RouterZ",
    "Sum", "Total", "VectorLoss", "real_tokens",
]  # fmt: skip
