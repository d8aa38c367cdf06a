"""DeBERTa in its second and third versions: a post-norm encoder whose attention knows contents and distances apart, and no absolute places.

    x ← norm(x + DisentangledAttention(x));   x ← norm(x + W₂ · gelu(W₁ · x));   logits = E · norm(gelu(W · x)) + b

Source: He et al. (2020), arXiv 2006.03654; He et al. (2021), arXiv 2111.09543, and the published code. Departures: no dropout; as in the
transformers library, masked tokens are predicted without the paper's decoder layers that add absolute places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.models.encoders import HUB_ACTIVATIONS, Parts, map_parts, norm_parts
from bloomery.models.heads import HubTask, MultipleChoiceConfig, SequenceClassificationConfig, TokenClassificationConfig
from bloomery.models.hub_fields import refuse_others, require
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformConfig, TransformerConfig
from bloomery.nn.block import PostNorm
from bloomery.nn.disentangled import DisentangledConfig, Terms
from bloomery.nn.feedforward import Activation, PlainConfig
from bloomery.nn.head import TiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.norms import LayerNormConfig, NoNormConfig
from bloomery.nn.pooling import FirstPoolingConfig

HUB_TERMS: dict[frozenset[str], Terms] = {
    frozenset(("p2c", "c2p")): "both", frozenset(("c2p",)): "content_to_position", frozenset(("p2c",)): "position_to_content",
}  # fmt: skip


class DebertaConfig(NamedConfig):
    """Sizes of a DeBERTa; what is not given is as in version 3, or follows from what is."""

    hub_type: ClassVar[str] = "deberta-v2"
    hub_architecture: ClassVar[str] = "DebertaV2ForMaskedLM"

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    n_heads: int = Field(gt=0)
    """Heads per layer, a divisor of d_model."""
    d_ff: int = Field(gt=0, default_factory=lambda known: 4 * known["d_model"])
    """Width of the feed-forward layer; 4 · d_model unless given."""
    max_seq_len: int = Field(default=512, gt=0)
    """The longest document that the model can read, in tokens."""
    terms: Terms = "both"
    """Which products with positions attention has beside that of contents."""
    n_buckets: int | None = 256
    """Distances in each direction that are told apart: one by one up to the half of them, then by order of size. None tells all apart."""
    max_distance: int = Field(default_factory=lambda known: known["max_seq_len"])
    """From about so many places on, all distances are alike; max_seq_len unless given."""
    shared_maps: bool = True
    """Whether the vectors of distances become keys and queries by the maps of contents."""
    norm_distances: bool = True
    """Whether the vectors of distances are normed."""
    n_parts: int = Field(default=0, ge=0)
    """Parts of a document that have vectors of their own (token types); 0 for none."""
    activation: Activation = "gelu"
    """In the feed-forward layers, and before the head."""
    norm_eps: float = Field(default=1e-7, gt=0)
    """Added to the variance in the norms."""
    legacy_names: bool = True
    """Whether the head has the names on the hub that the transformers library gave it first, and takes it to have; not those of the authors."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if self.activation not in HUB_ACTIVATIONS.values():
            raise self.refuse("activation", f"has no name on the hub; {' or '.join(dict.fromkeys(HUB_ACTIVATIONS.values()))} has")
        assert self.transformer

    @property
    def transformer(self) -> TransformerConfig:
        norm = LayerNormConfig(eps=self.norm_eps)
        attention = DisentangledConfig(
            n_heads=self.n_heads, terms=self.terms, n_buckets=self.n_buckets, max_distance=self.max_distance, shared_maps=self.shared_maps,
            table_norm=norm if self.norm_distances else NoNormConfig(),
        )
        return TransformerConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, max_seq_len=self.max_seq_len, causal=False,
            mixers=(attention,), feed_forwards=(PlainConfig(d_ff=self.d_ff, activation=self.activation),), norm=norm, placement=PostNorm(),
            n_parts=self.n_parts or None, embedding_norm=norm, transform=TransformConfig(activation=self.activation, norm=norm),
            head=TiedConfig(bias=True), init=self.init,
        )

    def hub_parts(self) -> Parts:
        d, embeddings, encoder = self.d_model, "deberta.embeddings.", "deberta.encoder."
        parts: Parts = {"embedding.weight": (HubTensor(embeddings + "word_embeddings.weight", (self.vocab_size, d)),)}
        if self.n_parts:
            parts["parts.weight"] = (HubTensor(embeddings + "token_type_embeddings.weight", (self.n_parts, d)),)
        parts |= norm_parts("embedding_norm", embeddings + "LayerNorm", d)
        rows = 2 * (self.n_buckets or self.max_distance)
        parts["blocks.0.mixer.distances.table.weight"] = (HubTensor(encoder + "rel_embeddings.weight", (rows, d)),)
        if self.norm_distances:
            parts |= norm_parts("blocks.0.mixer.distances.norm", encoder + "LayerNorm", d)
        positions = {"both": ("query", "key"), "position_to_content": ("query",), "content_to_position": ("key",)}[self.terms]
        for i in range(self.n_layers):
            ours, theirs = f"blocks.{i}.", f"{encoder}layer.{i}."
            attention = theirs + "attention.self."
            parts |= norm_parts(ours + "mixer_norm", theirs + "attention.output.LayerNorm", d)
            parts |= map_parts(ours + "mixer.qkv", tuple(f"{attention}{one}_proj" for one in ("query", "key", "value")), d, d)
            parts |= map_parts(ours + "mixer.out", (theirs + "attention.output.dense",), d, d)
            if not self.shared_maps:
                parts |= map_parts(ours + "mixer.positions", tuple(f"{attention}pos_{one}_proj" for one in positions), d, d)
            parts |= norm_parts(ours + "ff_norm", theirs + "output.LayerNorm", d)
            parts |= map_parts(ours + "ff.up", (theirs + "intermediate.dense",), self.d_ff, d)
            parts |= map_parts(ours + "ff.down", (theirs + "output.dense",), d, self.d_ff)
        transform, head = ("cls.predictions.transform.", "cls.predictions.") if self.legacy_names else ("lm_predictions.lm_head.",) * 2
        parts |= map_parts("transform.dense", (transform + "dense",), d, d) | norm_parts("transform.norm", transform + "LayerNorm", d)
        return parts | {"head.bias": (HubTensor(head + "bias", (self.vocab_size,)),)}

    def hub_copies(self) -> set[str]:
        copies = {"deberta.embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        discriminator = {f"mask_predictions.{name}.{one}" for name in ("dense", "LayerNorm", "classifier") for one in ("weight", "bias")}
        return copies | discriminator

    def to_hub(self) -> dict[str, Any]:
        names = {ours: "|".join(sorted(theirs, reverse=True)) for theirs, ours in HUB_TERMS.items()}
        return {
            "architectures": [self.hub_architecture], "model_type": self.hub_type, "dtype": "float32",
            "vocab_size": self.vocab_size, "hidden_size": self.d_model, "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers, "num_attention_heads": self.n_heads, "type_vocab_size": self.n_parts,
            "max_position_embeddings": self.max_seq_len, "max_relative_positions": self.max_distance, "position_buckets": self.n_buckets or -1,
            "relative_attention": True, "position_biased_input": False, "pos_att_type": names[self.terms], "share_att_key": self.shared_maps,
            "norm_rel_ebd": "layer_norm" if self.norm_distances else "none", "layer_norm_eps": self.norm_eps,
            "hidden_act": next(theirs for theirs, ours in HUB_ACTIVATIONS.items() if ours == self.activation),
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": self.init.embedding_std(self.d_model),
            "legacy": self.legacy_names, "pooler_hidden_act": "gelu",
            "tie_word_embeddings": self.legacy_names,  # it reads the table itself under the other names, and version 4 would tie another matrix
        }  # fmt: skip

    def hub_tasks(self) -> Mapping[str, HubTask]:
        pooling = FirstPoolingConfig(activation="gelu")
        label = SequenceClassificationConfig(name="label", n_labels=2, pooling=pooling)
        of_first = {"pooling.dense": "pooler.dense", "out": "classifier"}
        return {
            "DebertaV2ForSequenceClassification": HubTask(label, of_first),
            "DebertaV2ForTokenClassification": HubTask(TokenClassificationConfig(name="label", n_labels=2), {"out": "classifier"}),
            "DebertaV2ForMultipleChoice": HubTask(MultipleChoiceConfig(name="choice", pooling=pooling), of_first),
            "DebertaV2Model": HubTask(None, prefix="deberta."),
        }

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> DebertaConfig:
        require(plain, "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        width = plain["hidden_size"]
        refuse_others({"relative_attention": False, "position_biased_input": True} | plain, "DeBERTa", {
            "relative_attention": (True,), "position_biased_input": (False,), "conv_kernel_size": (0,), "embedding_size": (width,),
            "attention_head_size": (width // plain["num_attention_heads"],),
            "tie_word_embeddings": (True,) if plain.get("legacy", True) else (True, False),
            "pooler_hidden_act": ("gelu",), "pooler_hidden_size": (width,), "hidden_act": tuple(HUB_ACTIVATIONS),
            "norm_rel_ebd": ("layer_norm", "none"),
        })  # fmt: skip
        asked = plain.get("pos_att_type") or []
        terms = frozenset(one.strip() for one in (asked.lower().split("|") if isinstance(asked, str) else asked))
        if terms not in HUB_TERMS:
            raise DataError(f"config.json has pos_att_type={asked!r}, which is not supported; 'p2c|c2p', 'p2c' and 'c2p' are")
        max_seq_len, max_distance, n_buckets = plain.get("max_position_embeddings") or 512, *(
            plain[name] if (plain.get(name) or -1) > 0 else None for name in ("max_relative_positions", "position_buckets")
        )  # fmt: skip
        return cls(
            vocab_size=plain["vocab_size"], d_model=width, d_ff=plain["intermediate_size"], n_layers=plain["num_hidden_layers"],
            n_heads=plain["num_attention_heads"], max_seq_len=max_seq_len, max_distance=max_distance or max_seq_len,
            n_buckets=n_buckets, terms=HUB_TERMS[terms], shared_maps=bool(plain.get("share_att_key")),
            norm_distances=plain.get("norm_rel_ebd") == "layer_norm", n_parts=plain.get("type_vocab_size") or 0,
            activation=HUB_ACTIVATIONS[plain.get("hidden_act") or "gelu"], norm_eps=plain.get("layer_norm_eps", 1e-7),
            legacy_names=plain.get("legacy", True),
        )  # fmt: skip
