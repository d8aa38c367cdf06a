"""Mixtures of experts: feed-forward layers of which each token uses a few. And the values they are built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.mesh.divide import Cut, Peopled
from bloomery.nn.feedforward import Activation, FeedForwardConfig, GatedFeedForward, activation_function
from bloomery.nn.grouped import grouped_product
from bloomery.nn.init import Draw, Initialised
from bloomery.nn.linear import Linear, Use
from bloomery.nn.part import Part


@dataclass(frozen=True, eq=False)
class Routing:
    """Where a router sends tokens.

    Attributes:
        logits: (tokens, n_experts), float32.
        shares: (tokens, n_experts), how much the router likes each expert, adding up to 1 for each token.
        experts: (tokens, n_active), numbers of the chosen ones, each once.
        weights: (tokens, n_active), factors on what they say.
    """

    logits: Float[Tensor, "tokens n_experts"]
    shares: Float[Tensor, "tokens n_experts"]
    experts: Int[Tensor, "tokens n_active"]
    weights: Float[Tensor, "tokens n_active"]


class RouterConfig(Part):
    """How tokens choose experts."""

    renormalise: bool = True
    """Whether the weights of the chosen experts are scaled to add up to 1."""

    def check_experts(self, n_experts: int, n_active: int) -> str:
        """Why it cannot choose so many of so many; empty where it can."""
        return ""

    @abstractmethod
    def build(self, d_model: int, n_experts: int, n_active: int) -> Router:
        """The module."""


class SoftmaxRouterConfig(RouterConfig):
    """See `SoftmaxRouter`."""

    def build(self, d_model: int, n_experts: int, n_active: int) -> SoftmaxRouter:
        return SoftmaxRouter(d_model, n_experts, n_active, self.renormalise)


class SigmoidRouterConfig(RouterConfig):
    """See `SigmoidRouter`."""

    scale: Annotated[float, Gt(0)] = 1.0
    """Factor on the weights."""
    n_groups: Annotated[int, Gt(0)] = 1
    """Groups of neighbouring experts, as many in each."""
    n_active_groups: Annotated[int, Gt(0)] = 1
    """Groups that a token's experts come from."""

    def check(self) -> None:
        if self.n_active_groups > self.n_groups:
            raise self.refuse("n_active_groups", f"is more than n_groups={self.n_groups}; give at most that many")

    def check_experts(self, n_experts: int, n_active: int) -> str:
        if self.n_groups == 1:
            return ""
        if n_experts % self.n_groups or n_experts // self.n_groups < 2:
            return f"has n_groups={self.n_groups}, which do not share n_experts={n_experts} evenly with two or more each; 1 would do"
        if n_active > (room := self.n_active_groups * n_experts // self.n_groups):
            return f"has n_active_groups={self.n_active_groups} with {room} experts, fewer than n_active={n_active}; raise n_active_groups"
        return ""

    def build(self, d_model: int, n_experts: int, n_active: int) -> SigmoidRouter:
        return SigmoidRouter(d_model, n_experts, n_active, self)


class ExpertsConfig(FeedForwardConfig):
    """See `Experts`."""

    n_experts: Annotated[int, Gt(0)]
    """Experts to choose from."""
    n_active: Annotated[int, Gt(0)]
    """Experts that each token chooses."""
    d_ff: Annotated[int, Gt(0)]
    """Width of the hidden layer of each."""
    n_shared: Annotated[int, Ge(0)] = 0
    """Further experts that every token goes to, as one whose hidden layer is n_shared · d_ff wide."""
    activation: Activation = "silu"
    """Of the gates."""
    router: RouterConfig = SoftmaxRouterConfig()
    """How tokens choose."""

    def check(self) -> None:
        if self.n_active > self.n_experts:
            raise self.refuse("n_active", f"is more than n_experts={self.n_experts}; give at most that many")
        if reason := self.router.check_experts(self.n_experts, self.n_active):
            raise self.refuse("router", reason)

    def build(self, d_model: int) -> Experts:
        return Experts(d_model, self)

    def flops(self, d_model: int) -> float:
        """Of the router and the experts that a token uses."""
        return 2.0 * d_model * self.n_experts + 2.0 * 3 * d_model * self.d_ff * (self.n_active + self.n_shared)

    def idle_params(self, d_model: int) -> int:
        return 3 * d_model * self.d_ff * (self.n_experts - self.n_active)


class Router(nn.Module, ABC):
    """Chooses experts for each token by a linear map of what the layer reads.

    Args:
        d_model: width of what it reads.
        n_experts: to choose from.
        n_active: to be chosen.
        renormalise: whether the weights are scaled to add up to 1.
    """

    def __init__(self, d_model: int, n_experts: int, n_active: int, renormalise: bool) -> None:
        super().__init__()
        self.map = Linear(d_model, n_experts, Use.OTHER)
        self.n_experts, self.n_active, self.renormalise = n_experts, n_active, renormalise

    @abstractmethod
    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        """Where each token goes."""


class SoftmaxRouter(Router):
    """The most probable experts, weighed by their probabilities:  p = softmax(W·x);  w_e = p_e (/ Σ of the chosen).

    Source: Shazeer et al. (2017), arXiv 1701.06538; over all experts and renormalised in Mixtral (Jiang et al. 2024, arXiv 2401.04088; the
    same as its softmax over the chosen), without that in OLMoE (Muennighoff et al. 2024, arXiv 2409.02060). No noise is added.
    """

    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        logits = self.map(x).to(torch.promote_types(x.dtype, torch.float32))
        shares = logits.softmax(-1)
        weights, experts = shares.topk(self.n_active, dim=-1)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, shares, experts, weights)


class SigmoidRouter(Router, Initialised):
    """The experts with the highest scores after a correction, weighed by their scores:

        s = sigmoid(W·x);  chosen: the highest of s + b;  w_e = scale · s_e (/ Σ of the chosen)

    b only decides who is chosen, and has no gradient: it is what a checkpoint says, and 0 in a fresh model. With groups, the n_active_groups
    groups whose two best experts have the highest sum are open to a token, and the others shut.

    Source: DeepSeek-AI (2024), DeepSeek-V3, arXiv 2412.19437, section 2.1.2. Departure: b is not moved after each step; balance is a matter
    of the objective.
    """

    def __init__(self, d_model: int, n_experts: int, n_active: int, config: SigmoidRouterConfig) -> None:
        super().__init__(d_model, n_experts, n_active, config.renormalise)
        self.bias = nn.Parameter(torch.zeros(n_experts), requires_grad=False)
        self.scale, self.groups, self.open = config.scale, config.n_groups, config.n_active_groups

    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        logits = self.map(x).to(torch.promote_types(x.dtype, torch.float32))
        scores = logits.sigmoid()
        experts = self.eligible(scores.detach() + self.bias).topk(self.n_active, dim=-1).indices
        weights = scores.gather(-1, experts)
        if self.renormalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return Routing(logits, scores / scores.sum(-1, keepdim=True), experts, self.scale * weights)

    def eligible(self, scores: Float[Tensor, "tokens n_experts"]) -> Float[Tensor, "tokens n_experts"]:
        """The scores, and −∞ for experts in groups that are shut."""
        if self.groups == 1:
            return scores
        grouped = scores.unflatten(-1, (self.groups, -1))  # (tokens, groups, experts of a group)
        best = grouped.topk(2, dim=-1).values.sum(-1)
        opened = torch.zeros_like(best, dtype=torch.bool).scatter(-1, best.topk(self.open, dim=-1).indices, True)
        return grouped.masked_fill(~opened[..., None], -torch.inf).flatten(-2)

    def initialise(self, draw: Draw) -> None:
        """No expert is preferred at first."""
        draw.fill(self.bias, 0.0)


class ExpertLinear(nn.Module, Initialised):
    """A linear map per expert, without biases; their matrices are stacked: (n_experts, rows, columns).

    Args:
        n_experts: maps.
        d_in: width of what they read.
        heights: rows of each matrix in each expert's, one above the other.
        uses: what each is for.
    """

    def __init__(self, n_experts: int, d_in: int, heights: tuple[int, ...], uses: tuple[Use, ...]) -> None:
        super().__init__()
        self.heights, self.uses = heights, uses
        self.weight = nn.Parameter(torch.empty(n_experts, sum(heights), d_in))

    def forward(self, x: Float[Tensor, "rows d_in"], ends: Int[Tensor, " n_experts"]) -> Float[Tensor, "rows d_out"]:
        """Rows in the order of their experts; `ends` says where each expert's end."""
        return grouped_product(x, self.weight, ends)

    def initialise(self, draw: Draw) -> None:
        """Each matrix by its own shape and use."""
        draw.matrix(self.weight, self.uses, self.heights)


class Experts(nn.Module, Peopled):
    """Gated feed-forward layers of which each token uses those that the router chooses.

        y = Σ_{e chosen} w_e · W_down,e · (activation(W_gate,e · x) ⊙ W_up,e · x)  (+ shared(x))

    No expert has a capacity and no token is dropped: tokens are sorted by expert, each expert reads its own in one product, and what they
    say is sorted back, so that a token's output depends on no other token.

    Args:
        d_model: width of input and output.
        config: what it is made of.

    Source: Shazeer et al. (2017), arXiv 1701.06538; without capacities as in Gale et al. (2022), arXiv 2211.15841; shared experts: Dai et
    al. (2024), arXiv 2401.06066.
    """

    def __init__(self, d_model: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.router = config.router.build(d_model, config.n_experts, config.n_active)
        self.gate_up = ExpertLinear(config.n_experts, d_model, (config.d_ff, config.d_ff), (Use.FF_IN, Use.FF_UP))
        self.down = ExpertLinear(config.n_experts, config.d_ff, (d_model,), (Use.FF_OUT,))
        self.shared = GatedFeedForward(d_model, config.n_shared * config.d_ff, config.activation) if config.n_shared else None
        self.activation = activation_function(config.activation)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        flat = x.reshape(-1, x.shape[-1])  # (tokens, d_model)
        routing = self.router(flat)
        y = self.routed(flat, routing).view_as(x)
        return y if self.shared is None else y + self.shared(x)

    def unsettled(self, ranks: int) -> str:
        return f"has n_experts={self.router.n_experts}" if self.router.n_experts % ranks else ""

    def settle(self, index: int, ranks: int) -> Mapping[str, Cut]:
        by_expert = Cut(0, (self.router.n_experts,))
        return {"gate_up.weight": by_expert, "down.weight": by_expert}

    def consult(self, rows: Float[Tensor, "rows d_model"], ends: Int[Tensor, " n_experts"]) -> Float[Tensor, "rows d_model"]:
        """What experts say of rows in their order; `ends` says where each expert's end."""
        gate, up = self.gate_up(rows, ends).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up, ends)

    def routed(self, x: Float[Tensor, "tokens d_model"], routing: Routing) -> Float[Tensor, "tokens d_model"]:
        """The weighted sum of what each token's experts say."""
        chosen = routing.experts.flatten()  # (tokens · n_active)
        order = chosen.argsort(stable=True)
        ends = torch.searchsorted(chosen[order], torch.arange(self.router.n_experts, device=x.device), right=True).int()
        said = self.consult(x[order // self.router.n_active], ends)[order.argsort()]
        weighed = said.unflatten(0, routing.experts.shape) * routing.weights[..., None]  # in float32
        return weighed.sum(1).type_as(said)
