"""Model families: one file each, with its config, its code and its names on the Hugging Face hub."""

from bloomery.models.checkpoint import load_model, read_model, save_model, write_model
from bloomery.models.families import FAMILIES, config_from_plain
from bloomery.models.hub import load_hub, save_hub
from bloomery.models.llama import Llama, LlamaConfig
from bloomery.models.model import CausalModel, ModelConfig

__all__ = [
    "FAMILIES", "CausalModel", "Llama", "LlamaConfig", "ModelConfig", "config_from_plain", "load_hub", "load_model", "read_model", "save_hub",
    "save_model", "write_model",
]
