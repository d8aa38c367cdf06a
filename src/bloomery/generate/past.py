"""How a model that only writes keeps the keys and values of what it has read: in fewer bits, where memory is what there is too little of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor

from bloomery.models.model import CausalModel
from bloomery.nn.cache import LayeredCache
from bloomery.nn.part import Part
from bloomery.nn.slots import Int8, Plain, Slots

M = TypeVar("M", bound=CausalModel)


class Past(Part, ABC):
    """How a cache keeps what it keeps of each place: keys and values, or latents. Recurrent states stay as they are.

    What is read is as wide as the model's own numbers again before it is used, so that this saves memory, and takes time on a CPU.
    """

    @abstractmethod
    def slots(self, batch: int, capacity: int, of: Tensor) -> Slots:
        """Room for so many places of so many rows.

        Args:
            batch: rows.
            capacity: places of each.
            of: (1, places, …), what a cache would keep of one row.
        """

    def applied(self, model: M) -> M:
        """The model itself, changed: caches that it makes from now on keep it so."""
        model.new_cache = partial(new_cache, self, model.new_cache)  # type: ignore[method-assign]
        return model


class FloatPast(Past):
    """As numbers of another precision."""

    precision: Literal["float32", "bfloat16", "float16"]
    """Which. A number x becomes one within |x| · 2⁻⁹ in bfloat16, and within |x| · 2⁻¹² in float16."""

    def slots(self, batch: int, capacity: int, of: Tensor) -> Plain:
        kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        return Plain.empty(batch, capacity, of.shape[2:], kinds[self.precision], of.device)


class Int8Past(Past):
    """In 8 bits, with a step for each head of each place; see `Int8`. With heads of 64 features that is 3.76 times less than float32."""

    def slots(self, batch: int, capacity: int, of: Tensor) -> Int8:
        return Int8.empty(batch, capacity, of.shape[2:], of.device)


def new_cache(past: Past, made: Callable[[int, int], LayeredCache], batch: int, capacity: int) -> LayeredCache:
    """An empty cache, or one that has what adapters put before texts.

    Args:
        past: how it keeps that.
        made: makes a model's own; asked for one of a single place, so that there is no moment at which memory holds both.
        batch: rows.
        capacity: tokens of each.
    """

    def make(own: Slots) -> Slots:
        first = own.capacity - 1  # places of adapters
        there = own.read(first)
        slots = past.slots(batch, first + capacity, there)
        if first:
            with torch.no_grad():
                slots.begin(batch, there[0])
        return slots

    return made(1, 1).other(batch, make)
