"""`Examine`: a model's head tells the labels of rows that it has not learnt from, and what it says is compared with them.

    results.json        accuracy, F1, MAP@3 or correlations, as the labels are
    predictions.jsonl   of each row its id, what was expected and predicted, and all scores
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_seconds
from bloomery.data import BothWays, Fit, NextToken, Packed, TellLabels, TokenShards, Vocabulary
from bloomery.data.labelled import Choices, Labelled, Numbers, Tags
from bloomery.evals.metrics import accuracy, f1, mean_average_precision, pearson, plain, spans_f1, spearman
from bloomery.models import EnsembleModel, TaskModel, read_model
from bloomery.stages.heads import check_labels
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained
from bloomery.store import Workspace, write_json, write_text
from bloomery.text.tokenizer import Tokenizer

TOKENS_AT_ONCE = 16_384


class Told(NamedTuple):
    """What a head says at a place that has a label: the row's id, the place in it, the label, and the scores."""

    id: str
    place: int
    expected: float
    scores: Float[np.ndarray, " scores"]


class Examine(Stage):
    """Measures one head of a model on labelled rows: of classes accuracy and F1, of tags those of words and of whole spans, of choices
    accuracy and MAP@3, of numbers correlations and the mean squared error.

    Example:
        >>> rows = Tokenize(name="test", corpus=test, tokenizer=tokenizer, encoding=Classes(head="mood", classes=("sad", "glad")))
        >>> Examine(model=tuned, rows=rows)
    """

    model: Trained
    """The model, with a head for the labels; or an `Ensemble` of such."""
    rows: Tokenize
    """Labelled rows; those without a label are left out, and counted when they are encoded."""

    def check(self) -> None:
        if not isinstance(self.rows.encoding, Labelled):
            raise self.refuse("rows", f"are encoded as {self.rows.encoding.kind()}, without labels; take Classes, Tags, Choices or Numbers")
        if self.rows.tokenizer != self.model.vocabulary:
            raise ConfigError(f"Examine.rows are encoded with {self.rows.tokenizer.reference}, not with the model's "
                              f"{self.model.vocabulary.reference}; use its tokenizer")  # fmt: skip

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        trained, encoding, started = inputs[self.model], self.rows.encoding, workspace.seconds
        assert isinstance(encoding, Labelled)  # `check` refuses any other
        config, model = read_model(trained.path / "model")
        kind = "numbers" if isinstance(encoding, Numbers) else "classes"
        task = TellLabels(**{kind: (encoding.head,)}, then=NextToken() if config.reads_forward else BothWays())
        check_labels([encoding], task, config)
        assert isinstance(model, TaskModel | EnsembleModel)  # no other has heads
        shards, tokenizer = TokenShards.open(inputs[self.rows]), Tokenizer.load(trained.checked("tokenizer/tokenizer.json"))
        if encoding.max_tokens > config.max_seq_len:
            raise ConfigError(f"Examine.rows may have {encoding.max_tokens} tokens, and the model reads {config.max_seq_len}; give their "
                              f"encoding max_tokens={config.max_seq_len}")  # fmt: skip
        time = int(shards.lengths.max())
        told = tell(model.to(context.device).eval(), shards, task, Vocabulary(tokenizer), time, context.device)
        results = figures(encoding, told)
        lines = ({"id": one.id, "place": one.place} | spelled(encoding, one) for one in told)
        write_text(workspace.path / "predictions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        workspace.count("predictions.jsonl", rows=len(told))
        write_json(workspace.path / "results.json", results)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in results.items() if isinstance(value, float))
        context.say(f"{self.reference}: {shown} on {len(told)} labels, in {human_seconds(workspace.seconds - started)}")
        return results


@torch.no_grad()
def tell(
    model: TaskModel | EnsembleModel, shards: TokenShards, task: TellLabels, vocabulary: Vocabulary, time: int, device: str = "cpu"
) -> list[Told]:
    """What the one head of a task says at every place that has a label, in the order of the rows.

    Args:
        model: with that head; in evaluation mode.
        shards: with labels for it.
        task: which tells them.
        vocabulary: of the shards.
        time: tokens per row of the batches; no document may be longer.
        device: of the model.
    """
    (head,) = (*task.classes, *task.numbers)
    packed, found, at_once = Packed(shards, Fit(), time=time, seed=0), [], max(1, TOKENS_AT_ONCE // time)
    for first_row, rows in packed.rows_once(at_once):
        batch = task.batch(rows, first_row, 0, vocabulary).to(device)
        scores, labels = model.scores(batch.tokens, batch.layout)[head].float().cpu().numpy(), batch.labels[head].to("cpu")
        starts = {(span.row - first_row, span.place + i): (span.id, i) for span in packed.documents(first_row, len(rows.tokens))
                  for i in range(span.stop - span.start)}  # fmt: skip
        for row, place in labels.loss_weight.nonzero().tolist():
            found.append(Told(*starts[row, place], float(labels.targets[row, place]), scores[row, place]))
    number = {shards.id(document): document for document in range(len(shards))}
    return sorted(found, key=lambda one: (number[one.id], one.place))


def figures(encoding: Labelled, told: Sequence[Told]) -> dict[str, Any]:
    """The figures for a kind of labels."""
    scores, expected = np.stack([one.scores for one in told]), np.array([one.expected for one in told])
    if isinstance(encoding, Numbers):
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
    if isinstance(encoding, Numbers):
        return {"expected": one.expected, "predicted": scores[0]}
    return {"expected": encoding.told(one.expected), "predicted": encoding.told(float(np.argmax(one.scores))), "scores": scores}
