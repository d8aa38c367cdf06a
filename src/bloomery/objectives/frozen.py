"""`Frozen` and `Importance`: what losses look back at. What is in them is a stage's business; a loss only names it."""

from __future__ import annotations

from functools import cached_property

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.identity import content_key
from bloomery.models.model import ModelConfig


class Frozen(Config):
    """A model that a loss asks and nothing changes: a teacher, or what the model was before. A stage that leaves a model is one (`Trained`),
    and so is a folder of the Hugging Face hub (`Hub`).

    Losses find it by this value: `reading.beside(self.teacher)`.
    """

    @property
    def architecture(self) -> ModelConfig | None:
        """Its sizes, as far as they are known before anything is run."""
        return None

    @cached_property
    def address(self) -> str:
        """What it is found by."""
        return content_key(self)


def check_same_ids(who: str, theirs: ModelConfig | None, model: ModelConfig | None) -> None:
    """Raises `ConfigError` where two models that are known cannot read the same ids.

    Args:
        who: looks at the other model, for the message: "Distil.teacher is".
        theirs: the other model.
        model: that is trained.
    """
    if theirs is not None and model is not None and theirs.vocab_size != model.vocab_size:
        raise ConfigError(f"{who} a {theirs.kind()} of vocab_size={theirs.vocab_size}, and the model's is {model.vocab_size}; the same ids "
                          "must mean the same: take models of one tokenizer")  # fmt: skip


class Importance(Config):
    """How much each weight of a model matters to what it has learnt, F ≥ 0, by canonical name: the stage `Fisher` is one."""

    @property
    def measured_on(self) -> Frozen:
        """The model whose weights these are."""
        raise NotImplementedError
