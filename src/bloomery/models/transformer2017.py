"""The Transformer as it was first published: six blocks that read, six that write, norms behind each branch, sinusoidal places.

    encoder: x ← LayerNorm(x + Attention(x));                                          x ← LayerNorm(x + FeedForward(x))
    decoder: x ← LayerNorm(x + Attention(x));   x ← LayerNorm(x + CrossAttention(x));   x ← LayerNorm(x + FeedForward(x))

Source: Vaswani et al. (2017), arXiv 1706.03762.
"""

from __future__ import annotations

from math import sqrt

from pydantic import Field

from bloomery.models.encoder_decoder import EncoderDecoderConfig, NamedEncoderDecoder
from bloomery.nn.attention import AttentionConfig
from bloomery.nn.block import PostNorm
from bloomery.nn.cross import CrossAttentionConfig
from bloomery.nn.feedforward import PlainConfig
from bloomery.nn.head import TiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.norms import LayerNormConfig
from bloomery.nn.positions import NoPositionsConfig, SinusoidalPlacesConfig


class Transformer2017Config(NamedEncoderDecoder):
    """Sizes of the Transformer of 2017, those of its base model unless given. The hub has no family of this name."""

    vocab_size: int = Field(gt=0)
    """Number of token ids, of passages and texts alike; both embeddings and the head are one table."""
    d_model: int = Field(default=512, gt=0)
    """Width of both residual streams."""
    n_layers: int = Field(default=6, gt=0)
    """Blocks of the decoder."""
    n_encoder_layers: int = Field(gt=0, default_factory=lambda known: known["n_layers"])
    """Blocks of the encoder; as many as the decoder's unless given."""
    n_heads: int = Field(default=8, gt=0)
    """Heads per layer, a divisor of d_model."""
    d_ff: int = Field(gt=0, default_factory=lambda known: 4 * known["d_model"])
    """Width of the feed-forward layers; 4·d_model unless given."""
    attention_bias: bool = False
    """Whether the maps of attention have biases: the paper's have none, torch.nn.Transformer's have."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest passage, and the longest text, in tokens."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in the norms."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        assert self.encoder_decoder

    @property
    def encoder_decoder(self) -> EncoderDecoderConfig:
        bias = self.attention_bias
        attention = AttentionConfig(n_heads=self.n_heads, positions=NoPositionsConfig(), qkv_bias=bias, out_bias=bias)
        return EncoderDecoderConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, n_encoder_layers=self.n_encoder_layers,
            max_seq_len=self.max_seq_len, encoder_mixer=attention, mixer=attention,
            cross=CrossAttentionConfig(n_heads=self.n_heads, qkv_bias=bias, out_bias=bias),
            feed_forward=PlainConfig(d_ff=self.d_ff, activation="relu"), norm=LayerNormConfig(eps=self.norm_eps), placement=PostNorm(),
            places=SinusoidalPlacesConfig(), embedding_scale=sqrt(self.d_model), head=TiedConfig(), init=self.init,
        )
