"""`Adapter`: a way to train little of a model, as a value; and what all of them have in common: attaching, switching off, merging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.shells import Added, begin, shells
from bloomery.nn.adapters.targets import within
from bloomery.nn.init import Draw, NormalInit, Pour
from bloomery.nn.part import Part


class Adapter(Part):
    """What is trained in place of a model's own weights, which stay as they are.

    What it promises, and `tests/contracts/test_adapters.py` proves for every subclass: nothing but what it adds is trained; `disabled`
    gives the base back bit by bit, where it `keeps_base`; where `starts_at_base`, a fresh one changes nothing; where `merges`, the merged
    model is the adapted one.
    """

    merges: ClassVar[bool] = False
    """Whether weights of the base can take it in, so that nothing is left of it but their numbers."""
    adds: ClassVar[bool] = False
    """Whether that is by adding to them, W + ΔW, so that what pulls at the weights can pull at ΔW."""
    starts_at_base: ClassVar[bool] = True
    """Whether a fresh one leaves every output as it was, exactly."""
    keeps_base: ClassVar[bool] = True
    """Whether the weights of the base stay as they are; if not, "base" means what they have become before anything was trained."""
    parts_of_rows: ClassVar[bool] = False
    """Whether it can work where a rank has a stretch of the rows' time, or some of the layers only."""

    name: str = "default"
    """By which it is told from others on the same base; parameters are named after it."""
    whole: tuple[str, ...] = ()
    """Canonical paths of what is trained whole beside it: a fresh head for a task, say."""

    def check(self) -> None:
        if not self.name.isidentifier() or hasattr(nn.ModuleDict, self.name):
            raise self.refuse("name", "cannot name parameters; give it letters, digits and underscores, 'default' say")

    @property
    def n_virtual(self) -> int:
        """Places that it takes from each document, for tokens that nobody wrote."""
        return 0

    @property
    def picks_layers(self) -> bool:
        """Whether it is for some of the layers, and not for all alike."""
        return False

    @abstractmethod
    def add(self, model: nn.Module) -> None:
        """Puts its modules into a model."""

    def attach(self, model: nn.Module, seed: int = 0) -> dict[str, nn.Parameter]:
        """Freezes a model and adds what is trained in its stead, on top of adapters that it may have.

        Args:
            model: with weights, or without memory (on "meta"), where who fills it draws for the adapter as well; see `draw`.
            seed: of what is drawn.

        Returns:
            The parameters that are trained, by their canonical names.

        Raises:
            ConfigError: the model has one of this name, or nothing of what it is for.
        """
        if any(module.by == self.name for module in added(model)):
            raise self.refuse("name", "is that of an adapter that the model has already; give it another")
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        device = next(model.parameters()).device
        with device:
            self.add(model)
        for path in self.whole:
            found = [p for name, p in model.named_parameters() if within(path, name) and ".adapters." not in name]
            if not found:
                parts = ", ".join(name for name, _ in model.named_children())
                raise self.refuse("whole", f"names {path!r}, which the model has not; its parts are {parts}")
            for parameter in found:
                parameter.requires_grad_(True)
        if device.type != "meta":
            self.draw(model, seed)
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def draw(self, model: nn.Module, seed: int, pour: Pour | None = None) -> None:
        """Fills what it has added to a model, in place, and from the weights that are there; or, where the model has no memory, by telling
        `pour`, who learns what follows from weights by `telling`."""
        draw = Draw(model, NormalInit(), 1, seed, pour)
        for module in added(model, self.name):
            module.initialise(draw)
        if pour is None:
            begin(model, self.name)


def added(model: nn.Module, name: str | None = None) -> list[Added]:
    """What adapters have added to a model; what the one of that name has."""
    return [module for module in model.modules() if isinstance(module, Added) and name in (None, module.by)]


@contextmanager
def only(model: nn.Module, *names: str) -> Iterator[None]:
    """The model with the adapters of these names and no others, within the block."""
    everything, merged = added(model), [shell for shell in shells(model).values() if shell.before is not None]
    if unknown := set(names) - {module.by for module in everything}:
        raise ConfigError(f"the model has no adapter named {min(unknown)!r}; it has {sorted({module.by for module in everything}) or 'none'}")
    before = [module.active for module in everything]
    for shell in merged:
        shell.unmerge()
    try:
        for module in everything:
            module.active = module.by in names
        yield
    finally:
        for module, active in zip(everything, before, strict=True):
            module.active = active
        for shell in merged:
            shell.merge()


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The model as it was before it had adapters, bit by bit, within the block: a reference that costs no memory. What is trained `whole`
    stays as it is trained."""
    with only(model):
        yield


def merge(model: nn.Module) -> None:
    """Takes what adapters add into the weights, so that the model is as fast as its base; `unmerge` gives back the very bits from before.

    Raises:
        ConfigError: one of the adapters is no change of weights.
    """
    for module in added(model):
        if module.active and not module.merges:
            raise ConfigError(f"the adapter {module.by!r} ({type(module).__name__}) is no change of weights, and nothing else can be merged; "
                              "leave it attached")  # fmt: skip
    for shell in shells(model).values():
        shell.merge()


def unmerge(model: nn.Module) -> None:
    """Undoes `merge`."""
    for shell in shells(model).values():
        shell.unmerge()
