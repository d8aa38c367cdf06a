"""`ModelChange`: what is made of a trained model before it is trained on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.rng import derive_seed
from bloomery.models.model import Model, ModelConfig
from bloomery.models.transformer import NamedConfig, Transformer, TransformerConfig
from bloomery.nn.init import WeightInit, initialise
from bloomery.nn.layout import SequenceLayout

TOLERANCE = 1e-5
"""How far a change that keeps the function may move a logit, relative to the largest where that is above 1."""
PROBES = (2, 32)
"""Rows and tokens of the text that models are compared on."""


class ModelChange(Config):
    """Another model made of a trained one: its config is known beforehand, its weights are made of the old ones. Subclasses write both."""

    keeps_function: ClassVar[bool]
    """Whether the new model gives the logits of the old one until it is trained on; a change that promises it is refused where it does not."""

    @abstractmethod
    def config_of(self, config: ModelConfig) -> ModelConfig:
        """The config of what it makes of a model with this one; raises `ConfigError` where it cannot."""

    @abstractmethod
    def weights_of(self, model: Transformer, config: ModelConfig) -> Transformer:
        """What it makes of a model, by the config that `config_of` gave."""

    def apply(self, config: ModelConfig, model: Model) -> tuple[ModelConfig, Model]:
        """Makes the new model; the old one stays as it is.

        Args:
            config: of the model.
            model: on the CPU in float32.

        Raises:
            ConfigError: the model has parts for which there is no rule, or its function would move though that is promised.
        """
        changed = self.config_of(config)
        assert isinstance(model, Transformer)  # `config_of` refuses any other
        new = self.weights_of(model, changed)
        if self.keeps_function and not (found := difference(model, new)) <= TOLERANCE:
            raise ConfigError(f"{self} would move the logits of the model by {found:.2g}, more than {TOLERANCE:g}, though it is to keep them; "
                              "take another change: Deepen mostly moves none, and Duplicate promises nothing")  # fmt: skip
        return changed, new


class Opened(ModelChange):
    """The same model as a member of the open family, which can be changed in ways for which a named family has no room.

    Libraries on the hub cannot read it any more.
    """

    keeps_function: ClassVar[bool] = True

    def config_of(self, config: ModelConfig) -> ModelConfig:
        return parts_of(config, str(self))

    def weights_of(self, model: Transformer, config: ModelConfig) -> Transformer:
        new = fresh(config, config.init, 0)
        carry(model, new)
        return new


def parts_of(config: ModelConfig, change: str) -> TransformerConfig:
    """The parts of a model that is a `Transformer`; others are refused."""
    parts = config.transformer if isinstance(config, NamedConfig) else config
    if not isinstance(parts, TransformerConfig):
        raise ConfigError(f"{change} has no rule for a {config.kind()}; it changes models that are one stack of blocks")
    return parts


def resized(
    config: ModelConfig, wanted: TransformerConfig, sizes: Mapping[str, Any], change: str, by_layer: bool = False
) -> ModelConfig:
    """A config with other sizes, of the family that it is of; refused where the family cannot be made of the wanted parts.

    Args:
        config: of the model.
        wanted: the parts of the new model.
        sizes: what they are called in configs of families; those that this one has not are left out.
        change: for the message.
        by_layer: whether the caller compares the layers' own parts itself.
    """
    if not isinstance(config, NamedConfig):
        return wanted
    fields = type(config).model_fields
    new = config.replace(**{name: size for name, size in sizes.items() if name in fields})
    ours, theirs = (dict(parts) for parts in (wanted, new.transformer))
    layers = ("mixers", "feed_forwards") if by_layer else ()
    if different := [name for name in ours if name not in layers and ours[name] != theirs[name]]:
        name = different[0]
        raise ConfigError(f"{change} needs {name}={_told(ours[name])}, and a {config.kind()} of these sizes has {name}={_told(theirs[name])}; "
                          "convert it by Opened() first, which makes it a TransformerConfig")  # fmt: skip
    return new


def _told(value: Any) -> str:
    return "(" + ", ".join(str(one) for one in value) + ")" if isinstance(value, tuple) else str(value)


def fresh(config: ModelConfig, init: WeightInit, seed: int) -> Transformer:
    """A model on the CPU with weights drawn from an initialisation that need not be its config's; nothing is wired across layers."""
    model = config.blank()
    initialise(model, init, config.n_layers, derive_seed(seed, "change"))
    assert isinstance(model, Transformer)
    return model


def carry(old: nn.Module, new: nn.Module) -> None:
    """Copies all parameters of a module to one of the same shape."""
    theirs = dict(old.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, parameter in new.named_parameters(remove_duplicate=False):
            if name not in theirs or theirs[name].shape != parameter.shape:
                raise ConfigError(f"there is no rule for the parameter {name!r} of a {type(new).__name__}, whose shape depends on what is "
                                  "changed; take a change that leaves it, or another model")  # fmt: skip
            parameter.copy_(theirs[name])


@torch.no_grad()
def difference(before: Model, after: Model) -> float:
    """How far apart the logits of two models are on random text: the largest difference, relative to the largest logit if that is above 1."""
    config = before.config
    generator = torch.Generator().manual_seed(derive_seed(0, "probe"))
    rows, time = PROBES[0], min(PROBES[1], config.max_seq_len)
    tokens = torch.randint(config.vocab_size, (rows, time), generator=generator)
    layout = SequenceLayout.rows(rows, time, causal=config.reads_forward)
    logits = []
    for model in (before, after):
        training = model.training
        logits.append(model.eval()(tokens, layout))
        model.train(training)
    return float((logits[0] - logits[1]).abs().max() / logits[0].abs().max().clamp(min=1.0))
