"""Which matrices of a model an adapter is for: by canonical path, and within a matrix that is several in one by what each is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.nn.head import TiedHead, UntiedHead
from bloomery.nn.linear import Linear, Use


@dataclass(frozen=True)
class Piece:
    """One of the matrices that lie one above the other in a `Linear`.

    Attributes:
        use: what it is for; None for all rows together, where several serve the same.
        rows: where it lies.
    """

    use: Use | None
    rows: range


def pieces(heights: Sequence[int], uses: Sequence[Use]) -> list[Piece]:
    """The matrices in the rows of one. Where several are for the same (the maps of many heads, one after the other), all are one piece."""
    if len(set(uses)) < len(uses):
        return [Piece(None, range(sum(heights)))]
    ends = [sum(heights[: i + 1]) for i in range(len(heights))]
    return [Piece(use, range(end - height, end)) for use, height, end in zip(uses, heights, ends, strict=True)]


def within(target: str, path: str) -> bool:
    """Whether the words of a target stand one behind the other in a path: "mixer.qkv" in "blocks.3.mixer.qkv.query"."""
    words, along = target.split("."), path.split(".")
    return any(along[i : i + len(words)] == words for i in range(len(along) - len(words) + 1))


def matrices(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[Piece]]]:
    """The matrices that adapters can change: path, module and pieces of each. A head that is tied is the embedding, under both names."""
    tied = {id(module.embedding) for module in model.modules() if isinstance(module, TiedHead)}
    for path, module in model.named_modules():
        if isinstance(module, Linear):
            yield path, module, pieces(module.heights, module.uses)
        elif isinstance(module, nn.Embedding) and path.split(".")[-1] == "embedding":  # of tokens; other tables are not looked up by call
            yield path, module, [Piece(Use.HEAD if id(module) in tied else None, range(module.num_embeddings))]
        elif isinstance(module, UntiedHead):
            yield path, module, [Piece(Use.HEAD, range(len(module.weight)))]


def chosen(model: nn.Module, targets: Sequence[str]) -> dict[str, list[Piece]]:
    """The pieces of each matrix that targets name, by the path of its module.

    Raises:
        ConfigError: a target names nothing.
    """
    found: dict[str, list[Piece]] = {}
    named: set[str] = set()
    for path, _, parts in matrices(model):
        for piece in parts:
            full = path if piece.use is None else f"{path}.{piece.use.value}"
            if asked := {target for target in targets if within(target, full)}:
                named |= asked
                found.setdefault(path, []).append(piece)
    if missing := [target for target in targets if target not in named]:
        some = sorted({path.split(".", 2)[-1] if path.startswith("blocks.") else path for path, _, _ in matrices(model)})
        raise ConfigError(f"targets has {missing[0]!r}, which is the path of no matrix of the model; it has {', '.join(some)}")
    return found


def replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a module in the place of another, wherever the model has it."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is old:
                setattr(module, name, new)
