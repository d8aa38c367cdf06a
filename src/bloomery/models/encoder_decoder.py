"""Encoder–decoders: a stack that reads a passage both ways, and a stack that writes about it token by token. Every part is a value.

    m = norm(encoder blocks(embedding of the passage));   logits = head(norm(decoder blocks(embedding of the text, m)))
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.model import CausalModel, ModelConfig
from bloomery.nn.block import Block, ParallelNorm, Placement, PostNorm, PreNorm
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.cross import CrossAttentionConfig, CrossBlock, Memory
from bloomery.nn.feedforward import FeedForwardConfig
from bloomery.nn.head import HeadConfig, TiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.mixer import MixerConfig, SequenceMixer
from bloomery.nn.norms import NoNormConfig, NormConfig, RMSNormConfig, at
from bloomery.nn.part import Shared
from bloomery.nn.positions import NoPlacesConfig, PlacesConfig
from bloomery.nn.seen import Seen


class EncoderDecoderConfig(ModelConfig):
    """An encoder–decoder as the values of its parts; both stacks have one embedding, and norms and feed-forward layers of one kind.

    Example:
        >>> EncoderDecoderConfig(vocab_size=512, d_model=64, n_layers=4, encoder_mixer=AttentionConfig(n_heads=4),
        ...                      mixer=AttentionConfig(n_heads=4), cross=CrossAttentionConfig(n_heads=4), feed_forward=GatedConfig(d_ff=192))
    """

    vocab_size: int = Field(gt=0)
    """Number of token ids, of passages and texts alike."""
    d_model: int = Field(gt=0)
    """Width of both residual streams."""
    n_layers: int = Field(gt=0)
    """Blocks of the decoder."""
    n_encoder_layers: int = Field(gt=0, default_factory=lambda known: known["n_layers"])
    """Blocks of the encoder; as many as the decoder's unless given."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest passage, and the longest text, in tokens."""
    encoder_mixer: MixerConfig
    """How the tokens of the passage see each other."""
    mixer: MixerConfig
    """How the tokens of the text see those before them."""
    cross: CrossAttentionConfig
    """How the tokens of the text see the passage."""
    feed_forward: FeedForwardConfig
    """What happens at each place by itself, in both stacks."""
    norm: NormConfig = RMSNormConfig()
    """In the blocks."""
    placement: Placement = PreNorm()
    """Where norms stand in a block."""
    final_norm: NormConfig = Field(default_factory=lambda known: NoNormConfig() if isinstance(known["placement"], PostNorm) else known["norm"])
    """Behind the last block of each stack; that of the blocks unless given, and none behind a post-norm."""
    places: PlacesConfig = NoPlacesConfig()
    """Vectors for positions, added to the embeddings of both stacks."""
    embedding_scale: Annotated[float, Gt(0)] = 1.0
    """Factor on the embeddings of tokens."""
    head: HeadConfig = TiedConfig()
    """From the decoder's features to predictions."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if not self.encoder_mixer.reads_both_ways:
            raise ConfigError(f"{self.kind()}.encoder_mixer={self.encoder_mixer.kind()} only sees what comes before a token, and an encoder "
                              "reads both ways; take another mixer")  # fmt: skip
        if not self.mixer.reads_forward:
            raise ConfigError(f"{self.kind()}.mixer={self.mixer.kind()} sees what comes after a token, and a decoder must not; "
                              "take another mixer")  # fmt: skip
        if isinstance(self.placement, ParallelNorm):
            raise self.refuse("placement", "has one norm for two branches, and a decoder that reads a passage has three; take PreNorm")
        self.encoder_mixer.check_model(self.d_model, self.max_seq_len)
        self.mixer.check_model(self.d_model, self.max_seq_len)
        self.cross.check_model(self.d_model)
        self.head.check_model(self.d_model, self.vocab_size)
        self.placement.check_model(self)
        self.init.check_model(self)

    @property
    def mixers(self) -> tuple[MixerConfig, ...]:
        """The different ones."""
        return self.encoder_mixer, self.mixer

    @property
    def feed_forwards(self) -> tuple[FeedForwardConfig, ...]:
        """The different ones."""
        return (self.feed_forward,)

    @property
    def d_embedding(self) -> int:
        """Width of the embedding table."""
        return self.d_model

    @property
    def reads_passage(self) -> bool:
        return True

    def skeleton(self) -> EncoderDecoder:
        return EncoderDecoder(self)

    def encoder_blocks(self) -> nn.ModuleList:
        """The layers that read the passage."""
        shared, blocks = Shared(), nn.ModuleList()
        for _ in range(self.n_encoder_layers):
            mixer = self.encoder_mixer.build(self.d_model, self.max_seq_len, shared)
            blocks.append(self.placement.block(self.norm, self.d_model, mixer, self.feed_forward.build(self.d_model)))
        return blocks

    def blocks(self) -> nn.ModuleList:
        """The layers that write the text."""
        shared, blocks = Shared(), nn.ModuleList()
        for _ in range(self.n_layers):
            mixer_norm, cross_norm, ff_norm = (self.placement.norm(self.norm, self.d_model) for _ in range(3))
            mixer = self.mixer.build(self.d_model, self.max_seq_len, shared)
            cross, ff = self.cross.build(self.d_model), self.feed_forward.build(self.d_model)
            blocks.append(CrossBlock(self.placement.join(), mixer_norm, mixer, cross_norm, cross, ff_norm, ff))
        return blocks

    def flops_per_token(self, seq_len: int) -> float:
        """Floating-point operations of one training step per token of the text, whose passage is taken to be as long: counted as in
        `TransformerConfig.flops_per_token`.

        Args:
            seq_len: tokens per row of the text, and of the passage, ≥ 1.
        """
        feed_forward = self.feed_forward.flops(self.d_model)
        encoder = self.n_encoder_layers * (self.encoder_mixer.flops(self.d_model, seq_len, causal=False) + feed_forward)
        layer = self.mixer.flops(self.d_model, seq_len, causal=True) + self.cross.flops(self.d_model, seq_len) + feed_forward
        return 3.0 * (encoder + self.n_layers * layer + self.head.flops(self.d_model, self.vocab_size))


class NamedEncoderDecoder(ModelConfig):
    """A family that is an `EncoderDecoder` of certain parts: subclasses give sizes and parts."""

    @property
    @abstractmethod
    def encoder_decoder(self) -> EncoderDecoderConfig:
        """The parts that it is made of."""

    @property
    def reads_passage(self) -> bool:
        return True

    def skeleton(self) -> EncoderDecoder:
        model = self.encoder_decoder.skeleton()
        model.config = self
        return model

    def flops_per_token(self, seq_len: int) -> float:
        return self.encoder_decoder.flops_per_token(seq_len)


class EncoderDecoder(CausalModel):
    """Two stacks with uninitialised weights; `ModelConfig.build` makes a model that can be trained.

    Packed passages and packed texts go together: document number s of a row of the text sees passage number s of that row only.

    Parameters: embedding.weight, encoder.<i>.{mixer_norm, mixer, ff_norm, ff}.…, encoder_norm.weight, blocks.<i>.{mixer_norm, cross_norm,
    ff_norm, mixer, cross, ff}.…, norm.weight, and head.weight unless it is tied to the embedding; places.table.weight where there is such.
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.embedding_scale = config.embedding_scale
        self.places = config.places.build(config.d_model, config.max_seq_len)
        self.encoder, self.encoder_norm = config.encoder_blocks(), config.final_norm.build(config.d_model)
        self.blocks, self.norm = config.blocks(), config.final_norm.build(config.d_model)
        self.head = config.head.build(self.embedding)

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        """What the head reads; see `Model.features`. With a cache, the passage is given at the first call and remembered; given again, it
        takes the place of the one before. `seen` keeps the decoder's states."""
        caches = cache.layers if isinstance(cache, LayeredCache) else [None] * len(self.blocks)
        memory = None if passage is None else self.read(passage, layout if cache is None else one_document(layout))
        x = self.embed(tokens, layout)
        for block, of_layer in zip(self.blocks, caches, strict=True):
            if seen is not None:
                seen.hidden.append(x)
            x = block(x, layout, of_layer, seen, memory)
        last = at(self.norm, layout)(x)
        if seen is not None:
            seen.hidden.append(x)
            seen.last = last
        return last

    def read(self, passage: Passage, layout: SequenceLayout) -> Memory:
        """What the encoder makes of a passage, for a text of that layout."""
        return Memory(self.encode(passage), layout.across(passage.layout))

    def encode(self, passage: Passage) -> Float[Tensor, "batch source_time d_model"]:
        """The encoder's features."""
        assert not passage.layout.causal, "an encoder reads both ways; give the passage a layout with causal=False"
        x = self.embed(passage.tokens, passage.layout)
        for block in self.encoder:
            x = block(x, passage.layout)
        return at(self.encoder_norm, passage.layout)(x)

    def embed(self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        """The residual stream before the first block of either stack."""
        x = self.embedding(tokens)
        return self.places(x if self.embedding_scale == 1.0 else x * self.embedding_scale, layout)

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        weight = self.embedding.weight
        return LayeredCache([b.new_cache(batch, capacity, weight.dtype, weight.device) for b in self.blocks if isinstance(b, CrossBlock)])

    @property
    def mixers(self) -> list[SequenceMixer]:
        """Those of the decoder's layers, the first one first."""
        return [block.mixer for block in self.blocks if isinstance(block, Block)]

    def wire(self, init: WeightInit, seed: int) -> None:
        init.wire(self.embedding.weight, self.mixers, seed)


def one_document(layout: SequenceLayout) -> SequenceLayout:
    """Of one token per row, in document 1: what a row whose past is in a cache counts as."""
    return SequenceLayout(torch.zeros_like(layout.positions[:, :1]))
