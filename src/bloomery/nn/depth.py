"""How far up in a model each parameter stands, read off its blocks."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from bloomery.nn.block import Block


class Height(NamedTuple):
    """Where a parameter stands.

    Attributes:
        layer: 0 below the first block, as embeddings do; i in block i, counted from 1; `top` above the last one, as heads do.
        top: number of blocks, plus 1.
    """

    layer: int
    top: int


def heights(model: nn.Module) -> dict[str, Height]:
    """That of every parameter by its name, each once.

    Blocks count in the model's order, those of an encoder before those of its decoder; one that is used for several layers counts once. What
    stands between two blocks and belongs to neither goes with the one before it.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    number = {id(p): i for i, block in reversed([*enumerate(blocks, 1)]) for p in block.parameters()}  # the first of those that share one
    found: dict[str, Height] = {}
    layer, top = 0, len(blocks) + 1
    for name, parameter in model.named_parameters():
        layer = number.get(id(parameter), top if layer == len(blocks) else layer)
        found[name] = Height(layer, top)
    return found
