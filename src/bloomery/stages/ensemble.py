"""`Ensemble`: several trained models as one artifact that predicts. Of their weights, `Soup` is the mean.

    model/           config.json, model.safetensors; weights that are the same in all members are there once
    tokenizer/       tokenizer.json
    ensemble.json    the members, and what they share
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models import Model, ModelConfig, read_model, write_model
from bloomery.models.ensemble import EnsembleConfig, EnsembleModel, Mean
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.stages.trained import Trained
from bloomery.store import Workspace, write_bytes, write_json


class Ensemble(Trained):
    """The members' predictions, averaged: of labels, or of next tokens. What takes a trained model to ask it takes this.

    Example:
        >>> Ensemble(members=tuple(tuned(seed) for seed in range(5)))
        >>> Ensemble(members=tuple(trained_on(Fold(number=k, of=5, side="others")) for k in range(5)), mean="logits")
    """

    members: tuple[Trained, ...] = Field(min_length=1)
    """The models, of one tokenizer: of other seeds, other folds of the data, other sizes."""
    mean: Mean = "probabilities"
    """Of what: "logits" or "probabilities"."""

    def check(self) -> None:
        for one in self.members:
            if one.vocabulary != self.vocabulary:
                raise ConfigError(f"Ensemble has {one.reference}, trained with {one.vocabulary.reference}, beside one of "
                                  f"{self.vocabulary.reference}; only models of one tokenizer speak of the same tokens")  # fmt: skip
        _ = self.architecture  # what an EnsembleConfig refuses, it refuses when it is written down

    @property
    def architecture(self) -> ModelConfig | None:
        """The models, as long as it is not known what they share."""
        known = [config for one in self.members if (config := one.architecture) is not None]
        return EnsembleConfig(members=tuple(known), mean=self.mean) if len(known) == len(self.members) else None

    @property
    def vocabulary(self) -> TrainTokenizer | LoadTokenizer:
        return self.members[0].vocabulary

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        read = [read_model(inputs[one].path / "model") for one in self.members]
        shared, names = common([model for _, model in read]), [one.reference for one in self.members]
        config = EnsembleConfig(members=tuple(config for config, _ in read), mean=self.mean, shared=shared)
        write_model(workspace.path / "model", config, EnsembleModel(config, [model for _, model in read]))
        tokenizer = inputs[self.members[0]].checked("tokenizer/tokenizer.json")
        write_bytes(workspace.path / "tokenizer" / "tokenizer.json", tokenizer.read_bytes())
        write_json(workspace.path / "ensemble.json", {"mean": self.mean, "members": names, "shared": list(shared)})
        return {"parameters": config.n_params, "members": len(names), "shared": len(shared)}


def common(models: Sequence[Model]) -> tuple[str, ...]:
    """The names of the weights that are the same, bit for bit, in all of several models; none of a single one."""
    first, *others = [dict(model.named_parameters()) for model in models]
    return tuple(name for name, one in first.items() if others and all(_same(one, other, name) for other in others))


def _same(one: Tensor, other: Mapping[str, Tensor], name: str) -> bool:
    return name in other and one.dtype == other[name].dtype and torch.equal(one, other[name])
