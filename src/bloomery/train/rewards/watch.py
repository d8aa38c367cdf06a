"""`Proxies`: whether what is learnt from rises at the cost of what is only watched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, variance

from bloomery.train.rewards.reward import Reward

STEPS = 8  # of which means are compared
RISE = 3.0  # standard errors by which what is learnt from is above where it began
FALL = 3.5  # by which what is watched is below its best: more, since the best of many means is partly luck
PREFIX = "reward/"  # of the figures


class Proxies:
    """The rewards of a training, step by step. A reward that is learnt from is a proxy of what is wanted; one of weight 0 can be the true one.

    It is over-optimised where the sum that is learnt from is higher than it was at the beginning, and one that is watched lower than it once
    was: both of the mean over the last `STEPS` steps, by `RISE` and `FALL` standard errors of the difference. Its best may be the beginning,
    or long after it: what a policy learns first is often true.

    Source: Gao, Schulman and Hilton (2022), arXiv 2210.10760, who measure the gap between proxy and gold; the test is ours.

    Args:
        rewards: of the training.
        metrics: lines of what was measured so far, where the training goes on.
        step: it stands at.
        fresh: steps of a round until its texts come again, and say nothing new.
    """

    def __init__(self, rewards: Sequence[Reward], metrics: Path | None = None, step: int = 0, fresh: int = 1) -> None:
        self.fresh = fresh
        self.learnt, self.watched = ([r for r in rewards if bool(r.weight) == wanted] for wanted in (True, False))
        self.history: list[Mapping[str, float]] = []
        self.best: dict[str, Sequence[Mapping[str, float]]] = {}
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
        if not self.watched or not all(name in figures for name in names) or figures.get("age", 0) >= self.fresh:
            return ""
        self.history.append({name: figures[name] for name in names})
        if self.told or len(self.history) < 2 * STEPS:
            return ""
        first, before, now = self.history[:STEPS], self.history[-2 * STEPS : -STEPS], self.history[-STEPS:]
        for gold in self.watched:
            self.best[gold.called] = max(self.best.get(gold.called, before), before, key=lambda steps: mean(totals(steps, gold)))
        if errors_above(totals(first, *self.learnt), totals(now, *self.learnt)) <= RISE:
            return ""
        for gold in self.watched:
            best, found = totals(self.best[gold.called], gold), totals(now, gold)
            if errors_above(best, found) < -FALL:
                worst = max(self.learnt, key=lambda one: mean(totals(now, one)) - mean(totals(first, one)))
                self.told = (
                    f"step {step}: what is learnt from went from {mean(totals(first, *self.learnt)):.3f} to "
                    f"{mean(totals(now, *self.learnt)):.3f}, mostly by {worst.called}, and {gold.called}, which is only watched, from "
                    f"{mean(best):.3f} to {mean(found):.3f}: the reward is over-optimised; weigh {worst.called} less, hold the policy nearer "
                    f"to its reference, or end earlier"
                )
                return self.told
        return ""


def totals(steps: Sequence[Mapping[str, float]], *rewards: Reward) -> list[float]:
    """The sum of some rewards at each of some steps: weighed, or as they are where they are only watched."""
    return [sum((one.weight or 1.0) * figures[PREFIX + one.called] for one in rewards) for figures in steps]


def errors_above(before: Sequence[float], now: Sequence[float]) -> float:
    """By how many standard errors of the difference the mean of some numbers is above that of as many others."""
    error = ((variance(before) + variance(now)) / len(now)) ** 0.5
    return (mean(now) - mean(before)) / max(error, 1e-9)
