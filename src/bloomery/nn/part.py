"""`Part`: a part of a model as a value, from which the module is built."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from torch import nn

from bloomery.core.config import Config

Module = TypeVar("Module", bound=nn.Module)


class Part(Config):
    """What a model is made of, as a value: a mixer, a norm, a feed-forward layer, positions, a head. Its `build` makes the module."""


class Shared:
    """Modules that several layers of one model have in common: rotary tables, a bias by distance."""

    def __init__(self) -> None:
        self._built: dict[Hashable, Any] = {}

    def get(self, key: Hashable, build: type[Module] | Any) -> Any:
        """The module under this key, built by the first who asks."""
        if key not in self._built:
            self._built[key] = build()
        return self._built[key]
