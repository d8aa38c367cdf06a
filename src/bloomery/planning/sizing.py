"""How large a model, on how much data: the law of Hoffmann et al., and what it says of a model that is to learn more.

    L(N, D) = E + A / N^α + B / D^β      nats per token of held-out text; N parameters, D tokens
    C = 6 · N · D                        operations, where those of the architecture are not known

Source: Hoffmann et al. (2022), arXiv 2203.15556, section 3.3, with the constants of Besiroglu et al. (2024), arXiv 2404.10102, which mend the
fit. They are of one corpus, one tokenizer and one family of decoders, at 5 to 500 B tokens: differences between plans mean more than losses,
and far outside that range they mean little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bloomery.core.units import human_count

E, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
FLOPS_PER_PARAM = 6.0
"""Of a token and a parameter, forward and backward; what attention does with scores comes on top."""
SMALLEST, FEWEST = 5e7, 1e9
"""Parameters and tokens below which the law was never looked at."""
BITS_PER_PARAM = 2.0
"""Of facts, that a parameter holds at most. Source: Allen-Zhu and Li (2024), arXiv 2404.05405, result 1."""


def loss(params: float, tokens: float) -> float:
    """Nats per token that a model of so many parameters comes to on so many tokens."""
    return E + by_size(params) + by_data(tokens)


def by_size(params: float) -> float:
    """What is lost because the model is not larger, A / N^α."""
    return A / params**ALPHA


def by_data(tokens: float) -> float:
    """What is lost because there are not more tokens, B / D^β."""
    return B / tokens**BETA


def best_tokens(params: float) -> float:
    """Tokens at which a model of that size is the best for the operations spent: where αA/N^α = βB/D^β."""
    return (BETA * B * params**ALPHA / (ALPHA * A)) ** (1 / BETA)


def best_params(tokens: float) -> float:
    """The size that is the best for the operations spent where there are so many tokens."""
    return (ALPHA * A * tokens**BETA / (BETA * B)) ** (1 / ALPHA)


def best_split(flops: float) -> tuple[float, float]:
    """Parameters and tokens that come to the lowest loss for so many operations, C = 6ND."""
    g = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    params = g * (flops / FLOPS_PER_PARAM) ** (BETA / (ALPHA + BETA))
    return params, flops / FLOPS_PER_PARAM / params


@dataclass(frozen=True, kw_only=True)
class Growing:
    """A model that has learnt and is to learn more: as it is, or grown first.

    Attributes:
        params: of the model.
        learnt: tokens that it has seen.
        more: tokens that it is to see.
        grown: parameters after growing.
    """

    params: float
    learnt: float
    more: float
    grown: float

    @property
    def staying(self) -> float:
        """Loss in the end if it stays as it is."""
        return loss(self.params, self.learnt + self.more)

    @property
    def growing(self) -> float:
        """Loss in the end if it grows before it goes on; what it has seen as a small model counts by its operations only."""
        return loss(self.grown, self.learnt * self.params / self.grown + self.more)

    @property
    def flops(self) -> tuple[float, float]:
        """Operations of the tokens to come, as it is and grown."""
        return FLOPS_PER_PARAM * self.params * self.more, FLOPS_PER_PARAM * self.grown * self.more

    @property
    def pays_from(self) -> float:
        """Tokens seen as a small model from which on growing always gives the lower loss; infinite where there is no such number.

        What is lost in data when operations are divided by more parameters is nothing at first, grows, and becomes nothing again.
        """

        def pays(learnt: float) -> bool:
            there = replace(self, learnt=learnt)
            return there.growing < there.staying

        tried = [self.more * 10 ** (power / 20) for power in range(-100, 200)]
        against = [place for place, learnt in enumerate(tried) if not pays(learnt)]
        if not against:
            return 0.0
        if against[-1] == len(tried) - 1:
            return float("inf")
        low, high = tried[against[-1]], tried[against[-1] + 1]
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if pays(middle) else (middle, high)
        return high


def advice(params: float, learnt: float, more: float, grown: float | None = None) -> list[str]:
    """Whether a model has room for what it is to learn, in sentences with their figures.

    Args:
        params: of the model.
        learnt: tokens that it has seen; 0 for a fresh one.
        more: tokens that it is to see.
        grown: parameters of the model that it could become; None names one that is half as large again.
    """
    tokens = learnt + more
    each, start = f"{human_count(params)} parameters on {human_count(tokens)} tokens: {tokens / params:.3g} tokens per parameter", (
        f"{human_count(SMALLEST)} parameters and {human_count(FEWEST)} tokens"
    )
    if params < SMALLEST or tokens < FEWEST:
        return [f"{each}; what is known of sizes begins at {start}, where some 20 are the best use of operations"]
    size, data, best = by_size(params), by_data(tokens), best_tokens(params)
    verdict = "size and data are in balance"
    if max(size, data) > 1.2 * min(size, data):
        verdict = "the model is too small for the data" if size > data else "there is too little data for the model"
    said = [
        f"{each}; {human_count(best)} tokens ({best / params:.0f} per parameter) would be the best use of operations at that size, and "
        f"{human_count(best_params(tokens))} parameters at that many tokens",
        f"expected loss {loss(params, tokens):.3f} = {E} + {size:.3f} for its size + {data:.3f} for its data: {verdict}",
    ]
    return [*said, *_more_of(params, learnt, more, grown or 1.5 * params)] if learnt else said


def _more_of(params: float, learnt: float, more: float, grown: float) -> list[str]:
    """Whether a model that has learnt has room for more."""
    plan, capacity = Growing(params=params, learnt=learnt, more=more, grown=grown), BITS_PER_PARAM * params
    here, pays = loss(params, learnt), plan.pays_from
    since = {0.0: "pays however many tokens were seen", float("inf"): "does not always pay, however many tokens were seen"}.get(
        pays, f"always pays from {human_count(pays)} tokens seen on"
    )
    as_it_is, larger = (f"{human_count(flops)}FLOP" for flops in plan.flops)
    return [
        f"it holds {human_count(capacity)} bits of facts at most ({BITS_PER_PARAM:.0f} per parameter, arXiv 2404.05405); if "
        f"{human_count(learnt)} tokens have filled it, {human_count(more)} more of the same density bring "
        f"{human_count(capacity * more / learnt)} bits, for which {human_count(params * (learnt + more) / learnt)} parameters would have room "
        "without forgetting",
        f"{'grow before them' if plan.growing < plan.staying else 'stay as it is'}: {human_count(more)} more tokens lower the loss by "
        f"{here - plan.staying:.3f} as it is, for {as_it_is}, and by {here - plan.growing:.3f} at {human_count(grown)} parameters, for "
        f"{larger}, even if what was seen before counts by its operations only; growing then {since}",
    ]
