"""Looking on while a model works: what goes in and out of its parts, told to whoever asks, with nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import Any

from torch import Tensor, nn

from bloomery.nn.block import Block

Note = Callable[[str, tuple[Any, ...], Tensor], None]
"""(place, what a part was given, what it made of it)."""


@contextmanager
def observed(places: Mapping[str, nn.Module], note: Note) -> Iterator[None]:
    """Within it, `note` is called whenever a part of a model has been run.

    Args:
        places: name → part. A part that stands in several places (shared layers do) is run at one after the other, in their order here.
        note: must change nothing.
    """
    names: dict[nn.Module, list[str]] = {}
    for place, part in places.items():
        names.setdefault(part, []).append(place)
    with ExitStack() as stack:
        for part, of_part in names.items():
            stack.enter_context(part.register_forward_hook(_telling(cycle(of_part), note)))
        yield


def _telling(names: Iterator[str], note: Note) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    return lambda part, inputs, output: note(next(names), inputs, output)


def layers(model: nn.Module) -> dict[str, Block]:
    """The blocks of a model by name, each stack from its first layer on.

    `layers/0`, `layers/1`, … where there is one stack, or of a decoder; other stacks have their own names before that: `encoder/layers/0`.
    """
    found: dict[str, Block] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) and all(isinstance(block, Block) for block in module):
            stack = [word for word in path.split(".") if word not in ("blocks", "base")]
            found |= {"/".join([*stack, "layers", str(i)]): block for i, block in enumerate(module) if isinstance(block, Block)}
    return found
