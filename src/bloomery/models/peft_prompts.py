"""Prompts and prefixes in the words of the `peft` library, which keeps the vectors that come of training, and not what made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.model import ModelConfig
from bloomery.nn.adapters import Adapter, PrefixTuning, PromptTuning
from bloomery.nn.adapters.adapter import added
from bloomery.nn.adapters.prefix_tuning import Prefix
from bloomery.nn.adapters.prompts import Prompting, VirtualTokens

VECTORS = "prompt_embeddings"
KINDS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")


def prompt_to_peft(base: ModelConfig, adapter: Adapter, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The library's config and tensors.

    Args:
        base: of the model.
        adapter: on it.
        weights: of the parameters that are trained, by their names in the adapted model.

    Raises:
        ConfigError: it has no words for it.
    """
    if not isinstance(adapter, Prompting | PrefixTuning):
        raise ConfigError(f"peft has no {adapter.kind()}")
    if isinstance(adapter, Prompting) and any(adapter.places):
        raise ConfigError("in peft all virtual tokens stand before the text")
    if adapter.whole:
        raise ConfigError("in peft a prompt is all that is trained")
    with torch.device("meta"):
        model = base.skeleton()
        adapter.attach(model)
    (path, module), = [(path, m) for path, m in model.named_modules() if isinstance(m, Prefix | VirtualTokens) and m.by == adapter.name]
    module.to_empty(device="cpu")
    module.load_state_dict({name.removeprefix(f"{path}."): tensor for name, tensor in weights.items()})
    plain: dict[str, Any] = {
        "task_type": "CAUSAL_LM" if base.reads_forward else None, "num_virtual_tokens": adapter.n_tokens, "num_transformer_submodules": 1,
        "num_layers": base.n_layers, "inference_mode": True, "base_model_name_or_path": None,
    }  # fmt: skip
    with torch.no_grad():
        if isinstance(module, Prefix):
            heads, head_dim = module.heads
            plain |= {"peft_type": "PREFIX_TUNING", "token_dim": heads * head_dim, "num_attention_heads": heads, "prefix_projection": False,
                      "encoder_hidden_size": heads * head_dim}  # fmt: skip
            return plain, {VECTORS: module.everything()}
        vectors = module.vectors()
    kind = "PROMPT_TUNING" if isinstance(adapter, PromptTuning) else "P_TUNING"
    plain |= {"peft_type": kind, "token_dim": vectors.shape[1], "num_attention_heads": 1}
    if kind == "P_TUNING":
        plain |= {"encoder_reparameterization_type": "LSTM", "encoder_hidden_size": vectors.shape[1] // 2, "encoder_num_layers": 2,
                  "encoder_dropout": 0.0}  # fmt: skip
    return plain, {VECTORS: vectors}


def prompt_from_peft(base: ModelConfig, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Adapter, dict[str, Tensor]]:
    """Our adapter and its parameters: vectors as such, whatever made them.

    Raises:
        DataError: they are for another model.
    """
    if tensors.keys() != {VECTORS}:
        raise DataError(f"the adapter has the tensors {sorted(tensors)}, and a prompt has {VECTORS!r} alone; save it anew with peft")
    vectors = tensors[VECTORS]
    kind = PrefixTuning if plain["peft_type"] == "PREFIX_TUNING" else PromptTuning
    adapter = kind(n_tokens=len(vectors))
    with torch.device("meta"):
        model = base.skeleton()
        adapter.attach(model)
    (path,) = [path for path, module in model.named_modules() if module in added(model)]
    return adapter, {f"{path}.weight": vectors}
