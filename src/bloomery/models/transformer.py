"""The open family: a stack of blocks in which every part is a value. The named families are such values, with names on the hub.

    x = embedding (+ places);   x = block_i(x) for each layer;   logits = head(norm(x))
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.mesh.divide import MixesRows
from bloomery.models.heads import NoHeadConfig
from bloomery.models.model import CausalModel, HubConfig, ModelConfig
from bloomery.nn.block import Block, ParallelBlock, Placement, PostNorm, PreNorm, SerialBlock
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.feedforward import Activation, FeedForwardConfig, activation_function
from bloomery.nn.head import HeadConfig, TiedConfig, TiedHead
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.mixer import MixerConfig, SequenceMixer
from bloomery.nn.norms import NoNormConfig, NormConfig, RMSNormConfig, at
from bloomery.nn.once import Once
from bloomery.nn.part import Part, Shared
from bloomery.nn.positions import NoPlacesConfig, PlacesConfig
from bloomery.nn.seen import Seen


class TransformConfig(Part):
    """What BERT does before its head: norm(activation(W · x + b))."""

    activation: Activation = "gelu"
    """Behind the map."""
    norm: NormConfig
    """Of its result."""


class TransformerConfig(ModelConfig):
    """A model as the values of its parts. Layer i has the mixer and the feed-forward layer number i, counted round and round.

    Example:
        >>> near, far = AttentionConfig(n_heads=4, window=32), AttentionConfig(n_heads=4)
        >>> TransformerConfig(vocab_size=512, d_model=64, n_layers=4, mixers=(near, far), feed_forwards=(GatedConfig(d_ff=192),))
    """

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest sequence that the model can read, in tokens."""
    causal: bool = True
    """Whether a token sees only what comes before it; an encoder's see all."""
    mixers: tuple[MixerConfig, ...] = Field(min_length=1)
    """How tokens see each other, in layers 0, 1, …, and again from the first."""
    feed_forwards: tuple[FeedForwardConfig | None, ...] = Field(min_length=1)
    """What happens at each place by itself, in layers 0, 1, …, and again from the first; None for layers without."""
    n_distinct_layers: Annotated[int, Gt(0)] | None = None
    """Blocks that there are; they are used for as many layers in a row each. None has one per layer."""
    norm: NormConfig = RMSNormConfig()
    """In the blocks."""
    placement: Placement = PreNorm()
    """Where norms stand in a block."""
    final_norm: NormConfig = Field(default_factory=lambda known: NoNormConfig() if isinstance(known["placement"], PostNorm) else known["norm"])
    """Behind the last block; that of the blocks unless given, and none behind a post-norm."""
    places: PlacesConfig = NoPlacesConfig()
    """Vectors for positions, added to the embeddings."""
    n_parts: Annotated[int, Gt(0)] | None = None
    """Parts of a document that have vectors of their own (BERT's token types); None for none."""
    embedding_norm: NormConfig = NoNormConfig()
    """Of the embeddings."""
    embedding_scale: Annotated[float, Gt(0)] = 1.0
    """Factor on the embeddings of tokens."""
    d_embedding: int = Field(gt=0, default_factory=lambda known: known["d_model"])
    """Width of the embedding table; a map widens it to d_model where it is less."""
    transform: TransformConfig | None = None
    """Between the last norm and the head; None for nothing."""
    head: HeadConfig = TiedConfig()
    """From features to predictions."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        for field, parts in (("mixers", self.mixers), ("feed_forwards", self.feed_forwards)):
            if len(parts) > self.n_layers:
                raise self.refuse(field, f"has {len(parts)} entries for n_layers={self.n_layers}; give no more than there are layers")
        if self.n_distinct_layers is not None and self.n_layers % self.n_distinct_layers:
            raise self.refuse("n_distinct_layers", f"does not divide n_layers={self.n_layers}; 1 would")
        if self.n_distinct_layers is not None and len({*self.mixers}) + len({*self.feed_forwards}) > 2:
            raise self.refuse("n_distinct_layers", "shares layers, which then cannot differ in mixers or feed_forwards; give one of each")
        if self.d_embedding != self.d_model and self.transform is None and not isinstance(self.head, NoHeadConfig):
            raise self.refuse("d_embedding", f"is not d_model={self.d_model}, and the head reads what is d_embedding wide; give a transform")
        for i, mixer in enumerate(self.mixers):
            if self.causal and not mixer.reads_forward:
                raise ConfigError(f"TransformerConfig.mixers[{i}]={mixer.kind()} sees what comes after a token, and causal=True forbids it; "
                                  "set causal=False, or take another mixer")  # fmt: skip
            if not self.causal and not mixer.reads_both_ways:
                raise ConfigError(f"TransformerConfig.mixers[{i}]={mixer.kind()} only sees what comes before a token, and causal=False asks "
                                  "for all; set causal=True, or take another mixer")  # fmt: skip
            mixer.check_model(self.d_model, self.max_seq_len)
        self.placement.check_model(self)
        self.head.check_model(self.d_embedding, self.vocab_size)
        self.init.check_model(self)

    @property
    def reads_forward(self) -> bool:
        return self.causal

    @property
    def reads_prefix(self) -> bool:
        return self.causal and all(mixer.reads_both_ways for mixer in self.mixers)

    def mixer(self, layer: int) -> MixerConfig:
        """That of a layer."""
        return self.mixers[layer % len(self.mixers)]

    def feed_forward(self, layer: int) -> FeedForwardConfig | None:
        """That of a layer."""
        return self.feed_forwards[layer % len(self.feed_forwards)]

    def skeleton(self) -> Transformer:
        return Transformer(self)

    def blocks(self) -> nn.ModuleList:
        """The layers; shared ones occur several times."""
        shared, each = Shared(), self.n_layers // (self.n_distinct_layers or self.n_layers)
        built: list[Block] = []
        for layer in range(self.n_layers):
            if layer % each:
                built.append(built[-1])
                continue
            mixer = self.mixer(layer).build(self.d_model, self.max_seq_len, shared)
            feed_forward = self.feed_forward(layer)
            ff = None if feed_forward is None else feed_forward.build(self.d_model)
            built.append(self.placement.block(self.norm, self.d_model, mixer, ff))
        return nn.ModuleList(built)

    @property
    def n_active_params(self) -> int:
        """Number of the parameters that a token uses: all but the experts to which it does not go."""
        distinct = range(0, self.n_layers, self.n_layers // (self.n_distinct_layers or self.n_layers))
        built = [feed_forward for layer in distinct if (feed_forward := self.feed_forward(layer)) is not None]
        return self.n_params - sum(feed_forward.idle_params(self.d_model) for feed_forward in built)

    def flops_per_token(self, seq_len: int) -> float:
        """Floating-point operations of one training step per token: matrix products only, a multiply-add counts as two.

            3 · (Σ over layers of (mixer + feed-forward) + head)

        Looking up an embedding costs nothing; causal attention sees seq_len/2 tokens on average. The backward pass costs twice the forward
        pass, hence the 3; what activation checkpointing repeats is not counted.

        Args:
            seq_len: tokens per row (or the mean length of the documents that are packed into it), ≥ 1.

        Source: Kaplan et al. (2020), arXiv 2001.08361, section 2.1. Departures: the head is counted, and causal attention by half.
        """
        total = self.head.flops(self.d_embedding, self.vocab_size)
        for layer in range(self.n_layers):
            total += self.mixer(layer).flops(self.d_model, seq_len, self.causal)
            if (feed_forward := self.feed_forward(layer)) is not None:
                total += feed_forward.flops(self.d_model)
        if self.d_embedding != self.d_model:
            total += 2.0 * self.d_embedding * self.d_model
        if self.transform is not None:
            total += 2.0 * self.d_embedding * self.d_model
        return 3.0 * total


class NamedConfig(HubConfig):
    """A family with names on the hub that is a `Transformer` of certain parts: subclasses give sizes, parts and names."""

    @property
    @abstractmethod
    def transformer(self) -> TransformerConfig:
        """The parts that it is made of."""

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        _ = self.transformer  # what its parts refuse, it refuses when it is built

    @property
    def reads_forward(self) -> bool:
        return self.transformer.causal

    @property
    def reads_prefix(self) -> bool:
        return self.transformer.reads_prefix

    def skeleton(self) -> Transformer:
        model = self.transformer.skeleton()
        model.config = self
        return model

    @property
    def n_active_params(self) -> int:
        """See `TransformerConfig.n_active_params`."""
        return self.transformer.n_active_params

    def flops_per_token(self, seq_len: int) -> float:
        return self.transformer.flops_per_token(seq_len)


class Transformer(CausalModel):
    """A stack of blocks with uninitialised weights; `ModelConfig.build` makes one that can be trained.

    Parameters: embedding.weight, blocks.<i>.{mixer_norm, mixer, ff_norm, ff}.…, norm.weight, and head.weight unless it is tied to the
    embedding; places.table.weight, parts.weight, embedding_norm.…, widen.…, transform.… where there are such.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config: ModelConfig = config
        width = config.d_embedding
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.embedding_scale = config.embedding_scale
        self.places = config.places.build(width, config.max_seq_len)
        self.parts = None if config.n_parts is None else nn.Embedding(config.n_parts, width)
        self.embedding_norm = config.embedding_norm.build(width)
        self.widen = nn.Identity() if width == config.d_model else Linear(width, config.d_model, Use.OTHER, bias=True)
        self.blocks = config.blocks()
        self.norm = config.final_norm.build(config.d_model)
        self.transform = nn.Identity() if config.transform is None else Transform(config.d_model, width, config.transform)
        self.head = config.head.build(self.embedding)

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        assert passage is None, "it has no encoder that could read a passage"
        return self.transform(self.hidden(tokens, layout, cache, seen))

    def hidden(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """The residual stream behind the last block and norm; the arguments are those of `features`."""
        if layout.alike and cache is None and self.reads_once and not torch.compiler.is_compiling():
            return self._read_once(tokens, Once.of(tokens, layout), seen)
        return self._read(tokens, layout, cache, seen)

    def _read(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None, seen: Seen | None
    ) -> Float[Tensor, "batch time d_model"]:
        x = self.embed(tokens, layout)
        caches = cache.layers if isinstance(cache, LayeredCache) else [None] * len(self.blocks)
        for block, of_layer in zip(self.blocks, caches, strict=True):
            if seen is not None:
                seen.hidden.append(x)
            x = block(x, layout, of_layer, seen)
        last = at(self.norm, layout)(x)
        if seen is not None:
            seen.hidden.append(x)
            seen.last = last
        return last

    def _read_once(self, tokens: Int[Tensor, "batch time"], once: Once, seen: Seen | None) -> Float[Tensor, "batch time d_model"]:
        """The same, of the distinct places of rows. Not by `hidden`: virtual tokens, put in there, are in these rows already."""
        inner = None if seen is None else Seen()
        last = once.spread(self._read(once.gather(tokens), once, None, inner))
        if seen is not None and inner is not None:
            seen.take(inner, once.spread)
            seen.last = last
        return last

    def through(
        self, x: Float[Tensor, "batch time d_model"] | None, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, layers: range
    ) -> Float[Tensor, "batch time d_out"]:
        """What some of the layers make of what comes before them: from the tokens on where they are the first, to the features, which the
        head reads, where they are the last."""
        if layers.start == 0:
            x = self.embed(tokens, layout)
        for layer in layers:
            x = self.blocks[layer](x, layout)
        assert x is not None
        return self.transform(at(self.norm, layout)(x)) if layers.stop == len(self.blocks) else x

    def keep_layers(self, stages: Sequence[range]) -> None:
        """Lets go of what stands in no stretch of layers but these: it is elsewhere."""
        kept = {layer for layers in stages for layer in layers}
        self.blocks = nn.ModuleList([block if i in kept else Elsewhere() for i, block in enumerate(self.blocks)])
        last = len(self.blocks) - 1 in kept
        gone = set() if last else {"norm", "transform", "head"}
        if 0 not in kept:
            gone |= {"places", "widen", "embedding_norm", "parts"}
            gone |= set() if last and isinstance(self.head, TiedHead) else {"embedding"}
        for name in gone:
            setattr(self, name, Elsewhere())

    def embed(self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        """The residual stream before the first block."""
        x = self.embedding(tokens)  # (batch, time, d_embedding)
        if self.embedding_scale != 1.0:
            x = x * x.new_full((), self.embedding_scale)  # rounded to the precision of the weights, as Gemma's was when it was trained
        x = self.places(x, layout)
        if self.parts is not None:
            x = x + self.parts(torch.zeros_like(tokens) if layout.parts is None else layout.parts)
        return self.widen(at(self.embedding_norm, layout)(x))

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        weight = self.embedding.weight
        return LayeredCache([mixer.new_cache(batch, capacity, weight.dtype, weight.device) for mixer in self.mixers])

    @property
    def reads_once(self) -> bool:
        """Whether rows that begin alike can be read by their distinct places: all but mixers work place by place."""
        return all(mixer.reads_once for mixer in self.mixers) and not any(isinstance(module, MixesRows) for module in self.modules())

    @property
    def mixers(self) -> list[SequenceMixer]:
        """Those of the layers, the first one first."""
        return [block.mixer for block in self.blocks if isinstance(block, Block)]

    @property
    def feed_forwards(self) -> list[nn.Module]:
        """Those of the layers that have one, the first one first: `Seen.ff_inputs` has what each of them read."""
        return [block.ff for block in self.blocks if isinstance(block, SerialBlock | ParallelBlock)]

    def wire(self, init: WeightInit, seed: int) -> None:
        init.wire(self.embedding.weight, self.mixers, seed)


class Elsewhere(nn.Module):
    """What another stage of a pipeline holds; so that names stay what they are."""


class Transform(nn.Module):
    """norm(activation(W · x + b)): what BERT does between its last block and the head.

    Source: Devlin et al. (2019), arXiv 1810.04805, and its published code.
    """

    def __init__(self, d_model: int, d_out: int, config: TransformConfig) -> None:
        super().__init__()
        self.dense = Linear(d_model, d_out, Use.OTHER, bias=True)
        self.norm = config.norm.build(d_out)
        self.activation = activation_function(config.activation)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_out"]:
        return self.norm(self.activation(self.dense(x)))
