"""A model with heads for tasks: one head to fine-tune it for one, or several that learn at once on what they share.

    states = base(tokens);   scores_t = head_t(states) for each task t

Source: several tasks at once: Liu et al. (2019), MT-DNN, arXiv 1901.11504; departure: a pair of sentences is one document with two parts for
every head, and none attends between them once more.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.heads import (
    HubTask,
    MultipleChoiceConfig,
    NoHeadConfig,
    RegressionConfig,
    SequenceClassificationConfig,
    TaskHeadConfig,
    TokenClassificationConfig,
)
from bloomery.models.model import CausalModel, ExportableConfig, HubConfig, HubTensor, Model, ModelConfig, OnBase
from bloomery.models.transformer import NamedConfig, Transformer, TransformerConfig
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.init import WeightInit
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.seen import Seen

COUNTED = (SequenceClassificationConfig, TokenClassificationConfig)  # heads whose number of labels the hub's config.json gives


class TaskConfig(OnBase, ExportableConfig):
    """A model of any family, and heads on its states.

    Example:
        >>> encoder = BertConfig(vocab_size=8192, d_model=256, n_layers=4, n_heads=4)
        >>> TaskConfig(base=encoder, heads=(SequenceClassificationConfig(name="mood", n_labels=3), RegressionConfig(name="stars")))
    """

    base: ModelConfig
    """The model whose states the heads read."""
    heads: tuple[TaskHeadConfig, ...] = ()
    """One for each task, with names of their own; none leaves the states alone."""
    language_head: bool = False
    """Whether the base keeps its own head for the vocabulary, to go on learning language beside the tasks."""

    def check(self) -> None:
        if not isinstance(self.base, TransformerConfig | NamedConfig):
            raise ConfigError(f"TaskConfig.base is a {self.base.kind()}, which is no single stack of blocks; take a decoder or an encoder")
        names = [head.name for head in self.heads]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"TaskConfig.heads has the name {twice!r} twice; give each head a name of its own")

    @property
    def parts(self) -> TransformerConfig:
        """What the base is made of here."""
        assert isinstance(self.base, TransformerConfig | NamedConfig)
        whole = self.base if isinstance(self.base, TransformerConfig) else self.base.transformer
        return whole if self.language_head else whole.replace(transform=None, head=NoHeadConfig())

    def skeleton(self) -> TaskModel:
        return TaskModel(self)

    def build_on(self, base: Model, seed: int) -> TaskModel:
        """Fresh heads on the weights of a trained model, which are copied.

        Args:
            base: of this config's `base`, or with heads on one.
            seed: of the heads.

        Raises:
            ConfigError: it is another model.
        """
        theirs = base.base if isinstance(base, TaskModel) else base
        if theirs.config != self.base:
            raise ConfigError(f"TaskConfig.base={self.base} is not what the given model is: {theirs.config}; take its config")
        model, weights = self.build(seed), dict(theirs.named_parameters())
        with torch.no_grad():
            for name, parameter in model.base.named_parameters():
                if name not in weights:
                    raise ConfigError(f"TaskConfig.language_head=True, and the given model has none (no {name!r}); leave it out")
                parameter.copy_(weights[name])
        return model

    def flops_per_token(self, seq_len: int) -> float:
        return self.parts.flops_per_token(seq_len) + 3.0 * sum(head.flops(self.d_model) for head in self.heads)

    # On the hub: models with one head, each of a class of its own there.

    @cached_property
    def _hub_class(self) -> tuple[str, HubTask]:
        """The library's class that has just these heads, and its layout."""
        if isinstance(self.base, HubConfig):
            for name, task in self.base.hub_tasks().items():
                if task.language_head == self.language_head and self.heads == (() if task.head is None else (self._like(task.head),)):
                    return name, task
        kinds = ", ".join(head.kind() for head in self.heads) or "no head"
        raise ConfigError(f"a {self.base.kind()} with {kinds}{' and its own head' * self.language_head} has no class on the hub; "
                          "export a model with one head, as its family has it there")  # fmt: skip

    def _like(self, head: TaskHeadConfig) -> TaskHeadConfig:
        """A head of the hub's with the name and the numbers of ours, where it is of ours' kind."""
        ours = self.heads[0] if len(self.heads) == 1 else None
        if type(ours) is RegressionConfig and isinstance(head, SequenceClassificationConfig):
            return RegressionConfig(name=ours.name, pooling=head.pooling, bias=head.bias)
        if type(ours) is not type(head):
            return head
        free = {name: getattr(ours, name) for name in ("name", "n_labels", "n_choices") if name in type(head).model_fields}
        return head.replace(**free)

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        _, task = self._hub_class
        assert isinstance(self.base, HubConfig)
        with torch.device("meta"):
            shapes = {name: tuple(parameter.shape) for name, parameter in self.skeleton().named_parameters()}
        parts = {f"base.{ours}": theirs for ours, theirs in self.base.hub_parts().items() if f"base.{ours}" in shapes}
        if task.prefix:
            parts = {ours: tuple(_without(task.prefix, one) for one in theirs) for ours, theirs in parts.items()}
        for ours, theirs in task.modules.items():
            for one in ("weight", "bias"):
                if (name := f"heads.{self.heads[0].name}.{ours}.{one}") in shapes:
                    parts[name] = (HubTensor(f"{theirs}.{one}", shapes[name]),)
        assert parts.keys() == shapes.keys(), "a family's hub_tasks do not name all that its heads are made of"
        return parts

    def hub_copies(self) -> set[str]:
        _, task = self._hub_class
        assert isinstance(self.base, HubConfig)
        return {name.removeprefix(task.prefix) for name in self.base.hub_copies()}  # of which some are read here

    def to_hub(self) -> dict[str, Any]:
        name, _ = self._hub_class
        assert isinstance(self.base, HubConfig)
        plain = self.base.to_hub() | {"architectures": [name]}
        for head in self.heads:
            plain |= {"finetuning_task": head.name}
            if isinstance(head, MultipleChoiceConfig):
                plain |= {"num_choices": head.n_choices}
            elif isinstance(head, RegressionConfig):
                plain |= _labels(1) | {"problem_type": "regression"}
            elif isinstance(head, COUNTED):
                plain |= _labels(head.n_labels)
        return plain


def with_heads(base: HubConfig, plain: dict[str, Any]) -> ExportableConfig:
    """The model that a hub folder's `config.json` is of: the base alone, or with the heads that its `architectures` names.

    Its `finetuning_task` names the head. Classes with one number instead of classes are the same ones there, with one label. Where it does
    not say how many choices a question has, there are four.

    Raises:
        DataError: it has labels that do not exclude each other.
    """
    tasks = base.hub_tasks()
    name = next((one for one in plain.get("architectures") or () if one in tasks), None)
    if name is None:
        return base
    if (kind := plain.get("problem_type")) == "multi_label_classification":
        raise DataError(f"config.json has problem_type={kind!r}, which is not supported; labels exclude each other here")
    task, n_labels = tasks[name], plain.get("num_labels") or len(plain.get("id2label") or (0, 1))
    if task.head is None:
        return TaskConfig(base=base, language_head=task.language_head)
    head = task.head.replace(name=plain.get("finetuning_task") or task.head.name)
    if isinstance(head, SequenceClassificationConfig) and n_labels == 1:
        head = RegressionConfig(name=head.name, pooling=head.pooling, bias=head.bias)
    elif isinstance(head, COUNTED):
        head = head.replace(n_labels=n_labels)
    elif isinstance(head, MultipleChoiceConfig):
        head = head.replace(n_choices=plain.get("num_choices", 4))
    return TaskConfig(base=base, heads=(head,), language_head=task.language_head)


class TaskModel(CausalModel):
    """A model and heads on its states. Parameters: base.… as in the base, and heads.<name>.…."""

    def __init__(self, config: TaskConfig) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.base: Transformer = config.parts.skeleton()
        self.base.config = config.base
        self.heads = nn.ModuleDict({head.name: head.build(config.d_model) for head in config.heads})
        self.head = self.base.head  # raises `ConfigError` for whoever asks it, where it was not kept

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        return self.base.features(tokens, layout, cache, seen, passage)

    def hidden(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """The states that the heads read; the arguments are those of `features`."""
        return self.base.hidden(tokens, layout, cache, seen)

    def scores_of(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> dict[str, Tensor]:
        """What each head makes of states: (batch, time, n_scores); that of a whole document stands at its first place."""
        return {name: head(states, layout) for name, head in self.heads.items()}

    def scores(self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout) -> dict[str, Tensor]:
        """What each head makes of the tokens: (batch, time, n_scores); that of a whole document stands at its first place."""
        return self.scores_of(self.hidden(tokens, layout), layout)

    def both(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout
    ) -> tuple[Float[Tensor, "batch time d_features"], dict[str, Tensor]]:
        """Features for the vocabulary and scores, of one pass."""
        states = self.hidden(tokens, layout)
        return self.base.transform(states), self.scores_of(states, layout)

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        return self.base.new_cache(batch, capacity)

    def wire(self, init: WeightInit, seed: int) -> None:
        self.base.wire(init, seed)


def _without(prefix: str, tensor: HubTensor) -> HubTensor:
    return HubTensor(tensor.name.removeprefix(prefix), tensor.shape, tensor.transposed)


def _labels(n: int) -> dict[str, Any]:
    return {"id2label": {str(i): f"LABEL_{i}" for i in range(n)}, "label2id": {f"LABEL_{i}": i for i in range(n)}}
