"""How a model that only writes keeps its matrices: laid out for few rows at a time, or in fewer bits.

To write one token reads all weights once, so that at one row the bytes are what takes the time; at some rows the products are, and there a
layout that the processor likes, or whole numbers, are several times as fast as the plain way. All of this is for the CPU: its kernels are
those of oneDNN, as torch has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bloomery.core.errors import ConfigError, ResourceError
from bloomery.generate.compiled import CompiledStep
from bloomery.models.model import Model
from bloomery.nn.adapters.quantised import Nf4
from bloomery.nn.adapters.targets import replace
from bloomery.nn.head import LinearHead
from bloomery.nn.init import Draw
from bloomery.nn.latent import LatentAttention
from bloomery.nn.linear import Linear
from bloomery.nn.part import Part

M = TypeVar("M", bound=Model)
TINY = torch.finfo(torch.float32).tiny
ROWS = 32  # for which a layout is chosen; it is as good for one row, and nearly so for many
FEWEST = 4  # rows of a product; oneDNN takes another way for fewer, which reads the same bytes in up to twice the time


class Matrix(ABC):
    """A matrix W that is multiplied with and does not change.

    Args:
        weight: W.
    """

    def __init__(self, weight: Float[Tensor, "rows columns"]) -> None:
        self.rows, self.columns = weight.shape

    @abstractmethod
    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        """x·Wᵀ (+ b)."""

    def dense(self) -> Float[Tensor, "rows columns"]:
        """W, as it is kept: what it makes of vectors that are 1 at one place."""
        return self.product(torch.eye(self.columns), None).T


class Weights(Part, ABC):
    """How matrices are kept. Those of experts, of adapters that are not merged, and the table of embeddings stay as they are."""

    @abstractmethod
    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix | None:
        """A matrix; None where it has to stay as it is."""

    def exact(self) -> bool:
        """Whether this machine multiplies as it should."""
        return True

    def can(self, model: Model) -> bool:
        """Whether it is for such a model."""
        held = next(model.parameters())
        return held.device.type == "cpu" and held.dtype == torch.float32 and torch.backends.mkldnn.is_available()

    def applied(self, model: M) -> M:
        """The model itself, changed: it can be asked and no longer be trained.

        Raises:
            ConfigError: it is not on a CPU with oneDNN, or not in fp32.
            ResourceError: this processor does not multiply as it should.
        """
        if not self.can(model):
            held = next(model.parameters())
            raise ConfigError(f"{self.kind()} is for a model in float32 on a CPU, where torch has oneDNN, and this one is on {held.device} in "
                              f"{held.dtype}; leave it out")  # fmt: skip
        if not self.exact():
            raise ResourceError(f"{self.kind()} would be wrong on this processor, whose products of 8 bits overflow; take PackedWeights()")
        folded = {id(module.up) for module in model.modules() if isinstance(module, LatentAttention)}  # whose matrix is asked for, too
        for module in list(model.modules()):
            if type(module) is Linear and id(module) not in folded and (matrix := self.kept(module.weight.detach())) is not None:
                replace(model, module, KeptLinear(module, matrix))
            elif isinstance(module, LinearHead) and (matrix := self.kept(module.matrix.detach())) is not None:
                replace(model, module, KeptHead(module, matrix))
        return model


class KeptLinear(Linear):
    """A linear map whose matrix is kept some way. Parameters: bias, where there is one."""

    def __init__(self, linear: Linear, matrix: Matrix) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.heights, linear.uses, bias=linear.bias is not None)
        self.register_parameter("weight", None)
        self.bias, self._kept = linear.bias, matrix

    @property
    def matrix(self) -> Float[Tensor, "rows columns"]:
        return self._kept.dense()

    def forward(self, input: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return self._kept.product(input.flatten(0, -2), self.bias).unflatten(0, input.shape[:-1])


class KeptHead(LinearHead):
    """A head whose matrix is kept some way; the table that it may have been tied to stays what it is."""

    def __init__(self, head: LinearHead, matrix: Matrix) -> None:
        super().__init__()
        self.bias, self.softcap, self.scale, self._kept = head.bias, head.softcap, head.scale, matrix

    @property
    def matrix(self) -> Float[Tensor, "vocab d_model"]:
        return self._kept.dense()

    def initialise(self, draw: Draw) -> None:
        raise NotImplementedError("what is kept this way is not drawn")

    def linear(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        return self._kept.product(features.flatten(0, -2), self.bias).unflatten(0, features.shape[:-1])


class PackedWeights(Weights):
    """The same numbers, laid out for products with few rows: what comes of them differs in the last bits only."""

    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix:
        return Packed(weight)


class Packed(Matrix):
    """See `PackedWeights`, and `Bfloat16Weights`."""

    def __init__(self, weight: Float[Tensor, "rows columns"]) -> None:
        super().__init__(weight)
        self._packed = torch.ops.mkldnn._reorder_linear_weight.default(weight.contiguous(), ROWS)

    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        rows = F.pad(x, (0, 0, 0, max(0, FEWEST - len(x))))
        return torch.ops.mkldnn._linear_pointwise.default(rows, self._packed, bias, "none", [], "")[: len(x)]


class CompiledWeights(PackedWeights):
    """The same numbers twice: as they are, for single rows, which are read by a `CompiledStep` whose products go through memory from one end to
    the other; and packed, for all else. For one text at a time on a processor that would wait for memory: there it is the fastest that rounds
    nothing off, once its code is written.
    """

    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix:
        return Twofold(weight)

    def applied(self, model: M) -> M:
        return CompiledStep(rows=1).applied(super().applied(model))


class Twofold(Packed):
    """See `CompiledWeights`."""

    def __init__(self, weight: Float[Tensor, "rows columns"]) -> None:
        super().__init__(weight)
        self._weight = weight

    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        if not torch.compiler.is_compiling():
            return super().product(x, bias)
        y = torch.stack([(self._weight * row).sum(-1) for row in x.unbind()])  # in one loop over W, that is not written down in between
        return y if bias is None else y + bias


class Bfloat16Weights(Weights):
    """In 16 bits, of which 8 are for the number; what is multiplied with them, and what comes of it, are rounded so, too."""

    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix:
        return Bfloat16(weight)


class Bfloat16(Packed):
    """See `Bfloat16Weights`."""

    def __init__(self, weight: Float[Tensor, "rows columns"]) -> None:
        super().__init__(weight.bfloat16())

    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        y = super().product(x.bfloat16(), None).type_as(x)
        return y if bias is None else y + bias


class Int8Weights(Weights):
    """In 8 bits, and so is what is multiplied with them: rows of W and rows of x as 255 equal steps from −max to max.

        |error of y_i| ≤ ½ · step_i · ‖x‖₁ + ½ · step(x) · ‖Ŵ_i‖₁

    The products are whole numbers, and exact, so that no row depends on those beside it.

    Source: Dettmers et al. (2022), arXiv 2208.07339, section 2, vector-wise; without its outliers in 16 bits.
    """

    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix:
        return Int8Matrix(weight)

    def exact(self) -> bool:
        """Processors without instructions for it add up pairs of products in 16 bits, which the largest ones do not fit."""
        largest = torch.ones(2, 64)
        return torch.allclose(Int8Matrix(largest).product(largest, None), largest @ largest.T)


class Int8Matrix(Matrix):
    """See `Int8Weights`."""

    def __init__(self, weight: Float[Tensor, "rows columns"]) -> None:
        super().__init__(weight)
        self._steps = (weight.abs().amax(1) / 127).clamp(min=TINY)
        self._packed = torch.ops.onednn.qlinear_prepack.default((weight / self._steps[:, None]).round().to(torch.int8), None)
        self._zeros = torch.zeros(self.rows, dtype=torch.int64)

    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        step = (x.abs().amax(-1, keepdim=True) / 127).clamp_(min=TINY)
        codes = (x / step).round_().add_(128).to(torch.uint8)  # the kernel takes one factor without a sign
        y = torch.ops.onednn.qlinear_pointwise.default(
            codes, 1.0, 128, self._packed, self._steps, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y.mul_(step) if bias is None else torch.addcmul(bias, y, step)


class Int4Weights(Weights):
    """In 4 bits: 16 equal steps from the least to the greatest of a group of neighbours. Matrices whose rows no group divides stay as they are.

        |error of a weight| ≤ ½ · step + what bfloat16, in which steps and least numbers are kept, rounds off
    """

    group: Literal[32, 64, 128, 256] = 64
    """Neighbours in a row that have a step in common."""

    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix | None:
        return None if weight.shape[1] % self.group else Int4Matrix(weight, self.group)


class Int4Matrix(Matrix):
    """See `Int4Weights`."""

    def __init__(self, weight: Float[Tensor, "rows columns"], group: int) -> None:
        super().__init__(weight)
        self._group = group
        groups = F.pad(weight, (0, 0, 0, -len(weight) % 16)).unflatten(1, (-1, group))  # the kernel wants multiples of 16 rows
        least, greatest = groups.aminmax(dim=-1)
        steps = ((greatest - least) / 15).clamp(min=1e-8).bfloat16()
        middle = (least + 8 * steps.float()).bfloat16()  # what a code of 8 stands for
        codes = ((groups - middle.float()[..., None]) / steps.float()[..., None] + 8).round().clamp(0, 15).to(torch.int32).flatten(1)
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        self._steps = torch.stack((steps, middle), dim=-1).transpose(0, 1).contiguous()  # (groups, rows, 2)

    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), self._packed, self._group, self._steps)[:, : self.rows].type_as(x)
        return y if bias is None else y + bias


class Nf4Weights(Weights):
    """In 4 bits, as `QLoRA` keeps them. There is no kernel for them on a CPU: the matrix is made anew for each product, which takes longer than
    to read all of it. For models that find no other place."""

    levels: Nf4 = Nf4()
    """How they are kept."""

    def kept(self, weight: Float[Tensor, "rows columns"]) -> Matrix | None:
        return None if weight.shape[1] % 2 else Nf4Matrix(weight, self.levels)


class Nf4Matrix(Matrix):
    """See `Nf4Weights`."""

    def __init__(self, weight: Float[Tensor, "rows columns"], levels: Nf4) -> None:
        super().__init__(weight)
        self._levels, self._kept = levels, levels.quantise(weight)

    def product(self, x: Float[Tensor, "n columns"], bias: Float[Tensor, " rows"] | None) -> Float[Tensor, "n rows"]:
        return F.linear(x, self.dense(), bias)

    def dense(self) -> Float[Tensor, "rows columns"]:
        return self._levels.dequantise(*self._kept)
