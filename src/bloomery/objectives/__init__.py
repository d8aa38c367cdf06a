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
from bloomery.objectives.objective import Combined, Models, Objective, Penalty, Reading, Sum, Total, real_tokens, terms_of
from bloomery.objectives.pairs import DPO, IPO, ORPO, BradleyTerry, DirectLoss, PairLoss, SimPO
from bloomery.objectives.policy import Entropy, OfSamples, Over, OverBudget, OverSequences, OverTokens, PolicyGradient, ReferenceKL
from bloomery.objectives.rankings import PlackettLuce, RankedDPO, RankingLoss
from bloomery.objectives.replaced import ReplacedTokens
from bloomery.objectives.value import ValueLoss
from bloomery.objectives.verdicts import KTO

__all__ = [
    "DPO",
    "EWC",
    "IPO",
    "KTO",
    "L2SP",
    "ORPO",
    "BradleyTerry",
    "CausalLM",
    "CoSENT",
    "Combined",
    "CosineSquaredError",
    "DirectLoss",
    "Distil",
    "DistilAttention",
    "DistilHidden",
    "DistilSimilarity",
    "Divergence",
    "Entropy",
    "ForwardKL",
    "FromTeacher",
    "Frozen",
    "HeadCrossEntropy",
    "HeadLoss",
    "HeadSquaredError",
    "Importance",
    "InfoNCE",
    "InsideTeacher",
    "JensenShannon",
    "LoadBalance",
    "Models",
    "Objective",
    "OfSamples",
    "Over",
    "OverBudget",
    "OverSequences",
    "OverTokens",
    "PairLoss",
    "Penalty",
    "PlackettLuce",
    "PolicyGradient",
    "RankedDPO",
    "RankingLoss",
    "Reading",
    "ReferenceKL",
    "ReplacedTokens",
    "ReverseKL",
    "RouterZ",
    "SimPO",
    "Sum",
    "Total",
    "ValueLoss",
    "VectorLoss",
    "real_tokens",
    "terms_of",
]  # fmt: skip
