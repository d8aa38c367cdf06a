"""LoRA and what descends from it in the words of the `peft` library.

A matrix of ours that is several on the hub has an A and a B for each there, as here. One that is several in one there as well (GPT-2's) has
one A and one B there: A is then ours one above the other, and B has ours as blocks, at so many times the rank and α.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod, sqrt
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.model import ExportableConfig, HubTensor, ModelConfig
from bloomery.nn.adapters import DoRA, LoRA, RsLoRA
from bloomery.nn.adapters.targets import Piece, chosen, matrices

PREFIX = "base_model.model."  # of all names in the file
HEADS = ("lm_head", "predictions.decoder", "lm_head.decoder")  # what the hub's families call the way to the vocabulary
NEUTRAL: Mapping[str, tuple[Any, ...]] = MappingProxyType({
    "bias": ("none",), "trainable_token_indices": (None,), "target_parameters": (None, []), "use_qalora": (False,), "use_bdlora": (None,),
    "layer_replication": (None,), "lora_bias": (False,), "alora_invocation_tokens": (None,), "arrow_config": (None,), "kasa_config": (None,),
})  # fmt: skip
"""Fields of theirs that change what is computed → what they may be."""


class Place(NamedTuple):
    """A module on the hub that a LoRA changes, and the pieces of ours that are in it.

    Attributes:
        path: of our module.
        module: its name there.
        shape: of the matrix, rows first.
        start: the first of its rows in ours.
        pieces: in order.
        numbers: which of the pieces that are changed in our module these are.
        table: whether it is an embedding.
        turned: whether the matrix lies the other way there.
    """

    path: str
    module: str
    shape: tuple[int, int]
    start: int
    pieces: tuple[Piece, ...]
    numbers: range
    table: bool
    turned: bool


def places(base: ExportableConfig, targets: Mapping[str, Sequence[Piece]], model: nn.Module) -> Iterator[Place]:
    """The modules on the hub that these pieces are in.

    Raises:
        ConfigError: a piece is in none.
    """
    parts = base.hub_parts()
    for path, pieces in targets.items():
        if (theirs := parts.get(f"{path}.weight")) is None:
            raise ConfigError(f"{path} has no name on the hub for itself, so that no library there could read what changes it; leave it out "
                              "of targets")  # fmt: skip
        start, first = 0, 0
        for part in theirs:
            rows, columns = _shape(part)
            inside = tuple(piece for piece in pieces if start <= piece.rows.start < start + rows)
            if inside:
                yield Place(path, part.name.removesuffix(".weight"), (rows, columns), start, inside, range(first, first + len(inside)),
                            isinstance(model.get_submodule(path), nn.Embedding), part.transposed)  # fmt: skip
            start, first = start + rows, first + len(inside)


def _shape(part: HubTensor) -> tuple[int, int]:
    shape = part.shape[::-1] if part.transposed else part.shape
    return shape[0], prod(shape[1:])


def lora_to_peft(base: ExportableConfig, adapter: LoRA, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The library's config and tensors.

    Args:
        base: of the model.
        adapter: on it.
        weights: of the parameters that are trained, by their names in the adapted model.
    """
    with torch.device("meta"):
        model = base.skeleton()
    targets, rank = chosen(model, adapter.targets), adapter.rank
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    found = list(places(base, targets, model))
    for place in found:
        own = f"{place.path}.adapters.{adapter.name}"
        heights = [len(piece.rows) for piece in targets[place.path]]
        some = slice(place.numbers.start, place.numbers.stop)
        a, b = weights[f"{own}.a.weight"].split(rank)[some], weights[f"{own}.b.weight"].split(heights)[some]
        left, right = torch.cat(a), _blocks(place, b)
        if (times := len(place.pieces)) > 1:
            ranks[place.module], alphas[place.module] = rank * times, adapter.alpha * (sqrt(times) if isinstance(adapter, RsLoRA) else times)
        key = PREFIX + place.module
        if place.table:
            tensors |= {f"{key}.lora_embedding_A": right.T, f"{key}.lora_embedding_B": left.T}
        else:
            tensors |= {f"{key}.lora_A.weight": left, f"{key}.lora_B.weight": right}
        if isinstance(adapter, DoRA):
            lengths = weights[f"{own}.magnitude"].split(heights)[some]
            if sum(map(len, lengths)) < place.shape[0]:
                raise ConfigError(f"{place.module} is one matrix on the hub, of which DoRA changes a part; take all of {place.path}")
            tensors[f"{key}.lora_magnitude_vector"] = torch.cat(lengths)
    parts = base.hub_parts()
    trained = [name for name in weights if ".adapters." not in name]
    for name in trained:
        (theirs,) = parts[name]
        tensors[PREFIX + theirs.name] = weights[name].T if theirs.transposed else weights[name]
    modules = sorted({parts[name][0].name.rpartition(".")[0] for name in trained})
    for place, head in [(place, head) for place in found if place.table for head in tied_heads(base)]:
        key = PREFIX + place.module
        tensors[f"{PREFIX}{head}.lora_A.weight"] = tensors[f"{key}.lora_embedding_B"].T
        tensors[f"{PREFIX}{head}.lora_B.weight"] = tensors[f"{key}.lora_embedding_A"].T
    heads = tied_heads(base) if any(place.table for place in found) else []
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM" if base.reads_forward and not modules else None, "r": rank, "lora_alpha": adapter.alpha,
        "target_modules": [*(place.module for place in found), *heads], "modules_to_save": modules or None,
        "use_rslora": isinstance(adapter, RsLoRA), "use_dora": isinstance(adapter, DoRA),
        "rank_pattern": ranks, "alpha_pattern": alphas, "lora_dropout": 0.0, "bias": "none",
        "fan_in_fan_out": any(place.turned for place in found), "inference_mode": True, "base_model_name_or_path": None,
        "ensure_weight_tying": bool(heads),
    }, tensors  # fmt: skip


def tied_heads(base: ExportableConfig) -> list[str]:
    """The modules on the hub whose matrix is the embedding's. The library lets adapters of the two go together in some families; to be
    read in all of them, ours are written for each."""
    modules = (name.removesuffix(".weight") for name in base.hub_copies() if name.endswith(".weight"))
    return sorted(module for module in modules if module.endswith(HEADS))


def _blocks(place: Place, b: Sequence[Tensor]) -> Tensor:
    """The B of a module: those of the pieces at their rows, each with columns of its own."""
    if len(b) == 1 and len(b[0]) == place.shape[0]:
        return b[0]
    rank = b[0].shape[1]
    out = b[0].new_zeros(place.shape[0], rank * len(b))
    for i, (piece, one) in enumerate(zip(place.pieces, b, strict=True)):
        out[piece.rows.start - place.start : piece.rows.stop - place.start, i * rank : (i + 1) * rank] = one
    return out


def lora_from_peft(base: ModelConfig, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[LoRA, dict[str, Tensor]]:
    """Our adapter and its parameters, from the library's config and tensors.

    Where modules differ in rank or α, all have the largest rank here, the others with rows and columns of 0, and what α adds is in B.

    Raises:
        DataError: they ask for what we don't have, or are for another model.
    """
    for name, usual in NEUTRAL.items():
        if plain.get(name, usual[0]) not in usual:
            raise DataError(f"the adapter has {name}={plain[name]!r}, which is not supported; {usual[0]!r} is")
    if not isinstance(base, ExportableConfig):
        raise DataError(f"the adapter names modules of the hub's models, of which a {base.kind()} is none; give it the model it was made for")
    with torch.device("meta"):
        model = base.skeleton()
    everything = {path: pieces for path, _, pieces in matrices(model) if f"{path}.weight" in base.hub_parts()}
    by_module = {place.module: place for place in places(base, everything, model)}
    rest, read, followed = dict(tensors), dict[Place, tuple[Tensor, Tensor, Tensor | None, float]](), set[str]()
    for key in tensors:
        module = key.removeprefix(PREFIX).split(".lora_")[0]
        if key not in rest or ".lora_" not in key:
            continue
        if module in tied_heads(base):
            _follows(tensors, by_module, module)
            del rest[f"{PREFIX}{module}.lora_A.weight"], rest[f"{PREFIX}{module}.lora_B.weight"]
            followed.add(module)
            continue
        if module not in by_module:
            raise DataError(f"the adapter has {key!r}, and a {base.kind()} has no such module; it is for another model")
        place, start = by_module[module], PREFIX + module
        if place.table:
            left, right = rest.pop(f"{start}.lora_embedding_B").T, rest.pop(f"{start}.lora_embedding_A").T
        else:
            left, right = rest.pop(f"{start}.lora_A.weight"), rest.pop(f"{start}.lora_B.weight")
        length = rest.pop(f"{start}.lora_magnitude_vector", None)
        read[place] = left, right, length, _scale(plain, module, len(left))
    tied = plain.get("ensure_weight_tying") or followed.issuperset(tied_heads(base))
    if any(place.table for place in read) and not tied:
        raise DataError("the adapter changes the embedding and not the head that is tied to it, so that the two would come apart; train it "
                        "with ensure_weight_tying=True, or untie the head of its base")  # fmt: skip
    for place in read:  # the library writes the base's own embeddings as well, where they are changed
        copy = rest.pop(f"{PREFIX}{place.module}.base_layer.weight", None)
        if copy is not None and tuple(copy.shape) != place.shape:
            raise DataError(f"the adapter was made for {place.module} as {tuple(copy.shape)}, and it is {place.shape}; resize the base first")
    pieces = {place: _own(place, left, right, plain["r"]) for place, (left, right, _, _) in read.items()}
    rank = max(len(a) for own in pieces.values() for a, _ in own)
    kind = DoRA if plain.get("use_dora") else RsLoRA if plain.get("use_rslora") else LoRA
    alpha = float(plain["lora_alpha"])
    names = {theirs[0].name: ours for ours, theirs in base.hub_parts().items() if len(theirs) == 1}
    whole = {names[key.removeprefix(PREFIX)]: tensor for key, tensor in rest.items() if key.removeprefix(PREFIX) in names}
    if unknown := [key for key in rest if key.removeprefix(PREFIX) not in names]:
        raise DataError(f"the adapter has {unknown[0]!r}, and a {base.kind()} has no such tensor; it is for another model")
    adapter = kind(rank=rank, alpha=alpha, targets=_targets(model, read), whole=tuple(sorted({name.rpartition(".")[0] for name in whole})))
    weights: dict[str, Tensor] = {}
    for path in dict.fromkeys(place.path for place in read):
        some = [place for place in read if place.path == path]
        some.sort(key=lambda place: place.start)
        pairs = [_padded(a, b * (read[place][3] / adapter.scale), rank) for place in some for a, b in pieces[place]]
        own = f"{path}.adapters.{adapter.name}"
        weights |= {f"{own}.a.weight": torch.cat([a for a, _ in pairs]), f"{own}.b.weight": torch.cat([b for _, b in pairs])}
        lengths = [length for place in some if (length := read[place][2]) is not None]
        if lengths:
            weights[f"{own}.magnitude"] = torch.cat(lengths)
    return adapter, weights | whole


def _follows(tensors: Mapping[str, Tensor], modules: Mapping[str, Place], head: str) -> None:
    """Raises `DataError` where what there is for a head is not what there is for the table to which it is tied."""
    left, right = (tensors[f"{PREFIX}{head}.lora_{one}.weight"] for one in "AB")
    table = next(place.module for place in modules.values() if place.table)
    for mine, theirs in ((left, "B"), (right, "A")):
        other = tensors.get(f"{PREFIX}{table}.lora_embedding_{theirs}")
        if other is None or not torch.equal(mine, other.T):
            raise DataError(f"the adapter changes {head!r} otherwise than {table!r}, to which it is tied here; untie the head of its base")


def _scale(plain: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor on a module's B·A."""
    alpha = next((a for key, a in (plain.get("alpha_pattern") or {}).items() if f".{module}".endswith(f".{key}")), plain["lora_alpha"])
    return alpha / (sqrt(rank) if plain.get("use_rslora") else rank)


def _own(place: Place, left: Tensor, right: Tensor, usual: int) -> list[tuple[Tensor, Tensor]]:
    """A and B of each piece of a module; `usual` is the rank of a module that is one piece."""
    rows = [slice(piece.rows.start - place.start, piece.rows.stop - place.start) for piece in place.pieces]
    count = len(rows)
    if len(left) == count * usual:
        lefts, rights = left.split(usual), [right[one].split(usual, dim=1) for one in rows]
        if not any(rights[i][j].any() for i in range(count) for j in range(count) if i != j):  # as `_blocks` has it
            return [(lefts[i], rights[i][i]) for i in range(count)]
    return [(left, right[one]) for one in rows]


def _padded(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The same product with a larger rank."""
    more = rank - len(a)
    return torch.cat((a, a.new_zeros(more, a.shape[1]))), torch.cat((b, b.new_zeros(len(b), more)), dim=1)


def _targets(model: nn.Module, read: Iterable[Place]) -> tuple[str, ...]:
    """What names just these pieces: the same words for all layers, where that can be."""
    wanted: dict[str, list[Piece]] = {}
    for place in sorted(read, key=lambda place: place.start):
        wanted.setdefault(place.path, []).extend(place.pieces)
    full = [path if piece.use is None else f"{path}.{piece.use.value}" for path, pieces in wanted.items() for piece in pieces]
    short = tuple(dict.fromkeys(name.split(".", 2)[2] if name.startswith("blocks.") else name for name in full))
    return short if chosen(model, short) == {path: wanted[path] for path in chosen(model, full)} else tuple(full)
