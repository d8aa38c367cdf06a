"""What the loss costs as the vocabulary grows, with a full and with an adaptive softmax."""

from __future__ import annotations

from bloomery.nn import UntiedConfig
from bloomery.nn.adaptive import AdaptiveSoftmaxConfig
from bloomery.recipe import Recipe
from bloomery.stages.head_cost import HeadCost, HeadCurve


def adaptive_softmax(
    *, largest: int = 131_072, smallest: int = 4096, d_model: int = 256, tokens: int = 2048, repeats: int = 5, threads: int = 1, seed: int = 0
) -> Recipe:
    """Measures time and memory of the loss at vocabularies that double, from the smallest to the largest."""
    sizes = [smallest]
    while sizes[-1] < largest:
        sizes.append(min(2 * sizes[-1], largest))
    curves = (
        HeadCurve(name="full", heads=tuple(UntiedConfig() for _ in sizes)),
        HeadCurve(name="adaptive", heads=tuple(AdaptiveSoftmaxConfig(cutoffs=(size // 16, size // 4)) for size in sizes)),
    )
    title = f"The cost of the loss against the vocabulary: {tokens} tokens, d_model {d_model}, {threads} thread{'s'[:threads > 1]} of the CPU"
    measured = HeadCost(
        title=title, curves=curves, vocab_sizes=tuple(sizes), d_model=d_model, tokens=tokens, repeats=repeats, threads=threads, seed=seed,
    )
    return Recipe(name="adaptive_softmax", wanted=(measured,))
