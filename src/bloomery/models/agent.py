"""An agent: a policy over few actions and what it expects to earn, from what it observes at each moment; no text, and no memory.

    π(a | o) = softmax(W · tower(o)),   V(o) = w · tower'(o),   towers of two layers with tanh

Source: Schulman et al. (2017), PPO, arXiv 1707.06347, section 6.1; policy and value share nothing, as Andrychowicz et al. (2020), arXiv
2006.05990, section 3.2, find best where observations are few numbers.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.models.heads import ValueConfig
from bloomery.models.model import Model, ModelConfig
from bloomery.nn.cache import Cache
from bloomery.nn.head import UntiedConfig
from bloomery.nn.init import FanInInit, WeightInit
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.seen import Seen


class AgentInit(FanInInit):
    """Hidden matrices by their inputs, and heads near 0, so that all actions are as likely at first.

    Source: Andrychowicz et al. (2020), arXiv 2006.05990, section 3.2.
    """

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        return super().std_of(use, fan_in, fan_out, n_layers) * (0.01 if use is Use.HEAD else 1.0)


class AgentConfig(ModelConfig):
    """The sizes of an agent."""

    n_observed: Annotated[int, Ge(1)]
    """Numbers that it observes at a moment."""
    n_actions: Annotated[int, Ge(2)]
    """Actions that it can take."""
    d_model: Annotated[int, Ge(1)] = 64
    """Width of the hidden layers."""
    init: WeightInit = AgentInit(gain=2**0.5)
    """What fresh weights are drawn from."""

    @property
    def vocab_size(self) -> int:
        """Actions: what text models have tokens for."""
        return self.n_actions

    @property
    def n_layers(self) -> int:
        """Hidden layers of a tower."""
        return 2

    @property
    def max_seq_len(self) -> int:
        """It looks at one moment only, so that a course may have any length."""
        return 1 << 30

    def skeleton(self) -> Agent:
        return Agent(self)

    def flops_per_token(self, seq_len: int) -> float:
        tower = self.d_model * (self.n_observed + self.d_model)
        return 6.0 * (2 * tower + self.d_model * (self.n_actions + 1))


class Agent(Model):
    """See `AgentConfig`. In the place of tokens it reads observations, (batch, time, n_observed)."""

    def __init__(self, config: AgentConfig) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.policy, self.value = (_tower(config) for _ in range(2))
        self.head = UntiedConfig(bias=True).build(nn.Embedding(config.n_actions, config.d_model))
        self.heads = nn.ModuleDict({"value": ValueConfig().build(config.d_model)})

    def features(
        self, tokens: Float[Tensor, "batch time n_observed"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        if seen is not None:
            seen.last = self.value(tokens)
        return self.policy(tokens)

    def scores_of(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> dict[str, Tensor]:
        """What the head for values makes of the states of its tower."""
        return {name: head(states, layout) for name, head in self.heads.items()}

    @torch.no_grad()
    def both(
        self, observed: Float[Tensor, "batch time n_observed"]
    ) -> tuple[Float[Tensor, "batch time n_actions"], Float[Tensor, "batch time"]]:
        """Logits of actions, and values."""
        rows, time, _ = observed.shape
        layout = SequenceLayout.rows(rows, time)
        return self.unembed(self.policy(observed)), self.scores_of(self.value(observed), layout)["value"][:, :, 0]


def _tower(config: AgentConfig) -> nn.Sequential:
    d = config.d_model
    return nn.Sequential(Linear(config.n_observed, d, Use.FF_IN, bias=True), nn.Tanh(), Linear(d, d, Use.FF_IN, bias=True), nn.Tanh())
