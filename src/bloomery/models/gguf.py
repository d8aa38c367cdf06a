"""GGUF: a model and its tokenizer in one file, as llama.cpp and what stands on it read it.

Names of tensors and how they are rounded come from the `gguf` package; what the families need beside them is here. Every family whose graph
llama.cpp has as ours is can be written; what its graph fixes and ours leaves free is refused by name.

Source: the format's specification and llama.cpp's converters (MIT), read for behaviour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError, ResourceError
from bloomery.models.decoder import DecoderConfig
from bloomery.models.gemma import Gemma2Config, Gemma3Config, GemmaConfig, LaterGemmaConfig, usual_types
from bloomery.models.gpt2 import Gpt2Config
from bloomery.models.hub import hub_tensors, take_hub_tensors
from bloomery.models.hub_fields import shortest_cycle
from bloomery.models.llama import LlamaConfig
from bloomery.models.mistral import MistralConfig
from bloomery.models.mixtral import MixtralConfig
from bloomery.models.model import HubTensor, Model, ModelConfig
from bloomery.models.olmo2 import Olmo2Config
from bloomery.models.olmoe import OlmoeConfig
from bloomery.models.qwen3 import Qwen3Config
from bloomery.nn.rope import LinearScaling, Llama3Scaling, NTKScaling, RopeScaling, frequencies
from bloomery.store.files import atomic_path

GgufType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
"""What matrices are written in; vectors stay in float32."""
BLOCK = 32  # numbers that share a scale in q8_0 and q4_0
WHOLE = ("position_embd.weight", "ffn_gate_inp.weight")  # ends of names of matrices that stay in float32, as llama.cpp keeps them
FACTORS = "rope_freqs.weight"


class Graph(NamedTuple):
    """How llama.cpp computes a family.

    Attributes:
        arch: its name there.
        in_pairs: it turns features 2i and 2i + 1 where we turn i and i + head_dim/2, so that queries and keys are put in another order.
        around_one: norms are stored as the factor, where ours is 1 + w.
        tied: its head is the embedding table always.
    """

    arch: str
    in_pairs: bool = False
    around_one: bool = False
    tied: bool = False


GRAPHS: Mapping[type[ModelConfig], Graph] = MappingProxyType({
    Gpt2Config: Graph("gpt2"), LlamaConfig: Graph("llama", in_pairs=True), MistralConfig: Graph("llama", in_pairs=True),
    MixtralConfig: Graph("llama", in_pairs=True), Qwen3Config: Graph("qwen3"), Olmo2Config: Graph("olmo2"), OlmoeConfig: Graph("olmoe"),
    GemmaConfig: Graph("gemma", around_one=True, tied=True), Gemma2Config: Graph("gemma2", around_one=True, tied=True),
    Gemma3Config: Graph("gemma3", around_one=True, tied=True),
})  # fmt: skip
"""The families that can be written."""


@dataclass(frozen=True)
class Entry:
    """A tensor of a GGUF file.

    Attributes:
        name: there.
        parts: the hub's, of which it is a stack where there are several.
        kind: what it is written in.
    """

    name: str
    parts: tuple[HubTensor, ...]
    kind: GgufType

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the numbers, as torch has it."""
        one = self.parts[0].shape
        one = (*one[:-2], one[-1], one[-2]) if self.parts[0].transposed else one
        return one if len(self.parts) == 1 else (len(self.parts), *one)


def save_gguf(model: Model, config: ModelConfig, path: Path, kind: GgufType = "f16", fields: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Writes a model into one file.

    Args:
        model: on any device.
        config: what it was built from.
        path: of the file.
        kind: what its matrices are rounded to.
        fields: what else the file says by key: of the tokenizer, say.

    Raises:
        ConfigError: llama.cpp has no such model; says what of it.
        ResourceError: the `gguf` package is not installed.
    """
    gguf = package()
    graph, known = graph_of(config), named(config)
    tensors = tensors_of(known, kind)
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, graph.arch)
        file_type = {"f32": "ALL_F32"}.get(kind, f"MOSTLY_{kind.upper()}")
        writer.add_file_type(gguf.LlamaFileType[file_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in {**sizes(known, graph), **fields}.items():
            _say(writer, key, value)
        factors = _factors(known)
        if factors is not None:
            writer.add_tensor_info(FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for one in tensors:
            quant = gguf.GGMLQuantizationType[one.kind.upper()]
            shape = gguf.quant_shape_to_byte_shape(one.shape, quant) if one.kind in ("bf16", "q8_0", "q4_0") else one.shape
            dtype = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}.get(one.kind, np.dtype(np.uint8))
            writer.add_tensor_info(one.name, shape, dtype, prod(shape) * dtype.itemsize, raw_dtype=quant)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for one, tensor in _told(model, known, tensors, graph):
            data = np.ascontiguousarray(tensor.numpy())
            writer.write_tensor_data(gguf.quantize(data, gguf.GGMLQuantizationType[one.kind.upper()]))
        writer.close()


def load_gguf(path: Path, config: ModelConfig) -> Model:
    """Reads what `save_gguf` has written: the weights as they are there, on the CPU in float32.

    Args:
        path: of the file.
        config: what it was written from.

    Raises:
        DataError: a tensor is missing, or another one is there.
    """
    gguf = package()
    graph, known = graph_of(config), named(config)
    try:
        found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    except (ValueError, IndexError, KeyError, OSError) as error:  # what the package says to a torn file
        raise DataError(f"{path} does not read as GGUF ({error}); write it again") from None
    wanted = tensors_of(known, "f32")
    if missing := {one.name for one in wanted} ^ (found.keys() - {FACTORS}):
        raise DataError(f"{path} and a {config.kind()} do not both have {min(missing)!r}; the file is of another model")
    read: dict[str, Tensor] = {}
    for one in wanted:
        data = gguf.dequantize(found[one.name].data, found[one.name].tensor_type)
        whole = torch.from_numpy(np.array(data, np.float32))
        if tuple(whole.shape) != one.shape:
            raise DataError(f"{path}: {one.name!r} has shape {tuple(whole.shape)}, where a {config.kind()} has {one.shape}; it is of another")
        for part, tensor in zip(one.parts, whole if len(one.parts) > 1 else [whole], strict=True):
            read[part.name] = _ours(tensor, part, known, graph)
    model = known.build(seed=0)
    take_hub_tensors(model, known.hub_parts(), lambda part: read[part.name])
    return model


def package() -> Any:
    """The `gguf` package; raises `ResourceError` where it is not installed."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise ResourceError("GGUF files need the package gguf, which is not installed; pip install 'bloomery[gguf]'") from None
    return gguf


def graph_of(config: ModelConfig) -> Graph:
    """How llama.cpp computes such a model; raises `ConfigError` where it cannot."""
    if type(config) not in GRAPHS:
        families = ", ".join(sorted(family.kind() for family in GRAPHS))
        raise ConfigError(f"a {config.kind()} cannot be written as GGUF; those that can are {families}")
    graph = GRAPHS[type(config)]
    for field, wanted in _fixed(config, graph).items():
        if getattr(config, field) != wanted:
            raise config.refuse(field, f"cannot be written as GGUF: llama.cpp's {graph.arch} has {wanted!r}; write the hub's files instead")
    scaling: RopeScaling | None = getattr(config, "rope_scaling", None)
    known = (LinearScaling, NTKScaling, Llama3Scaling) if graph.arch == "llama" else (LinearScaling, NTKScaling)
    if scaling is not None and not isinstance(scaling, known):
        raise config.refuse("rope_scaling", f"cannot be written as GGUF for llama.cpp's {graph.arch}; "
                            f"{', '.join(one.kind() for one in known)} can")  # fmt: skip
    return graph


def _fixed(config: ModelConfig, graph: Graph) -> dict[str, Any]:
    """What llama.cpp does not read from the file, by our field, and what it takes."""
    fixed: dict[str, Any] = {"tie_embeddings": True} if graph.tied else {}
    if isinstance(config, MistralConfig | MixtralConfig):
        fixed |= {"window": None}
    if isinstance(config, Qwen3Config):
        fixed |= {"windows": (None,)}
    if isinstance(config, GemmaConfig | Qwen3Config | Olmo2Config | OlmoeConfig):
        fixed |= {"attention_bias": False}
    if isinstance(config, LaterGemmaConfig):
        wide = usual_types(config.hub_cycle, config.n_layers)
        width = next((window for window in config.windows if window is not None), None)
        usual = shortest_cycle([width if kind == "sliding_attention" else None for kind in wide])
        fixed |= {"query_pre_attn_scalar": config.head_dim, "windows": usual}
    if isinstance(config, Gemma3Config):
        fixed |= {"logit_softcap": None, "local_rope_theta": 10_000.0, "rope_scaling": None}
    return fixed


def named(config: ModelConfig) -> DecoderConfig | Gpt2Config:
    """The config, known to be of a family that can be written."""
    graph_of(config)
    assert isinstance(config, DecoderConfig | Gpt2Config)
    return config


def sizes(config: DecoderConfig | Gpt2Config, graph: Graph) -> dict[str, Any]:
    """What the file says of the architecture, by key."""
    said: dict[str, Any] = {
        "vocab_size": config.vocab_size, "context_length": config.max_seq_len, "embedding_length": config.d_model,
        "block_count": config.n_layers, "feed_forward_length": config.d_ff, "attention.head_count": config.n_heads,
    }
    if isinstance(config, Gpt2Config):
        return _under(graph.arch, said | {"attention.layer_norm_epsilon": config.norm_eps})
    scaling, theta = config.rope_scaling, config.rope_theta
    if isinstance(scaling, NTKScaling):
        theta = scaling.base(theta, config.head_dim)
    said |= {
        "attention.head_count_kv": config.n_kv_heads, "attention.key_length": config.head_dim, "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps, "rope.freq_base": theta, "rope.dimension_count": config.head_dim,
    }  # fmt: skip
    if isinstance(scaling, LinearScaling):
        said |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
    if isinstance(config, MixtralConfig | OlmoeConfig):
        said |= {"expert_count": config.n_experts, "expert_used_count": config.n_active}
    if isinstance(config, LaterGemmaConfig):
        said |= {"attention.sliding_window": next((window for window in config.windows if window is not None), config.max_seq_len)}
    if isinstance(config, Gemma2Config):
        caps = {"attn_logit_softcapping": config.attention_softcap, "final_logit_softcapping": config.logit_softcap}
        for name, cap in caps.items():
            if cap is None:
                field = "attention_softcap" if name.startswith("attn") else "logit_softcap"
                raise config.refuse(field, "cannot be written as GGUF: llama.cpp's gemma2 has a cap; write the hub's files instead")
        said |= caps
    return _under(graph.arch, said)


def _under(arch: str, said: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{arch}.{name}": value for name, value in said.items()}


def tensors_of(config: DecoderConfig | Gpt2Config, kind: GgufType) -> list[Entry]:
    """What the file holds, in order; the experts of a layer are one tensor."""
    gguf = package()
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == GRAPHS[type(config)].arch)
    names = gguf.get_tensor_name_map(arch, config.n_layers)
    grouped: dict[str, list[HubTensor]] = {}
    for parts in config.hub_parts().values():
        for part in parts:
            whole = re.sub(r"\.experts\.\d+\.", ".experts.", part.name)
            grouped.setdefault(names.get_name(whole, try_suffixes=(".weight", ".bias")) or whole, []).append(part)
    return [Entry(name, tuple(parts), _kind(name, parts[0], kind)) for name, parts in grouped.items()]


def _kind(name: str, part: HubTensor, kind: GgufType) -> GgufType:
    """What a tensor is written in: rows that no blocks fill are not rounded to blocks."""
    if len(part.shape) == 1 or name.endswith(WHOLE):
        return "f32"
    row = part.shape[-2] if part.transposed else part.shape[-1]
    return "f16" if kind in ("q8_0", "q4_0") and row % BLOCK else kind


def _told(
    model: Model, config: DecoderConfig | Gpt2Config, tensors: list[Entry], graph: Graph
) -> Iterator[tuple[Entry, Tensor]]:
    """The numbers of each tensor, in float32: one at a time is in memory, but for layers of experts, whose maps come mixed."""
    waiting: dict[str, dict[str, Tensor]] = {one.name: {} for one in tensors}
    of = {part.name: one for one in tensors for part in one.parts}
    order, ready = iter(tensors), {}
    due = next(order, None)
    for part, tensor in hub_tensors(model, config.hub_parts()):
        one = of[part.name]
        waiting[one.name][part.name] = _theirs(tensor, part, config, graph)
        if len(waiting[one.name]) == len(one.parts):
            told = waiting.pop(one.name)
            stack = [told[each.name] for each in one.parts]
            ready[one.name] = stack[0] if len(stack) == 1 else torch.stack(stack)
        while due is not None and due.name in ready:
            yield due, ready.pop(due.name)
            due = next(order, None)


def _heads(part: HubTensor, config: DecoderConfig | Gpt2Config, graph: Graph) -> int:
    """How many heads a tensor's rows are put in pairs for; 0 where their order stays."""
    if not graph.in_pairs or isinstance(config, Gpt2Config):
        return 0
    return {"q_proj": config.n_heads, "k_proj": config.n_kv_heads}.get(part.name.split(".")[-2], 0)


def _theirs(tensor: Tensor, part: HubTensor, config: DecoderConfig | Gpt2Config, graph: Graph) -> Tensor:
    """The hub's numbers as llama.cpp has them."""
    tensor = tensor.mT if part.transposed else tensor
    if heads := _heads(part, config, graph):
        halves = tensor.view(heads, 2, -1, *tensor.shape[1:])  # (heads, half, head_dim / 2, …)
        tensor = halves.transpose(1, 2).reshape(tensor.shape)
    return tensor + 1 if graph.around_one and part.name.endswith("norm.weight") else tensor


def _ours(tensor: Tensor, part: HubTensor, config: DecoderConfig | Gpt2Config, graph: Graph) -> Tensor:
    """The other way round."""
    tensor = tensor - 1 if graph.around_one and part.name.endswith("norm.weight") else tensor
    if heads := _heads(part, config, graph):
        pairs = tensor.view(heads, -1, 2, *tensor.shape[1:])  # (heads, head_dim / 2, half, …)
        tensor = pairs.transpose(1, 2).reshape(tensor.shape)
    return tensor.mT if part.transposed else tensor


def _factors(config: DecoderConfig | Gpt2Config) -> np.ndarray | None:
    """What llama.cpp divides the frequencies of rotary positions by, pair by pair; None where that is nothing."""
    scaling = None if isinstance(config, Gpt2Config) else config.rope_scaling
    if isinstance(config, Gpt2Config) or not isinstance(scaling, Llama3Scaling):
        return None
    plain = frequencies(config.rope_theta, config.head_dim)
    return (plain / scaling.frequencies(config.rope_theta, config.head_dim, None)).numpy().astype(np.float32)


def _say(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))
