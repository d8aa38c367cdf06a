"""Rotary positions: `Rope`, and the ways of stretching it over longer texts than it was trained on (`RopeScaling`).

Position p turns pair i of a head's features by the angle p·ω_i. A model that has seen positions below `original_max_seq_len` knows no
larger angles; a scaling makes the ω_i smaller so that later positions give angles that it knows.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.part import Part


def frequencies(theta: float, width: int, device: torch.device | None = None) -> Float[Tensor, " pairs"]:
    """ω_i = theta^(−2i / width): what position 1 turns each pair of `width` features by, in radians."""
    return 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


class RopeScaling(Part):
    """How rotary positions are stretched."""

    factor: Annotated[float, Ge(1)]
    """How many times longer texts become."""

    @abstractmethod
    def frequencies(self, theta: float, width: int, device: torch.device | None) -> Float[Tensor, " pairs"]:
        """The ω_i that take the place of theta^(−2i / width).

        Args:
            theta: base of the wavelengths, > 1.
            width: features that are turned, even.
            device: of the result.
        """

    @property
    def magnitude(self) -> float:
        """Factor on turned queries and keys."""
        return 1.0

    def check_width(self, width: int) -> str:
        """Why it doesn't work when so many features are turned; empty where it does."""
        return ""


class LinearScaling(RopeScaling):
    """Positions are squeezed:  ω_i / factor.

    Source: Chen et al. (2023), arXiv 2306.15595.
    """

    def frequencies(self, theta: float, width: int, device: torch.device | None) -> Float[Tensor, " pairs"]:
        return frequencies(theta, width, device) / self.factor


class NTKScaling(RopeScaling):
    """The base grows so that the longest wavelength does by the factor, and the shortest not at all:  theta · factor^(width / (width − 2)).

    Source: bloc97 (2023), "NTK-aware scaled RoPE"; Peng et al. (2023), arXiv 2309.00071, definition 1. The base is the same for texts of
    all lengths: the "dynamic" kind, whose base depends on the length of the text, would turn the keys of a cache once more with every token.
    """

    def base(self, theta: float, width: int) -> float:
        """The base that takes the place of theta."""
        return theta * self.factor ** (width / (width - 2))

    def frequencies(self, theta: float, width: int, device: torch.device | None) -> Float[Tensor, " pairs"]:
        return frequencies(self.base(theta, width), width, device)

    def check_width(self, width: int) -> str:
        return "turns one pair of features, which has no longest wavelength beside the shortest; 4 or more would do" if width == 2 else ""


class YarnScaling(RopeScaling):
    """Pairs that turn often within the original length stay, those that turn seldom are squeezed, and between them it slides:

        ω_i · (1 − r_i) + ω_i / factor · r_i,   r_i = clamp((i − low) / (high − low), 0, 1)

    where low and high are the pairs that turn `beta_fast` and `beta_slow` times within the original length.

    Source: Peng et al. (2023), arXiv 2309.00071, section 3. Departure: the ramp is linear in the number of the pair rather than in its
    turns, as in the published code.
    """

    original_max_seq_len: Annotated[int, Gt(0)]
    """The length before, in tokens."""
    beta_fast: Annotated[float, Gt(0)] = 32.0
    """Pairs that turn more often stay as they are."""
    beta_slow: Annotated[float, Gt(0)] = 1.0
    """Pairs that turn less often are squeezed by the whole factor."""
    truncate: bool = True
    """Whether low is rounded down and high up to whole pairs."""
    attention_factor: Annotated[float, Gt(0)] | None = None
    """Factor on turned queries and keys, which sharpens attention by its square; None is 0.1 · ln(factor) + 1."""

    def check(self) -> None:
        if self.beta_slow >= self.beta_fast:
            raise self.refuse("beta_slow", f"is not below beta_fast={self.beta_fast}, and pairs that turn seldom are those that are squeezed; "
                              "1 and 32 are usual")  # fmt: skip

    @property
    def magnitude(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor

    def frequencies(self, theta: float, width: int, device: torch.device | None) -> Float[Tensor, " pairs"]:
        def pair(turns: float) -> float:
            return width * math.log(self.original_max_seq_len / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        if low == high:
            high += 0.001
        ramp = ((torch.arange(width // 2, dtype=torch.float32, device=device) - low) / (high - low)).clamp(0, 1)
        wavelengths = theta ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
        stays = 1 - ramp  # in this order the roundings are those of the published code
        return 1.0 / (self.factor * wavelengths) * (1 - stays) + 1.0 / wavelengths * stays


class Llama3Scaling(RopeScaling):
    """Wavelengths below original / high_freq_factor stay, those above original / low_freq_factor grow by the factor, between them it slides:

        ω_i · s_i + ω_i / factor · (1 − s_i),   s_i = (turns_i − low_freq_factor) / (high_freq_factor − low_freq_factor)

    where turns_i is how often pair i turns within the original length.

    Source: Grattafiori et al. (2024), arXiv 2407.21783, and the published code of Llama 3.1.
    """

    factor: Annotated[float, Ge(1)] = 8.0
    """How many times longer texts become."""
    low_freq_factor: Annotated[float, Gt(0)] = 1.0
    """Pairs that turn less often within the original length are squeezed by the whole factor."""
    high_freq_factor: Annotated[float, Gt(0)] = 4.0
    """Pairs that turn more often stay as they are."""
    original_max_seq_len: Annotated[int, Gt(0)] = 8192
    """The length before, in tokens."""

    def check(self) -> None:
        if self.low_freq_factor >= self.high_freq_factor:
            raise self.refuse("low_freq_factor", f"is not below high_freq_factor={self.high_freq_factor}, and pairs that turn seldom are those "
                              "that are squeezed; 1 and 4 are usual")  # fmt: skip

    def frequencies(self, theta: float, width: int, device: torch.device | None) -> Float[Tensor, " pairs"]:
        omega = frequencies(theta, width, device)
        wavelength = 2 * math.pi / omega
        longest, shortest = self.original_max_seq_len / self.low_freq_factor, self.original_max_seq_len / self.high_freq_factor
        stays = (self.original_max_seq_len / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        between = (1 - stays) * omega / self.factor + stays * omega
        return torch.where(wavelength > longest, omega / self.factor, torch.where(wavelength < shortest, omega, between))


class Rope(nn.Module):
    """Rotary position embedding: turns pairs of features by an angle that grows with the position.

        (x₁, x₂) → (x₁ cos pω − x₂ sin pω, x₂ cos pω + x₁ sin pω),   ω_i = theta^(−2i / head_dim)

    so that the product of a query and a key depends on the distance of their positions alone. The tables are float32 whatever the model
    is cast to, since half precision cannot hold a large angle.

    Args:
        head_dim: features per head, even.
        max_seq_len: positions run from 0 to max_seq_len − 1.
        theta: the base of the wavelengths, > 0.
        scaling: gives other ω_i, and a factor on the result; None leaves both.

    Source: Su et al. (2021), arXiv 2104.09864, section 3.4. Departure: feature i is paired with feature i + head_dim/2 (the "rotate half"
    convention of published Llama checkpoints), not with its neighbour; and the angles are rounded to float32 as those models round them.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, max_seq_len: int, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.head_dim, self.max_seq_len, self.theta, self.scaling = head_dim, max_seq_len, theta, scaling
        for name, table in zip(("cos", "sin"), self._tables(None), strict=True):
            self.register_buffer(name, table, persistent=False)

    def _tables(self, device: torch.device | None) -> tuple[Tensor, Tensor]:
        """cos and sin, each (max_seq_len, 1, head_dim / 2)."""
        scaled = frequencies if self.scaling is None else self.scaling.frequencies
        angle = torch.arange(self.max_seq_len, dtype=torch.float32, device=device)[:, None, None] * scaled(self.theta, self.head_dim, device)
        magnitude = 1.0 if self.scaling is None else self.scaling.magnitude
        return angle.cos() * magnitude, angle.sin() * magnitude

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rope:
        """Follows the model to its device (also from "meta"), but is computed afresh there rather than moved or cast."""
        device = fn(self.cos).device
        self.cos, self.sin = self._tables(device)
        return self

    def forward(
        self, x: Float[Tensor, "batch time heads head_dim"], positions: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time heads head_dim"]:
        cos, sin = self.cos[positions], self.sin[positions]  # (batch, time, 1, head_dim / 2)
        first, second = x.chunk(2, dim=-1)
        turned = first * cos - second * sin, second * cos + first * sin
        return torch.cat([half.type_as(x) for half in turned], dim=-1)  # half precision before it is written, which is what takes the time


class PartialRope(nn.Module):
    """Turns the first features of each head, and leaves the others as they are.

    Args:
        rope: its head_dim is the number of features that are turned.

    Source: Wang and Komatsuzaki (2021), GPT-J-6B.
    """

    def __init__(self, rope: Rope) -> None:
        super().__init__()
        self.rope = rope

    def forward(
        self, x: Float[Tensor, "batch time heads head_dim"], positions: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time heads head_dim"]:
        width = self.rope.head_dim
        return torch.cat((self.rope(x[..., :width], positions), x[..., width:]), dim=-1)
