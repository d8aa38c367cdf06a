"""BERT: a post-norm encoder that fills in masked tokens.

    x ← norm(x + Attention(x));   x ← norm(x + W₂ · gelu(W₁ · x));   logits = E · norm(gelu(W · x)) + b

Source: Devlin et al. (2019), arXiv 1810.04805, and its published code; departure: no dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bloomery.models.encoders import EncoderConfig, Parts, map_parts, norm_parts
from bloomery.models.heads import HubTask, MultipleChoiceConfig, SequenceClassificationConfig, TokenClassificationConfig
from bloomery.models.model import HubTensor


class BertConfig(EncoderConfig):
    """Sizes of a BERT; see `EncoderConfig`."""

    hub_type: ClassVar[str] = "bert"
    hub_architecture: ClassVar[str] = "BertForMaskedLM"
    hub_prefix: ClassVar[str] = "bert."

    def hub_head_parts(self) -> Parts:
        d = self.d_model
        return (
            map_parts("transform.dense", ("cls.predictions.transform.dense",), d, d)
            | norm_parts("transform.norm", "cls.predictions.transform.LayerNorm", d)
            | {"head.bias": (HubTensor("cls.predictions.bias", (self.vocab_size,)),)}
        )

    def hub_copies(self) -> set[str]:
        copies = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        unread = {f"{name}.{one}" for name in ("bert.pooler.dense", "cls.seq_relationship") for one in ("weight", "bias")}
        return super().hub_copies() | copies | unread

    def hub_tasks(self) -> Mapping[str, HubTask]:
        label, pooler = SequenceClassificationConfig(name="label", n_labels=2), {"pooling.dense": "bert.pooler.dense"}
        return {
            "BertForSequenceClassification": HubTask(label, pooler | {"out": "classifier"}),
            "BertForTokenClassification": HubTask(TokenClassificationConfig(name="label", n_labels=2), {"out": "classifier"}),
            "BertForMultipleChoice": HubTask(MultipleChoiceConfig(name="choice"), pooler | {"out": "classifier"}),
            "BertForNextSentencePrediction": HubTask(label, pooler | {"out": "cls.seq_relationship"}),
            "BertForPreTraining": HubTask(label, pooler | {"out": "cls.seq_relationship"}, language_head=True),
            "BertModel": HubTask(None, prefix="bert."),
        }
