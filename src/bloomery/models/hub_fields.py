"""The fields of a hub folder's `config.json` that many families share: how they are read, written and refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.model import ModelConfig
from bloomery.nn.rope import LinearScaling, Llama3Scaling, NTKScaling, RopeScaling, YarnScaling

Windows = tuple[int | None, ...]
"""How far the attention of layers 0, 1, … reaches, and again from the first; None sees all."""

_EVERYWHERE = {"quantization_config": (None,), "add_cross_attention": (False,), "is_encoder_decoder": (False,)}


def require(plain: Mapping[str, Any], *names: str) -> None:
    """Raises `DataError` for the first of these fields that is not there, or is no whole number."""
    for name in names:
        if name not in plain:
            raise DataError(f"config.json has no {name!r}, without which the model has no shape; take it from the original checkpoint")
        if type(plain[name]) is not int:
            raise DataError(f"config.json has {name}={plain[name]!r}, which is no whole number; take it from the original checkpoint")


def refuse_others(plain: Mapping[str, Any], kind: str, supported: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises `DataError` for a field whose value is none of those that our model is built with; null stands for the library's default."""
    for name, values in {**_EVERYWHERE, **supported}.items():
        if plain.get(name) is not None and plain[name] not in values:
            raise DataError(f"config.json has {name}={plain[name]!r}, which is not supported; a {kind} is built with {values[0]!r}")


# Rotary positions. Version 4 of transformers reads rope_theta and rope_scaling; version 5 reads rope_parameters, and those two where there
# are any.

_SCALINGS: dict[str, type[RopeScaling]] = {"linear": LinearScaling, "yarn": YarnScaling, "llama3": Llama3Scaling}
_REQUIRED = {"linear": ("factor",), "yarn": (), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
_THEIRS = {"original_max_seq_len": "original_max_position_embeddings"}
_KNOWN = {
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "mscale", "mscale_all_dim",
    *(_THEIRS.get(name, name) for scaling in _SCALINGS.values() for name in scaling.model_fields),
}  # fmt: skip


def rope_to_hub(theta: float, scaling: RopeScaling | None, head_dim: int) -> dict[str, Any]:
    """The fields of rotary positions, for versions 4 and 5. NTK scaling is another theta, and has no other name there."""
    if isinstance(scaling, NTKScaling):
        theta, scaling = scaling.base(theta, head_dim), None
    plain = scaling_to_hub(scaling)
    return {"rope_theta": theta, "rope_parameters": plain | {"rope_theta": theta}} | ({} if scaling is None else {"rope_scaling": plain})


def scaling_to_hub(scaling: RopeScaling | None) -> dict[str, Any]:
    """`rope_scaling` as version 4 has it; raises `ConfigError` where there is no name for it."""
    if scaling is None:
        return {"rope_type": "default"}
    kind = next((name for name, cls in _SCALINGS.items() if cls is type(scaling)), None)
    if kind is None:
        named = ", ".join(cls.kind() for cls in _SCALINGS.values())
        raise ConfigError(f"rope_scaling={scaling.kind()} has no name on the hub; {named} have one")
    values = {_THEIRS.get(name, name): getattr(scaling, name) for name in type(scaling).model_fields}
    return {"rope_type": kind} | {name: value for name, value in values.items() if value is not None}


def rope_from_hub(plain: Mapping[str, Any], max_seq_len: int, theta: float = 10_000.0) -> tuple[float, RopeScaling | None]:
    """theta and scaling.

    Args:
        plain: the whole `config.json`.
        max_seq_len: of the model; stands in for an original length that is not given.
        theta: if none is given.
    """
    rope = named_values(plain, "rope_scaling") or named_values(plain, "rope_parameters")
    return rope.get("rope_theta") or plain.get("rope_theta") or theta, scaling_from_hub(rope, plain, max_seq_len)


def named_values(plain: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The values below a name, none where it is not given; raises `DataError` where something else is there."""
    found = plain.get(name) or {}
    if not isinstance(found, Mapping):
        raise DataError(f"config.json has {name}={found!r} rather than named values; take it from the original checkpoint")
    return found


def scaling_from_hub(rope: Mapping[str, Any], plain: Mapping[str, Any], max_seq_len: int) -> RopeScaling | None:
    """The scaling that a `rope_scaling` or `rope_parameters` asks for; raises `DataError` for what we don't have."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "dynamic":
        raise DataError("config.json asks for rope_type='dynamic', which is not supported: its frequencies change with the length of the text, "
                        "and keys in a cache would have to be turned anew with every token; 'yarn' and 'linear' are supported")  # fmt: skip
    if kind != "default" and kind not in _SCALINGS:
        raise DataError(f"config.json asks for rope_type={kind!r}, which is not supported; those that are: default, {', '.join(_SCALINGS)}")
    if unknown := [name for name, value in rope.items() if name not in _KNOWN and value is not None]:
        raise DataError(f"config.json has {unknown[0]}={rope[unknown[0]]!r} among its rotary positions, which is not supported; remove it")
    share = rope.get("partial_rotary_factor") or plain.get("partial_rotary_factor") or 1.0
    if share != 1.0:
        raise DataError(f"config.json has partial_rotary_factor={share}, which is not supported; all features of a head are turned here")
    if kind == "default":
        return None
    for name in _REQUIRED[kind]:
        if rope.get(name) is None:
            raise DataError(f"config.json asks for rope_type={kind!r} without {name!r}; take it from the original checkpoint")
    fields = _SCALINGS[kind].model_fields
    values = {ours: rope[theirs] for ours in fields if rope.get(theirs := _THEIRS.get(ours, ours)) is not None}
    if "original_max_seq_len" in fields:
        values["original_max_seq_len"] = plain.get("original_max_position_embeddings") or values.get("original_max_seq_len", max_seq_len)
    if kind == "yarn":
        values.setdefault("factor", max_seq_len / values["original_max_seq_len"])
        if "attention_factor" not in values and rope.get("mscale") and rope.get("mscale_all_dim"):
            values["attention_factor"] = _magnitude(values["factor"], rope["mscale"]) / _magnitude(values["factor"], rope["mscale_all_dim"])
    return _SCALINGS[kind](**values)


def _magnitude(factor: int | float, scale: int | float) -> float:
    return scale * (YarnScaling(factor=factor, original_max_seq_len=1).magnitude - 1.0) + 1.0


# Windows. The hub has one width for all layers, and says for each layer whether it applies.


def shortest_cycle(layers: Sequence[int | None]) -> Windows:
    """The shortest tuple that gives these when counted round and round."""
    return next(tuple(layers[:n]) for n in range(1, len(layers) + 1) if all(one == layers[i % n] for i, one in enumerate(layers)))


def windows_of(windows: Windows, n_layers: int) -> list[int | None]:
    """That of each layer."""
    return [windows[i % len(windows)] for i in range(n_layers)]


def check_windows(config: ModelConfig, windows: Windows) -> None:
    """Refuses windows that the hub cannot say, or that can be said in fewer; via the config's `refuse`."""
    if len(windows) > config.n_layers:
        raise config.refuse("windows", f"has {len(windows)} entries for n_layers={config.n_layers}; give no more than there are layers")
    if len(widths := {window for window in windows if window is not None}) > 1:
        raise config.refuse("windows", f"has {len(widths)} widths, and the family has one for all layers; a TransformerConfig takes any")
    if (short := shortest_cycle(windows_of(windows, config.n_layers))) != windows:
        raise config.refuse("windows", f"says no more than {short}; give that")


def windows_to_hub(windows: Windows, n_layers: int, unused: int | None = None) -> dict[str, Any]:
    """`sliding_window` (`unused` where no layer has one) and `layer_types`."""
    layers = windows_of(windows, n_layers)
    types = ["full_attention" if window is None else "sliding_attention" for window in layers]
    return {"sliding_window": next((window for window in layers if window is not None), unused), "layer_types": types}


def windows_from_hub(types: Sequence[str], width: int | None, n_layers: int) -> Windows:
    """Raises `DataError` for layers that are neither all-seeing nor within a window.

    Args:
        types: `layer_types`.
        width: `sliding_window`.
        n_layers: of the model.
    """
    if len(types) != n_layers:
        raise DataError(f"config.json has layer_types of {len(types)} layers and num_hidden_layers={n_layers}; make them agree")
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise DataError(f"config.json has {kind!r} in its layer_types, which is not supported; full_attention and sliding_attention are")
    if width is None and "sliding_attention" in types:
        raise DataError("config.json has sliding_attention in its layer_types without a sliding_window; give its width")
    return shortest_cycle([width if kind == "sliding_attention" else None for kind in types])
