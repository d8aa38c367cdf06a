"""Heads for tasks: fresh ones on weights that are there already, and whether they fit the labels that rows bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field

from bloomery.core.errors import ConfigError
from bloomery.data import RowTask, TellLabels
from bloomery.data.alike import Apart
from bloomery.data.encodings import Encoding
from bloomery.data.labelled import Choices, Classes, Labelled, Numbers, Tags
from bloomery.data.steps import Steps
from bloomery.models import ModelConfig, TaskConfig
from bloomery.models.ensemble import heads_by_name
from bloomery.models.heads import (
    MultipleChoiceConfig,
    RegressionConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TaskHeadConfig,
    TokenClassificationConfig,
)
from bloomery.nn import FirstPoolingConfig
from bloomery.nn.init import Pour, initialise
from bloomery.objectives import HeadLoss, Objective, terms_of
from bloomery.stages.init import Init
from bloomery.stages.stage import Inputs
from bloomery.stages.trained import Trained
from bloomery.train.spreading import Fill


class HeadsOn(Init):
    """Other weights, with fresh heads for tasks on their states.

    Example:
        >>> HeadsOn(init=Continue(base=base), heads=(SequenceClassificationConfig(name="mood", n_labels=3, pooling=LastPoolingConfig()),))
    """

    init: Init
    """Where the weights below the heads come from."""
    heads: tuple[TaskHeadConfig, ...] = Field(min_length=1)
    """One for each task, with names of their own."""
    language_head: bool = False
    """Whether the head for the vocabulary stays, to go on learning language beside the tasks."""

    def check(self) -> None:
        _ = self.architecture  # what a model with heads refuses, it refuses when it is written down

    @property
    def architecture(self) -> TaskConfig | None:
        return None if self.init.architecture is None else self._on(self.init.architecture)

    @property
    def goes_on_from(self) -> Trained | None:
        return self.init.goes_on_from

    def _on(self, base: ModelConfig) -> TaskConfig:
        return TaskConfig(base=base, heads=self.heads, language_head=self.language_head)

    def load(self, inputs: Inputs, seed: int) -> tuple[ModelConfig, Fill]:
        base, below = self.init.load(inputs, seed)
        config = self._on(base)
        with torch.device("meta"):
            model = config.skeleton()
        kept = {name for name, _ in model.named_parameters()}

        def fill(pour: Pour) -> None:
            below(only(pour, kept.__contains__, "base."))
            initialise(model, config.init, config.n_layers, seed, only(pour, lambda name: name.startswith("heads.")))

        return config, fill


def only(pour: Pour, wanted: Callable[[str], bool], prefix: str = "") -> Pour:
    """Pours those parameters whose names, behind a prefix, are wanted."""
    return lambda name, numbers: pour(prefix + name, numbers) if wanted(prefix + name) else None


def check_labels(encodings: Sequence[Encoding], task: RowTask, model: ModelConfig) -> None:
    """Raises `ConfigError` where rows bring labels that no head of a model is to tell, or that do not fit it.

    Args:
        encodings: of the corpora.
        task: what is to be learnt from rows.
        model: what is to learn it.
    """
    heads = heads_by_name(model)
    for encoding in encodings:
        if (name := encoding.labels_for) is None or name in task.reads:
            continue
        tells = encoding.tells if isinstance(encoding, Labelled) else "classes"
        if name not in (getattr(task, tells) if isinstance(task, TellLabels) else task.labelled):
            raise ConfigError(f"{encoding.kind()}.head={name!r} is not among the heads of Train.task={task}, so that its labels would be of no "
                              f"use; take TellLabels({tells}=({name!r},))")  # fmt: skip
        if not fits(encoding, heads.get(name)):
            found = heads[name] if name in heads else f"no such head of a {model.kind()}"
            raise ConfigError(f"{encoding.kind()}.head={name!r} has labels for {_wanted(encoding)}, and the model has {found}; give it the "
                              "former")  # fmt: skip
    for head in heads.values():
        pooling = getattr(head, "pooling", None)
        if model.reads_forward and isinstance(pooling, FirstPoolingConfig) and not isinstance(head, TokenClassificationConfig):
            raise ConfigError(f"the head {head.name!r} looks at the first token, which has seen nothing of its document in a model that reads "
                              "forward; take pooling=LastPoolingConfig()")  # fmt: skip


def check_terms(objective: Objective, task: RowTask, encodings: Sequence[Encoding]) -> None:
    """Raises `ConfigError` where a term of a loss would never have anything to learn from.

    Args:
        objective: the loss.
        task: what is to be learnt from rows.
        encodings: of the corpora.
    """
    if not isinstance(task, TellLabels):
        return
    brought = {encoding.labels_for for encoding in encodings}
    for _, term in terms_of(objective):
        if isinstance(term, HeadLoss) and term.head in {*task.classes, *task.numbers, *task.matches} - brought:
            raise ConfigError(f"{term.kind()}.head={term.head!r} has no corpus with labels for it among Train.sources, so that it would learn "
                              "nothing; add one, or leave the term out")  # fmt: skip
    if task.learns == "unlabelled" and None not in brought:
        raise task.refuse("learns", "takes rows without labels alone, and every corpus brings them; take 'all', or add one without")


def fits(encoding: Encoding, head: TaskHeadConfig | None) -> bool:
    """Whether the labels of an encoding are such as a head tells."""
    if isinstance(encoding, Classes):
        return isinstance(head, SequenceClassificationConfig) and head.n_labels == len(encoding.classes)
    if isinstance(encoding, Tags | Steps):
        return isinstance(head, TokenClassificationConfig) and head.n_labels == len(encoding.classes)
    if isinstance(encoding, Choices):
        return isinstance(head, MultipleChoiceConfig) and head.n_choices == encoding.count
    if isinstance(encoding, Apart):
        return isinstance(head, SimilarityConfig)
    return type(head) is RegressionConfig


def _wanted(encoding: Encoding) -> str:
    """The head that an encoding's labels are for, in a few words."""
    if isinstance(encoding, Classes | Tags | Steps):
        kind = SequenceClassificationConfig if isinstance(encoding, Classes) else TokenClassificationConfig
        return f"a {kind.__name__}(n_labels={len(encoding.classes)})"
    if isinstance(encoding, Choices):
        return f"a MultipleChoiceConfig(n_choices={encoding.count})"
    if isinstance(encoding, Apart):
        return "a SimilarityConfig()"
    assert isinstance(encoding, Numbers), "every encoding of labels has its head here"
    return "a RegressionConfig()"
