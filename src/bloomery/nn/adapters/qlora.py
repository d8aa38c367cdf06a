"""`QLoRA`: `LoRA` on a model whose matrices are kept in few bits."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.lora import LoRA
from bloomery.nn.adapters.quantised import Int8, Nf4, QuantisedLinear
from bloomery.nn.adapters.shells import Shell
from bloomery.nn.adapters.targets import chosen, replace
from bloomery.nn.linear import Linear


class QLoRA(LoRA):
    """y = dequantised(W)·x + (α/r)·B·A·x: the matrices that it changes are kept in few bits, and nothing else is.

    It starts at the quantised base, and not at the base. Merged, it is that base and the change, in full precision.

    Source: Dettmers et al. (2023), arXiv 2305.14314. Departures: scales are kept in fp32 rather than quantised again; moments are not paged.
    """

    starts_at_base: ClassVar[bool] = False
    keeps_base: ClassVar[bool] = False

    bits: Nf4 | Int8 = Nf4()
    """How the matrices are kept: `Nf4()` or `Int8()`."""

    def add(self, model: nn.Module) -> None:
        for path, pieces in chosen(model, self.targets).items():
            module = model.get_submodule(path)
            if not isinstance(module, Linear) or isinstance(module, Shell):
                raise ConfigError(f"{path} is no linear map that QLoRA could quantise (or has an adapter already); take it out of targets")
            shell = QuantisedLinear(module, self.bits)
            replace(model, module, shell)
            shell.adapters[self.name] = self.change(shell, pieces)
