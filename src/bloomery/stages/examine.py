"""`Examine`: a model tells the labels of rows that it has not learnt from, or rewrites them, beside what was expected.

    results.json        accuracy, F1, MAP@3, correlations or ranks, as the labels are; BLEU, chrF and ROUGE of what is rewritten
    predictions.jsonl   of each row its id, what was expected and predicted, and all scores
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_seconds
from bloomery.data import BothWays, NextToken, TellLabels, TokenShards, Vocabulary
from bloomery.data.alike import Likeness, Matches
from bloomery.data.labelled import Choices, Labelled, Numbers, Tags
from bloomery.data.rewrites import Rewrites
from bloomery.evals.metrics import accuracy, f1, mean_average_precision, pearson, plain, spans_f1, spearman
from bloomery.generate import Reads
from bloomery.models import EnsembleModel, Model, TaskModel, causal
from bloomery.stages.alike import alike, matched
from bloomery.stages.heads import check_labels
from bloomery.stages.reading import Told, at_labels, read
from bloomery.stages.rewritten import rewritten
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Workspace, write_json, write_text
from bloomery.text.tokenizer import Tokenizer

Examined = tuple[dict[str, Any], list[dict[str, Any]]]
"""Figures, and a line for each row."""


class Examine(Stage):
    """Measures one head of a model on labelled rows, or what it writes about texts.

    Of classes it tells accuracy and F1, of tags those of words and of whole spans, of choices accuracy and MAP@3, of numbers (how alike texts
    are, too) correlations and the mean squared error, of matches how often the right text is the nearest of all that the rows have (accuracy)
    and the mean reciprocal rank; of rewrites, written token by most likely token, BLEU, chrF and ROUGE, all of 100, and the share that is
    exactly as expected.

    Example:
        >>> rows = Tokenize(name="test", corpus=test, tokenizer=tokenizer, encoding=Classes(head="mood", classes=("sad", "glad")))
        >>> Examine(model=tuned, rows=rows)
    """

    model: Trained
    """The model, with a head for the labels, or one that writes; or an `Ensemble` of such."""
    rows: Tokenize
    """Labelled rows, or `Rewrites()`; those without a label or a target are left out, and counted when they are encoded."""
    reads: Reads = "forward"
    """How a decoder reads what it is to rewrite: "forward" after `NextToken()`, "both_ways" after `FromPrefix()`."""

    def check(self) -> None:
        if not isinstance(self.rows.encoding, Labelled | Rewrites):
            raise self.refuse("rows", f"are encoded as {self.rows.encoding.kind()}, without labels; take Classes, Tags, Choices, Numbers, "
                              "Likeness, Matches or Rewrites")  # fmt: skip
        if self.rows.tokenizer != self.model.vocabulary:
            raise ConfigError(f"Examine.rows are encoded with {self.rows.tokenizer.reference}, not with the model's "
                              f"{self.model.vocabulary.reference}; use its tokenizer")  # fmt: skip

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        trained, started = inputs[self.model], workspace.seconds
        model = opened(trained, context.device)
        shards, tokenizer = TokenShards.open(inputs[self.rows]), tokenizer_of(trained)
        if isinstance(self.rows.encoding, Rewrites):
            results, lines = rewritten(causal(model), shards, tokenizer, self.rows.encoding.max_target, self.reads)
        else:
            results, lines = self._told(model, shards, tokenizer, context.device)
        write_text(workspace.path / "predictions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        workspace.count("predictions.jsonl", rows=len(lines))
        write_json(workspace.path / "results.json", results)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in results.items() if isinstance(value, float))
        context.say(f"{self.reference}: {shown} on {len(lines)} labels, in {human_seconds(workspace.seconds - started)}")
        return results

    def _told(self, model: Model, shards: TokenShards, tokenizer: Tokenizer, device: str) -> Examined:
        """What the head for the rows' labels comes to."""
        config, encoding = model.config, self.rows.encoding
        assert isinstance(encoding, Labelled)  # `check` refuses any other
        told_as: dict[str, Any] = {encoding.tells: (encoding.head,)}
        task = TellLabels(**told_as, then=NextToken() if config.reads_forward else BothWays())
        check_labels([encoding], task, config)
        assert isinstance(model, TaskModel | EnsembleModel)  # no other has heads
        if encoding.max_tokens > config.max_seq_len:
            raise ConfigError(f"Examine.rows may have {encoding.max_tokens} tokens, and the model reads {config.max_seq_len}; give their "
                              f"encoding max_tokens={config.max_seq_len}")  # fmt: skip
        rows = read(model, shards, task, Vocabulary(tokenizer), int(shards.lengths.max()), device)
        if isinstance(encoding, Matches):
            return matched(rows, tokenizer)
        told = alike(rows, tokenizer.begin) if isinstance(encoding, Likeness) else at_labels(rows)
        return figures(encoding, told), [{"id": one.id, "place": one.place} | spelled(encoding, one) for one in told]


def figures(encoding: Labelled, told: Sequence[Told]) -> dict[str, Any]:
    """The figures for a kind of labels."""
    scores, expected = np.stack([one.scores for one in told]), np.array([one.expected for one in told])
    if isinstance(encoding, Numbers | Likeness):
        said = scores[:, 0].astype(np.float64)
        error = float(((said - expected) ** 2).mean())
        return {"pearson": pearson(said, expected), "spearman": spearman(said, expected), "squared_error": error, "labels": len(told)}
    wanted, said = expected.astype(np.int64), scores.argmax(1)
    results: dict[str, Any] = {"accuracy": accuracy(wanted, said), "labels": len(told)}
    if isinstance(encoding, Choices):
        return results | {"map_at_3": mean_average_precision(scores, wanted, 3)}
    classes: tuple[str, ...] = getattr(encoding, "classes")  # noqa: B009
    results |= plain(f1(wanted, said, len(classes)), classes)
    if isinstance(encoding, Tags) and any(name.startswith("B-") for name in classes):
        rows: dict[str, tuple[list[str], list[str]]] = {}
        for one, there, here in zip(told, wanted, said, strict=True):
            of_row = rows.setdefault(one.id, ([], []))
            of_row[0].append(classes[there])
            of_row[1].append(classes[here])
        results |= {f"spans_{name}": value for name, value in spans_f1(*zip(*rows.values(), strict=True)).items()}
    return results


def spelled(encoding: Labelled, one: Told) -> dict[str, Any]:
    """A line of what was told."""
    scores = [round(float(score), 6) for score in one.scores]
    if isinstance(encoding, Numbers | Likeness):
        return {"expected": one.expected, "predicted": scores[0]}
    return {"expected": encoding.told(one.expected), "predicted": encoding.told(float(np.argmax(one.scores))), "scores": scores}
