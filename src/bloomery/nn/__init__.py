"""The parts that models are built of: layout, norms, positions, mixers, feed-forwards, heads, caches; each as a value and as a module."""

from bloomery.nn.adaptive import AdaptiveHead, AdaptiveSoftmaxConfig
from bloomery.nn.attention import Attention, AttentionConfig
from bloomery.nn.batch_norm import BatchNorm, BatchNormConfig
from bloomery.nn.block import Block, BranchNorm, ParallelNorm, Placement, PostNorm, PreNorm, SandwichNorm
from bloomery.nn.block_sparse import BlockSparseAttention, BlockSparseAttentionConfig
from bloomery.nn.buckets import Buckets, BucketsConfig
from bloomery.nn.cache import Cache, LayeredCache, PlacedCache
from bloomery.nn.cross import CrossAttention, CrossAttentionConfig, CrossBlock, Memory
from bloomery.nn.disentangled import DisentangledAttention, DisentangledConfig
from bloomery.nn.experts import Experts, ExpertsConfig, SigmoidRouterConfig, SoftmaxRouterConfig
from bloomery.nn.feedforward import Activation, FeedForward, FeedForwardConfig, GatedConfig, GatedFeedForward, PlainConfig
from bloomery.nn.fixup import Fixup, FixupInit
from bloomery.nn.hashed import HashedAttention, HashedAttentionConfig
from bloomery.nn.head import HeadConfig, OutputHead, TiedConfig, UntiedConfig
from bloomery.nn.init import FanInInit, NormalInit, WeightInit
from bloomery.nn.latent import LatentAttention, LatentAttentionConfig
from bloomery.nn.layout import Passage, SequenceLayout, View
from bloomery.nn.linear import Linear, Use
from bloomery.nn.linear_attention import LinearAttention, LinearAttentionConfig
from bloomery.nn.linformer import Linformer, LinformerConfig
from bloomery.nn.mamba2 import Mamba2, Mamba2Config
from bloomery.nn.mixer import MixerConfig, SequenceMixer
from bloomery.nn.mup import MuPInit
from bloomery.nn.norms import LayerNorm, LayerNormConfig, NoNormConfig, NormConfig, RMSNorm, RMSNormConfig
from bloomery.nn.nystrom import Nystrom, NystromConfig
from bloomery.nn.part import Part, Shared
from bloomery.nn.pooling import FirstPoolingConfig, LastPoolingConfig, MeanPoolingConfig, PoolingConfig
from bloomery.nn.positions import (
    AlibiConfig,
    LearnedPlacesConfig,
    NoPlacesConfig,
    NoPositionsConfig,
    PlacesConfig,
    PositionsConfig,
    RotaryConfig,
    SinusoidalPlacesConfig,
)
from bloomery.nn.rope import LinearScaling, Llama3Scaling, NTKScaling, Rope, RopeScaling, YarnScaling
from bloomery.nn.scaled_inits import DeepNormInit, HeInit, SmallInit, TFixupInit, XavierInit, deep_norm
from bloomery.nn.seen import Seen
from bloomery.nn.wired import WiredInit

__all__ = [
    "Activation", "AdaptiveHead", "AdaptiveSoftmaxConfig", "AlibiConfig", "Attention", "AttentionConfig", "BatchNorm", "BatchNormConfig",
    "Block", "BlockSparseAttention", "BlockSparseAttentionConfig", "BranchNorm", "Buckets", "BucketsConfig", "Cache", "CrossAttention",
    "CrossAttentionConfig", "CrossBlock", "DeepNormInit", "DisentangledAttention", "DisentangledConfig", "Experts", "ExpertsConfig",
    "FanInInit", "FeedForward", "FeedForwardConfig", "FirstPoolingConfig", "Fixup", "FixupInit", "GatedConfig", "GatedFeedForward",
    "HashedAttention", "HashedAttentionConfig", "HeInit", "HeadConfig", "LastPoolingConfig", "LatentAttention", "LatentAttentionConfig",
    "LayerNorm", "LayerNormConfig", "LayeredCache", "LearnedPlacesConfig", "Linear", "LinearAttention", "LinearAttentionConfig",
    "LinearScaling", "Linformer", "LinformerConfig", "Llama3Scaling", "Mamba2", "Mamba2Config", "MeanPoolingConfig", "Memory",
    "MixerConfig", "MuPInit", "NTKScaling", "NoNormConfig", "NoPlacesConfig", "NoPositionsConfig", "NormConfig", "NormalInit", "Nystrom",
    "NystromConfig", "OutputHead", "ParallelNorm", "Part", "Passage", "PlacedCache", "Placement", "PlacesConfig", "PlainConfig",
    "PoolingConfig", "PositionsConfig", "PostNorm", "PreNorm", "RMSNorm", "RMSNormConfig", "Rope", "RopeScaling", "RotaryConfig",
    "SandwichNorm", "Seen", "SequenceLayout", "SequenceMixer", "Shared", "SigmoidRouterConfig", "SinusoidalPlacesConfig", "SmallInit",
    "SoftmaxRouterConfig", "TFixupInit", "TiedConfig", "UntiedConfig", "Use", "View", "WeightInit", "WiredInit", "XavierInit",
    "YarnScaling", "deep_norm",
]
