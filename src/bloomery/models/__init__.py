"""Model families: one file each, with its config, its code and its names on the Hugging Face hub."""

from bloomery.models.adapted import AdaptedConfig, beneath
from bloomery.models.albert import AlbertConfig
from bloomery.models.bamba import BambaConfig
from bloomery.models.bert import BertConfig
from bloomery.models.checkpoint import (
    load_model,
    pour_model,
    read_config,
    read_model,
    save_model,
    wholes_of,
    write_held_model,
    write_model,
)
from bloomery.models.deberta import DebertaConfig
from bloomery.models.deepseek import DeepseekV3Config
from bloomery.models.electra import Electra, ElectraConfig, ElectraPairConfig
from bloomery.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from bloomery.models.ensemble import EnsembleConfig, EnsembleModel
from bloomery.models.families import FAMILIES, config_from_plain
from bloomery.models.gemma import Gemma2Config, Gemma3Config, GemmaConfig
from bloomery.models.gpt2 import Gpt2Config
from bloomery.models.heads import (
    MultipleChoiceConfig,
    RegressionConfig,
    ReplacedConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TaskHeadConfig,
    TokenClassificationConfig,
)
from bloomery.models.hub import load_hub, save_hub
from bloomery.models.llama import LlamaConfig
from bloomery.models.mamba2 import Mamba2ModelConfig
from bloomery.models.mistral import MistralConfig
from bloomery.models.mixtral import MixtralConfig
from bloomery.models.model import CausalModel, ExportableConfig, HubConfig, Model, ModelConfig, causal
from bloomery.models.olmo2 import Olmo2Config
from bloomery.models.olmoe import OlmoeConfig
from bloomery.models.peft import attach_adapter, load_adapter, save_adapter, save_for_peft
from bloomery.models.qwen3 import Qwen3Config
from bloomery.models.roberta import RobertaConfig
from bloomery.models.sharing import EmbeddingSharing, GradientDisentangledSharing, WholeSharing
from bloomery.models.t5 import T5Config
from bloomery.models.tasks import TaskConfig, TaskModel
from bloomery.models.transformer import Transformer, TransformerConfig
from bloomery.models.transformer2017 import Transformer2017Config

__all__ = [
    "FAMILIES",
    "AdaptedConfig",
    "AlbertConfig",
    "BambaConfig",
    "BertConfig",
    "CausalModel",
    "DebertaConfig",
    "DeepseekV3Config",
    "Electra",
    "ElectraConfig",
    "ElectraPairConfig",
    "EmbeddingSharing",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EnsembleConfig",
    "EnsembleModel",
    "ExportableConfig",
    "Gemma2Config",
    "Gemma3Config",
    "GemmaConfig",
    "Gpt2Config",
    "GradientDisentangledSharing",
    "HubConfig",
    "LlamaConfig",
    "Mamba2ModelConfig",
    "MistralConfig",
    "MixtralConfig",
    "Model",
    "ModelConfig",
    "MultipleChoiceConfig",
    "Olmo2Config",
    "OlmoeConfig",
    "Qwen3Config",
    "RegressionConfig",
    "ReplacedConfig",
    "RobertaConfig",
    "SequenceClassificationConfig",
    "SimilarityConfig",
    "T5Config",
    "TaskConfig",
    "TaskHeadConfig",
    "TaskModel",
    "TokenClassificationConfig",
    "Transformer",
    "Transformer2017Config",
    "TransformerConfig",
    "WholeSharing",
    "attach_adapter",
    "beneath",
    "causal",
    "config_from_plain",
    "load_adapter",
    "load_hub",
    "load_model",
    "pour_model",
    "read_config",
    "read_model",
    "save_adapter", "save_for_peft",
    "save_hub",
    "save_model",
    "wholes_of",
    "write_held_model",
    "write_model",
]
