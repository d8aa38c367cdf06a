"""`RsLoRA`: `LoRA` whose scale lets higher ranks learn as fast as low ones."""

from __future__ import annotations

from math import sqrt

from bloomery.nn.adapters.lora import LoRA


class RsLoRA(LoRA):
    """y = W·x + (α/√r)·B·A·x.

    Source: Kalajdzievski (2023), arXiv 2312.03732.
    """

    @property
    def scale(self) -> float:
        return self.alpha / sqrt(self.rank)
