"""`Proxies`: whether what is learnt from rises at the cost of what is only watched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, variance

from bloomery.train.rewards.reward import Reward

STEPS = 8  # at the beginning, and at the end, that are compared
SIGMAS = 3.0  # of the difference of two means, from which it counts
PREFIX = "reward/"  # of the figures


class Proxies:
    """The rewards of a training, step by step. A reward that is learnt from is a proxy of what is wanted; one of weight 0 can be the true one.

    It is over-optimised where the sum that is learnt from is higher than at the beginning, and one that is watched lower, both by more than
    `SIGMAS` standard errors of the difference between the means of the first and the last `STEPS` steps.

    Source: Gao, Schulman and Hilton (2022), arXiv 2210.10760, who measure the gap between proxy and gold; the test is ours.

    Args:
        rewards: of the training.
        metrics: lines of what was measured so far, where the training goes on.
        step: it stands at.
    """

    def __init__(self, rewards: Sequence[Reward], metrics: Path | None = None, step: int = 0) -> None:
        self.learnt, self.watched = ([r for r in rewards if bool(r.weight) == wanted] for wanted in (True, False))
        self.history: list[Mapping[str, float]] = []
        self.told = ""
        if self.watched and metrics is not None and metrics.exists():
            for line in metrics.read_text().splitlines():
                found = json.loads(line)
                if found["step"] <= step:
                    self.note(found["step"], found)

    def note(self, step: int, figures: Mapping[str, float]) -> str:
        """Takes note of a step's figures.

        Returns:
            What is wrong, once: from then on it stands in `told`.
        """
        names = [PREFIX + one.called for one in (*self.learnt, *self.watched)]
        if not self.watched or not all(name in figures for name in names):
            return ""
        self.history.append({name: figures[name] for name in names})
        if self.told or len(self.history) < 2 * STEPS:
            return ""
        for gold in self.watched:
            of_gold = self._moved({gold.called: 1.0})
            of_proxy = self._moved({one.called: one.weight for one in self.learnt})
            if of_proxy[2] > SIGMAS and of_gold[2] < -SIGMAS:
                worst = max(self.learnt, key=lambda one: self._rise({one.called: one.weight}))
                self.told = (
                    f"step {step}: what is learnt from went from {of_proxy[0]:.3f} to {of_proxy[1]:.3f}, mostly by {worst.called}, and "
                    f"{gold.called}, which is only watched, from {of_gold[0]:.3f} to {of_gold[1]:.3f}: the reward is over-optimised; weigh "
                    f"{worst.called} less, hold the policy nearer to its reference, or end earlier"
                )
                return self.told
        return ""

    def _rise(self, weights: Mapping[str, float]) -> float:
        before, now, _ = self._moved(weights)
        return now - before

    def _moved(self, weights: Mapping[str, float]) -> tuple[float, float, float]:
        """The mean of a sum of rewards at the beginning and now, and by how many standard errors it has risen."""
        totals = [sum(weight * figures[PREFIX + name] for name, weight in weights.items()) for figures in self.history]
        first, last = totals[:STEPS], totals[-STEPS:]
        error = ((variance(first) + variance(last)) / STEPS) ** 0.5
        rise = mean(last) - mean(first)
        return mean(first), mean(last), rise / max(error, 1e-9)
