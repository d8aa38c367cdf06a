"""`Block`: one layer of a model; and where its norms stand, as a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isclose
from typing import Annotated, Any

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.cache import Cache
from bloomery.nn.init import Stack
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.mixer import SequenceMixer
from bloomery.nn.norms import LayoutNorm, Norm, NormConfig, at
from bloomery.nn.part import Part
from bloomery.nn.seen import Seen

Branch = Callable[[Tensor], Tensor]
Join = Callable[[Tensor, Any, Branch], Tensor]
"""(residual stream, norm as `at` gives it, branch) → residual stream."""


class Placement(Part):
    """Where norms stand around the branches of a block."""

    def norm(self, norm: NormConfig, d_model: int) -> nn.Module:
        """The norm, or norms, of one branch."""
        return norm.build(d_model)

    @property
    def residual_factor(self) -> float:
        """What the residual stream is multiplied by at each branch."""
        return 1.0

    def check_model(self, model: Stack) -> None:
        """Refuses a model that it does not fit; called when the model's config is built."""
        factor, wanted = self.residual_factor, model.init.residual_factor(model.n_layers)
        if not isclose(factor, wanted, rel_tol=1e-3):
            raise ConfigError(
                f"placement={self} multiplies the residual stream by {factor:.4g}, and init={model.init} is made for {wanted:.4g}; take both "
                f"from deep_norm(n_layers={model.n_layers}), or PreNorm() and NormalInit()"
            )

    @abstractmethod
    def join(self) -> Join:
        """How a branch is joined to the residual stream."""

    def block(self, norm: NormConfig, d_model: int, mixer: SequenceMixer, ff: nn.Module | None) -> Block:
        """A layer of these parts."""
        if ff is None:
            return MixerBlock(self.join(), self.norm(norm, d_model), mixer)
        return SerialBlock(self.join(), self.norm(norm, d_model), mixer, self.norm(norm, d_model), ff)


class PreNorm(Placement):
    """x + f(norm(x)): GPT-2 and Llama.

    Source: Xiong et al. (2020), arXiv 2002.04745.
    """

    def join(self) -> Join:
        return _pre


class PostNorm(Placement):
    """norm(αx + f(x)): the Transformer of 2017 and BERT with α = 1, DeepNorm with a larger one.

    Source: Vaswani et al. (2017), arXiv 1706.03762; α: Wang et al. (2022), arXiv 2203.00555.
    """

    alpha: Annotated[float, Gt(0)] = 1.0
    """Factor on the residual stream; any but 1 goes with `DeepNormInit`."""

    @property
    def residual_factor(self) -> float:
        return self.alpha

    def join(self) -> Join:
        return partial(_post, alpha=self.alpha)


class BranchNorm(Placement):
    """x + norm(f(x)): OLMo 2.

    Source: OLMo Team (2025), arXiv 2501.00656, section 3.
    """

    def join(self) -> Join:
        return _branch


class SandwichNorm(Placement):
    """x + norm_after(f(norm_before(x))): Gemma 2.

    Source: Ding et al. (2021), arXiv 2105.13290; Gemma Team (2024), arXiv 2408.00118.
    """

    def norm(self, norm: NormConfig, d_model: int) -> nn.Module:
        return Sandwich(norm.build(d_model), norm.build(d_model))

    def join(self) -> Join:
        return around


class ParallelNorm(Placement):
    """x + mixer(norm(x)) + ff(norm(x)), of one norm: GPT-J and PaLM.

    Source: Wang and Komatsuzaki (2021), GPT-J-6B; Chowdhery et al. (2022), arXiv 2204.02311, section 2.
    """

    def join(self) -> Join:
        return _pre

    def block(self, norm: NormConfig, d_model: int, mixer: SequenceMixer, ff: nn.Module | None) -> Block:
        return super().block(norm, d_model, mixer, ff) if ff is None else ParallelBlock(self.norm(norm, d_model), mixer, ff)


@dataclass(frozen=True, eq=False)
class Ends:
    """What stands before and behind a branch."""

    before: Norm
    after: Norm


class Sandwich(nn.Module, LayoutNorm):
    """The two norms of a branch."""

    def __init__(self, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.after = before, after

    def at(self, layout: SequenceLayout) -> Ends:
        return Ends(at(self.before, layout), at(self.after, layout))


def _pre(x: Tensor, norm: Norm, branch: Branch) -> Tensor:
    return x + branch(norm(x))


def _post(x: Tensor, norm: Norm, branch: Branch, alpha: float) -> Tensor:
    return norm((x if alpha == 1.0 else alpha * x) + branch(x))


def _branch(x: Tensor, norm: Norm, branch: Branch) -> Tensor:
    return x + norm(branch(x))


def around(x: Tensor, norm: Ends, branch: Branch) -> Tensor:
    """x + after(f(before(x)))."""
    return x + norm.after(branch(norm.before(x)))


class Block(nn.Module, ABC):
    """One layer: a mixer, and (mostly) a feed-forward layer."""

    mixer: SequenceMixer

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """The residual stream behind the layer; `seen` keeps what it is asked to keep."""


class SerialBlock(Block):
    """A mixer, then a feed-forward layer."""

    def __init__(self, join: Join, mixer_norm: nn.Module, mixer: SequenceMixer, ff_norm: nn.Module, ff: nn.Module) -> None:
        super().__init__()
        self.join = join
        self.mixer_norm, self.mixer, self.ff_norm, self.ff = mixer_norm, mixer, ff_norm, ff

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        x = self.join(x, at(self.mixer_norm, layout), lambda h: self.mixer(mixed(h, seen), layout, cache))
        return self.join(x, at(self.ff_norm, layout), lambda h: self.ff(kept(h, seen)))


class MixerBlock(Block):
    """A mixer alone."""

    def __init__(self, join: Join, mixer_norm: nn.Module, mixer: SequenceMixer) -> None:
        super().__init__()
        self.join = join
        self.mixer_norm, self.mixer = mixer_norm, mixer

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        return self.join(x, at(self.mixer_norm, layout), lambda h: self.mixer(mixed(h, seen), layout, cache))


class ParallelBlock(Block):
    """A mixer beside a feed-forward layer, both on one norm."""

    def __init__(self, norm: nn.Module, mixer: SequenceMixer, ff: nn.Module) -> None:
        super().__init__()
        self.norm, self.mixer, self.ff = norm, mixer, ff

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        h = at(self.norm, layout)(x)
        return x + self.mixer(mixed(h, seen), layout, cache) + self.ff(kept(h, seen))


def mixed(h: Tensor, seen: Seen | None) -> Tensor:
    """What a mixer reads, noted where it is asked for."""
    if seen is not None:
        seen.mixer_inputs.append(h)
    return h


def kept(h: Tensor, seen: Seen | None) -> Tensor:
    """What a feed-forward layer reads, noted where it is asked for."""
    if seen is not None:
        seen.ff_inputs.append(h)
    return h
