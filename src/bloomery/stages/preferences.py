"""`Preferences`: which side of held-out pairs a model prefers, how sure it is, and how far that can be believed.

    preferences.txt     the figures, and a table of sureness beside truth
    results.json        the same
    pairs.jsonl         of each pair its id, what each side is worth, and whether it is the right way round
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens
from bloomery.data import Batch, Compared, Fit, Packed, TokenShards, Vocabulary
from bloomery.data.pairs import Pairs
from bloomery.models import Model, TaskModel
from bloomery.objectives import Models, Reading
from bloomery.objectives.completions import scored
from bloomery.objectives.pairs import apart, pairs_in, sides
from bloomery.stages.look import text_page
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Workspace, write_json, write_text

TOKENS_AT_ONCE = 8192
BINS = 10  # of sureness
Z = 1.96  # 95 % of a normal distribution lie within so many standard deviations


class Preferences(Stage):
    """Compares the sides of pairs by a head of a reward model, or by how likely a policy finds them, less how likely it found them
    before, where that is given.

    It is right where the better side is ahead; σ of by how much is how sure it is.

    Example:
        >>> Preferences(model=reward, head="reward", pairs=held_out, max_seq_len=512)
        >>> Preferences(model=tuned, before=chat, beta=0.1, pairs=held_out, max_seq_len=512)
    """

    model: Trained
    """The reward model, or the policy."""
    pairs: Tokenize
    """What it has not learnt from, encoded as `Pairs()`."""
    max_seq_len: Tokens
    """Tokens in a row."""
    head: str | None = None
    """The head that says what a text is worth; None has log-probabilities say it."""
    before: Trained | None = None
    """Whose log-probabilities are taken off: the reference of a policy."""
    beta: float = 1.0
    """What differences are multiplied by before σ; for policies."""

    def check(self) -> None:
        if not isinstance(self.pairs.encoding, Pairs):
            raise self.refuse("pairs", f"are encoded as {self.pairs.encoding.kind()}, which makes no pairs; take Pairs()")
        if self.pairs.tokenizer != self.model.vocabulary:
            raise ConfigError(f"Preferences.pairs are encoded with {self.pairs.tokenizer.reference}, not with the model's "
                              f"{self.model.vocabulary.reference}; let the same ids mean the same")  # fmt: skip
        if self.head is not None and self.before is not None:
            raise self.refuse("before", "is for policies, whose log-probabilities it takes off, and a head says none; leave one out")

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        shards = TokenShards.open(inputs[self.pairs])
        tokenizer = tokenizer_of(inputs[self.model])
        source, vocabulary = Packed(shards, Fit(), time=self.max_seq_len, seed=0), Vocabulary(tokenizer)
        asked = [self._model(inputs, one, context) for one in (self.model, self.before) if one is not None]
        names, worths, lengths = list[str](), list[np.ndarray](), list[np.ndarray]()
        for first_row, rows in source.rows_once(max(1, TOKENS_AT_ONCE // self.max_seq_len)):
            batch = Compared().batch(rows, first_row, 0, vocabulary).to(context.device)
            here = pairs_in(batch)
            found = [torch.stack([side[here] for side in self._worth(model, batch)], -1) for model in asked]
            worths.append((found[0] if len(found) == 1 else found[0] - found[1]).double().cpu().numpy())
            counts = sides((batch.loss_weight > 0).float(), batch)
            lengths.append((counts[0] - counts[1])[here].double().cpu().numpy())
            names += [span.id for span in source.documents(first_row, len(rows.tokens))]
            context.progress(f"{self.reference}: {len(names)} pairs read")
        worth = np.concatenate(worths)
        factor = 1.0 if self.head is not None else self.beta
        judged = Judged(factor * (worth[:, 0] - worth[:, 1]), np.concatenate(lengths))
        lines = (json.dumps({"id": name, "better": round(b, 5), "worse": round(w, 5), "right": b > w})
                 for name, (b, w) in zip(names, worth.tolist(), strict=True))  # fmt: skip
        write_text(workspace.path / "pairs.jsonl", "\n".join(lines) + "\n")
        workspace.count("pairs.jsonl", rows=len(names))
        write_json(workspace.path / "results.json", judged.plain())
        page = judged.text(f"Which side of {len(names)} pairs {self.model.name} prefers")
        write_text(workspace.path / "preferences.txt", page)
        context.say(page)
        return {name: round(value, 5) for name, value in judged.figures.items()}

    def _model(self, inputs: Inputs, trained: Trained, context: RunContext) -> Model:
        model = opened(inputs[trained], context.device)
        if self.head is not None and not (isinstance(model, TaskModel) and self.head in model.heads):
            raise self.refuse("head", f"is none of {trained.reference}'s; name one that it has, or none for its log-probabilities")
        return model

    @torch.no_grad()
    def _worth(self, model: Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What each side of the pairs is worth."""
        if self.head is None:
            return sides(Reading(Models(model), batch).told().logprobs, batch)
        assert isinstance(model, TaskModel)  # `_model` refuses any other
        return apart(scored(model.scores(batch.tokens, batch.layout)[self.head], batch))


@dataclass(frozen=True)
class Judged:
    """How pairs were told apart.

    Attributes:
        apart: of each pair, by how much the better side is ahead.
        longer: of each pair, by how many tokens the better side is the longer one.
    """

    apart: Float[np.ndarray, " pairs"]
    longer: Float[np.ndarray, " pairs"]

    @property
    def right(self) -> Float[np.ndarray, " pairs"]:
        """1 where the better side is ahead, ½ where neither is."""
        return ahead(self.apart)

    @property
    def figures(self) -> dict[str, float]:
        """Accuracy with its standard error and 95 % interval, −log σ, and the calibration error."""
        p, n = float(self.right.mean()), len(self.apart)
        low, high = wilson(p, n)
        return {
            "accuracy": p, "standard_error": sqrt(p * (1 - p) / n), "low": low, "high": high, "pairs": n,
            "longer_is_better": float(ahead(self.longer).mean()),
            "nll": float(np.logaddexp(0, -self.apart).mean()), "calibration_error": self.calibration_error,
        }  # fmt: skip

    @property
    def bins(self) -> list[tuple[float, float, int]]:
        """Mean sureness, share that is right, and number of the pairs in each stretch of sureness σ(|apart|) from ½ to 1."""
        sure = 1 / (1 + np.exp(-np.abs(self.apart)))
        which = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
        return [
            (float(sure[which == i].mean()), float(self.right[which == i].mean()), int((which == i).sum()))
            for i in range(BINS) if (which == i).any()
        ]  # fmt: skip

    @property
    def calibration_error(self) -> float:
        """The mean over pairs of |sureness − share that is right| of their stretch.

        Source: Guo et al. (2017), arXiv 1706.04599, equation 3.
        """
        return sum(count * abs(sure - right) for sure, right, count in self.bins) / len(self.apart)

    def rows(self) -> Sequence[tuple[str, ...]]:
        """Sureness beside truth, the head first."""
        return [("sure", "right", "pairs"), *((f"{sure:.1%}", f"{right:.1%}", str(count)) for sure, right, count in self.bins)]

    def text(self, title: str) -> str:
        """The page."""
        found = self.figures
        said = [
            f"right: {found['accuracy']:.1%} ± {found['standard_error']:.1%} of {len(self.apart)}, 95% within {found['low']:.1%} and "
            f"{found['high']:.1%}; a coin is right in 50%",
            f"who always takes the longer side is right in {found['longer_is_better']:.1%}, who takes the shorter in "
            f"{1 - found['longer_is_better']:.1%}",
            f"−log σ: {found['nll']:.4f} nats, a coin's is 0.6931; sureness is off by {found['calibration_error']:.1%} on the mean",
        ]
        return text_page(title, self.rows(), range(3), said)

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return self.figures | {"bins": [{"sure": sure, "right": right, "pairs": count} for sure, right, count in self.bins]}


def ahead(difference: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """1 where it is above 0, ½ where it is 0, else 0."""
    return 0.5 * (1 + np.sign(difference))


def wilson(p: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    middle, half = p + Z * Z / (2 * n), Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return (middle - half) / (1 + Z * Z / n), (middle + half) / (1 + Z * Z / n)
