"""ELECTRA: a small generator fills in masked tokens, and a discriminator tells for every token whether it was replaced.

Source: Clark et al. (2020), arXiv 2003.10555, and its published code; departure: no dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.deberta import DebertaConfig
from bloomery.models.encoders import EncoderConfig, Parts, map_parts, norm_parts
from bloomery.models.heads import HubTask, MultipleChoiceConfig, ReplacedConfig, SequenceClassificationConfig, TokenClassificationConfig
from bloomery.models.model import HubTensor, Model, ModelConfig
from bloomery.models.sharing import EmbeddingSharing, WholeSharing, table_of
from bloomery.models.tasks import TaskConfig, TaskModel
from bloomery.models.transformer import Transformer
from bloomery.nn.cache import Cache
from bloomery.nn.feedforward import Activation
from bloomery.nn.init import WeightInit
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.pooling import FirstPoolingConfig
from bloomery.nn.seen import Seen


class ElectraConfig(EncoderConfig):
    """Sizes of one of ELECTRA's two encoders, as a masked language model: the generator. See `EncoderConfig`."""

    hub_type: ClassVar[str] = "electra"
    hub_architecture: ClassVar[str] = "ElectraForMaskedLM"
    hub_prefix: ClassVar[str] = "electra."
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {"summary_type": ("first",), "summary_use_proj": (True,), "summary_activation": ("gelu",)}  # of its head for multiple choice
    )

    d_embedding: int = Field(gt=0, default_factory=lambda known: known["d_model"])
    """Width of the embedding table; a map widens it to d_model where it is another."""

    @property
    def embedding_width(self) -> int:
        return self.d_embedding

    @property
    def transform_activation(self) -> Activation:
        return "gelu"

    def hub_parts(self) -> Parts:
        widen = {} if self.d_embedding == self.d_model else map_parts("widen", ("electra.embeddings_project",), self.d_model, self.d_embedding)
        return super().hub_parts() | widen

    def hub_head_parts(self) -> Parts:
        return (
            map_parts("transform.dense", ("generator_predictions.dense",), self.d_embedding, self.d_model)
            | norm_parts("transform.norm", "generator_predictions.LayerNorm", self.d_embedding)
            | {"head.bias": (HubTensor("generator_lm_head.bias", (self.vocab_size,)),)}
        )

    def hub_copies(self) -> set[str]:
        return super().hub_copies() | {"generator_lm_head.weight"}

    def to_hub(self) -> dict[str, Any]:
        return super().to_hub() | {"embedding_size": self.d_embedding}

    @classmethod
    def from_hub_more(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return {"d_embedding": plain.get("embedding_size", 128)}

    def hub_tasks(self) -> Mapping[str, HubTask]:
        pooling = FirstPoolingConfig(activation="gelu")
        label = SequenceClassificationConfig(name="label", n_labels=2, pooling=pooling)
        scores = {"pooling.dense": "discriminator_predictions.dense", "out": "discriminator_predictions.dense_prediction"}
        return {
            "ElectraForPreTraining": HubTask(ReplacedConfig(activation=self.activation), scores),
            "ElectraForSequenceClassification": HubTask(label, {"pooling.dense": "classifier.dense", "out": "classifier.out_proj"}),
            "ElectraForTokenClassification": HubTask(TokenClassificationConfig(name="label", n_labels=2), {"out": "classifier"}),
            "ElectraForMultipleChoice": HubTask(
                MultipleChoiceConfig(name="choice", pooling=pooling), {"pooling.dense": "sequence_summary.summary", "out": "classifier"}
            ),
            "ElectraModel": HubTask(None, prefix="electra."),
        }


class ElectraPairConfig(ModelConfig):
    """Both encoders as one model to be trained: what the generator fills in, the discriminator judges.

    They share embeddings, which must be alike, and each widens them by itself. The discriminator is what is kept for use.

    Example:
        >>> ElectraPairConfig(generator=encoder.replace(d_model=64, n_heads=1), discriminator=encoder)  # an ElectraConfig
        >>> ElectraPairConfig(generator=deberta.replace(n_layers=6), discriminator=deberta, sharing=GradientDisentangledSharing())
    """

    generator: EncoderConfig | DebertaConfig
    """Fills in masked tokens; ELECTRA's has a quarter to a half of the discriminator's width, DeBERTa-v3's half of its layers."""
    discriminator: EncoderConfig | DebertaConfig
    """Tells which tokens were replaced."""
    sharing: EmbeddingSharing = WholeSharing()
    """What the discriminator has of the generator's embeddings."""

    def check(self) -> None:
        if type(self.generator) is not type(self.discriminator):
            raise ConfigError(f"ElectraPairConfig.generator is a {self.generator.kind()} and the discriminator a {self.discriminator.kind()}; "
                              "take two of one family")  # fmt: skip
        fields = type(self.generator).model_fields
        for name in ("d_embedding" if "d_embedding" in fields else "d_model", *(name for name in self.sharing.alike if name in fields)):
            one, other = getattr(self.generator, name), getattr(self.discriminator, name)
            if one != other:
                raise ConfigError(f"ElectraPairConfig.generator.{name}={one} is not the discriminator's {name}={other}, and they share "
                                  "embeddings; give both the same")  # fmt: skip

    @property
    def judge(self) -> TaskConfig:
        """The discriminator with its head: of an Electra, what an `ElectraForPreTraining` of the hub is."""
        return TaskConfig(base=self.discriminator, heads=(ReplacedConfig(activation=self.discriminator.activation),))

    @property
    def vocab_size(self) -> int:
        return self.discriminator.vocab_size

    @property
    def d_model(self) -> int:
        return self.discriminator.d_model

    @property
    def n_layers(self) -> int:
        return self.discriminator.n_layers

    @property
    def max_seq_len(self) -> int:
        return self.discriminator.max_seq_len

    @property
    def init(self) -> WeightInit:
        return self.discriminator.init

    @property
    def reads_forward(self) -> bool:
        return False

    def skeleton(self) -> Electra:
        return Electra(self)

    def flops_per_token(self, seq_len: int) -> float:
        """Those of both; see `TransformerConfig.flops_per_token`."""
        return self.generator.flops_per_token(seq_len) + self.judge.flops_per_token(seq_len)


class Electra(Model):
    """Generator and discriminator with embeddings in common; as a model of language it is its generator.

    Parameters: generator.… as in a `Transformer`, and discriminator.… as in a `TaskModel`, without the embeddings that are the generator's.
    """

    def __init__(self, config: ElectraPairConfig) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.generator: Transformer = config.generator.skeleton()
        self.discriminator: TaskModel = config.judge.skeleton()
        config.sharing.share(self.generator, self.discriminator.base)
        self.head = self.generator.head

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        return self.generator.features(tokens, layout, cache, seen, passage)

    def replaced(self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout) -> Float[Tensor, "batch time"]:
        """The logit of each token's having been replaced."""
        return self.discriminator.scores(tokens, layout)["replaced"][:, :, 0]

    def judge(self) -> TaskModel:
        """The discriminator as a model by itself, on the CPU, with all of its embeddings: what is kept for use."""
        assert isinstance(self.config, ElectraPairConfig)
        model, embedding = self.config.judge.build(seed=0), self.discriminator.base.embedding
        ours = dict(self.discriminator.named_parameters()) | {"base.embedding.weight": table_of(embedding)}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(ours[name])
        return model
