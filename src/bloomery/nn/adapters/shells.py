"""Shells: modules of a model that have the same weights under the same names as before, and let adapters change what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.nn.adapters.targets import replace
from bloomery.nn.adapters.thin import Make
from bloomery.nn.head import TiedHead, UntiedHead
from bloomery.nn.init import Initialised, Pour
from bloomery.nn.linear import Linear


class Added(nn.Module, Initialised):
    """What an adapter adds to a model at one place.

    Attributes:
        by: the adapter's name.
        active: whether it takes part.
    """

    merges: ClassVar[bool] = False
    """Whether it is a change of the weight, which `merged` tells."""
    adds: ClassVar[bool] = False
    """Whether that is W + ΔW, of which `difference` tells ΔW."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by, self.active = by, True

    def begin(self, weight: Float[Tensor, "rows columns"]) -> Mapping[str, Tensor]:
        """Values for those of its parameters that start from the weight that they change."""
        return {}


class Change(Added):
    """What changes what one module says."""

    def forward(self, x: Float[Tensor, "*batch columns"], y: Float[Tensor, "*batch rows"], shell: Shell) -> Float[Tensor, "*batch rows"]:
        """What becomes of y = W·x (+ b)."""
        raise NotImplementedError

    def applied(self, x: Float[Tensor, "*batch columns"], shell: Multiplies) -> Float[Tensor, "*batch rows"]:
        """W·x (+ b) as it becomes; for those that are faster together with the product than after it."""
        return self(x, shell.multiplied(x), shell)

    def looked_up(self, tokens: Int[Tensor, "*batch"], y: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch columns"]:
        """What becomes of the rows of W that tokens stand for, where W is a table."""
        raise NotImplementedError

    def merged(self, weight: Float[Tensor, "rows columns"], own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        """The weight with the change in it, for those that merge.

        Args:
            weight: W.
            own: its parameters, by their names in it.
        """
        raise NotImplementedError

    def difference(self, own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        """ΔW, for those that add: the weight with the change in it is W + ΔW. Differentiable; the argument is that of `merged`."""
        raise NotImplementedError


class Shell(nn.Module):
    """A module whose weight adapters change. Parameters: those of the module as it was, and adapters.<name>.…."""

    keeps: ClassVar[tuple[str, ...]] = ("weight",)
    """Names of the parameters that the weight is kept as, in whose rows its rows are."""
    adapters: nn.ModuleDict
    weight: Any
    before: Tensor | None = None
    """The weight as it was, while what adapters add is merged into it."""

    @property
    def base(self) -> Float[Tensor, "rows columns"]:
        """The weight without adapters."""
        return self.bare({name: self.get_parameter(name) for name in self.keeps})

    def bare(self, kept: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        """The weight without adapters, or some rows of it, from these rows of what it is kept as."""
        return kept["weight"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def changes(self) -> list[Change]:
        """Those that are to be made."""
        return [] if self.before is not None else [change for change in self.adapters.values() if change.active]  # type: ignore[misc]

    @property
    def matrix(self) -> Float[Tensor, "rows columns"]:
        """The weight as its adapters have it, differentiable."""
        weight = self.base
        for change in self.changes:
            if change.merges:
                weight = change.merged(weight, dict(change.named_parameters()))
        return weight

    def told(self, own: str, whole: Tensor) -> Mapping[str, Tensor]:
        """What the module's parameters are, given one of the module as it was."""
        return {own: whole}

    def reads(self, own: str, name: str) -> list[str]:
        """Names of the parameters that one of the module as it was is made of when an adapter is merged into it.

        Args:
            own: its name.
            name: the adapter's.
        """
        return [*self.keeps, *(f"adapters.{name}.{key}" for key, _ in self.adapters[name].named_parameters())] if own == "weight" else [own]

    def merged(self, own: str, name: str, parameters: Mapping[str, Tensor]) -> Tensor:
        """One of the parameters of the module as it was, with an adapter merged into it.

        Args:
            own: its name.
            name: the adapter's.
            parameters: what `reads` names, whole.
        """
        if own != "weight":
            return parameters[own]
        prefix = f"adapters.{name}."
        mine = {key.removeprefix(prefix): value for key, value in parameters.items() if key.startswith(prefix)}
        return self.adapters[name].merged(self.bare(parameters), mine)  # type: ignore[operator]

    @torch.no_grad()
    def merge(self) -> None:
        """Takes its active adapters into the weight."""
        if self.before is None:
            merged, self.before = self.matrix, self.weight.detach().clone()
            self.weight.copy_(merged)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Gives the weight back the numbers that it had."""
        if self.before is not None:
            self.weight.copy_(self.before)
            self.before = None


class Multiplies(Shell, Linear):
    """A shell that is a linear map: its changes say what becomes of a product."""

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """What W is kept as."""
        return (self.weight,)

    @property
    def make(self) -> Make:
        """What makes W of that."""
        return as_it_is

    def multiplied(self, x: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch rows"]:
        """W·x (+ b), without adapters."""
        return self.product(x, self.weight, self.bias)

    def forward(self, input: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch rows"]:
        changes = self.changes
        if not changes:
            return self.multiplied(input)
        y = changes[0].applied(input, self)
        for change in changes[1:]:
            y = change(input, y, self)
        return y


def as_it_is(weight: Tensor) -> Tensor:
    """The matrix of one that is kept whole."""
    return weight


class AdaptedLinear(Multiplies):
    """A `Linear` with adapters."""

    def __init__(self, linear: Linear) -> None:
        with torch.device("meta"):  # it takes over the weights that there are
            super().__init__(linear.in_features, linear.heights, linear.uses, bias=linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.adapters = nn.ModuleDict()


class AdaptedEmbedding(Shell, nn.Embedding):
    """A table of vectors with adapters."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, _weight=table.weight)
        self.weight = table.weight
        self.adapters = nn.ModuleDict()

    def forward(self, input: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch columns"]:
        y = F.embedding(input.clamp(max=self.num_embeddings - 1), self.weight)  # ids beyond are those of virtual tokens
        for change in self.changes:
            y = change.looked_up(input, y)
        return y


class AdaptedHead(Shell, UntiedHead):
    """A head with a matrix of its own, with adapters."""

    def __init__(self, head: UntiedHead) -> None:
        with torch.device("meta"):
            super().__init__(len(head.weight), head.weight.shape[1], softcap=head.softcap, scale=head.scale)
        self.weight, self.bias = head.weight, head.bias
        self.adapters = nn.ModuleDict()


class AdaptedTiedHead(TiedHead):
    """A head whose matrix is an embedding table with adapters: what changes the one changes the other."""

    def __init__(self, head: TiedHead, embedding: AdaptedEmbedding) -> None:
        super().__init__(embedding, softcap=head.softcap, scale=head.scale)
        self.bias = head.bias

    @property
    def matrix(self) -> Float[Tensor, "vocab d_model"]:
        assert isinstance(self.embedding, AdaptedEmbedding)
        return self.embedding.matrix


def shell_of(model: nn.Module, path: str) -> Shell:
    """The module at a path with a shell around its weight, which it gets where it has none."""
    module = model.get_submodule(path)
    if isinstance(module, Shell):
        return module
    if isinstance(module, Linear):
        shell: Shell = AdaptedLinear(module)
    elif isinstance(module, UntiedHead):
        shell = AdaptedHead(module)
    else:
        assert isinstance(module, nn.Embedding)
        shell = AdaptedEmbedding(module)
        for head in [one for one in model.modules() if isinstance(one, TiedHead) and one.embedding is module]:
            replace(model, head, AdaptedTiedHead(head, shell))
    replace(model, module, shell)
    return shell


def shells(model: nn.Module, name: str | None = None) -> dict[str, Shell]:
    """The modules of a model whose weights adapters change, or the adapter of that name does, by canonical path."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, Shell)}
    return found if name is None else {path: shell for path, shell in found.items() if name in shell.adapters}


@torch.no_grad()
def begin(model: nn.Module, name: str) -> None:
    """Gives what an adapter has added the values that follow from the weights of the model."""
    for shell in shells(model, name).values():
        change = shell.adapters[name]
        for own, value in change.begin(shell.base).items():  # type: ignore[operator]
            change.get_parameter(own).copy_(value)


def telling(model: nn.Module, name: str, pour: Pour) -> Pour:
    """Takes the weights of a model as it was, one by one, and tells those that it has with an adapter of that name: their values, and those
    of the adapter's that follow from them."""
    found = shells(model, name)

    def tell(parameter: str, whole: Tensor) -> None:
        path, _, own = parameter.rpartition(".")
        if (shell := found.get(path)) is None:
            pour(parameter, whole)
            return
        told = dict(shell.told(own, whole))
        if own == "weight":
            told |= {f"adapters.{name}.{key}": value for key, value in shell.adapters[name].begin(whole).items()}  # type: ignore[operator]
        for key, value in told.items():
            pour(f"{path}.{key}", value)

    return tell
