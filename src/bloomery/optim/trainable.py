"""What a training changes of a model, as a value; all else stays as it is, without gradient and without state of the optimiser.

    Everything() - Embeddings()                    all but the embeddings
    LastLayers(count=12) | Paths(paths=("norm",))  the upper layers
    Heads()                                        the heads alone, before the rest
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from pydantic import Field
from torch import nn

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.optim.groups import Member, members

HEADS = ("head", "heads")
"""Where models have what makes predictions of states: the vocabulary's, unless it is tied to the embeddings, and those of tasks."""


class Trainable(Config):
    """A set of a model's parameters. Subclasses write `names`.

    Sets combine: `a | b` is both, `a & b` what they have in common, `a - b` what is in a and not in b.
    """

    @abstractmethod
    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        """The canonical names of those that are trained.

        Args:
            everything: that could be, of the whole model.

        Raises:
            ConfigError: it speaks of something that the model has not.
        """

    def freeze(self, model: nn.Module) -> None:
        """Takes the gradient from all parameters of a whole model but these; what has none already stays without.

        Raises:
            ConfigError: nothing would be left to train, or it speaks of something that the model has not.
        """
        chosen = self.names(members(model))
        if not chosen:
            raise ConfigError(f"{self} leaves nothing of the model to train; take Everything(), or less away from it")
        for name, parameter in model.named_parameters():
            if name not in chosen:
                parameter.requires_grad_(False)

    def __or__(self, other: Trainable) -> Trainable:
        return Either(sets=(self, other))

    def __and__(self, other: Trainable) -> Trainable:
        return Both(sets=(self, other))

    def __sub__(self, other: Trainable) -> Trainable:
        return Without(of=self, but=other)


class Everything(Trainable):
    """All of it."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        return frozenset(member.name for member in everything)

    def freeze(self, model: nn.Module) -> None:
        """Leaves it as it is."""


class Paths(Trainable):
    """What stands at or below canonical paths: "blocks.3", "blocks.3.mixer", "base.norm.weight", "heads.mood"."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Of modules or parameters."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        found: set[str] = set()
        for path in self.paths:
            below = {member.name for member in everything if within(member.name, path)}
            if not below:
                raise ConfigError(f"Paths.paths={self.paths!r}: the model has nothing to train at {path!r}; {_nearest(path, everything)}")
            found |= below
        return frozenset(found)


class Embeddings(Trainable):
    """All that stands below the first block: the table of tokens (with the head, where that is tied to it), those of places and parts, their
    norm."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        return frozenset(member.name for member in everything if member.height.layer == 0)


class LastLayers(Trainable):
    """The last blocks, and what stands above them: the last norm, and heads that are not tied to the embeddings."""

    count: int = Field(gt=0)
    """Blocks."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        top = max(member.height.top for member in everything)
        if self.count >= top:
            raise self.refuse("count", f"is more than the model's {top - 1} blocks; {top - 1} are the most")
        return frozenset(member.name for member in everything if member.height.layer >= top - self.count)


class Heads(Trainable):
    """The heads: those of tasks, and that of the vocabulary unless it is tied to the embeddings."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        found = frozenset(member.name for member in everything if any(within(member.name, path) for path in HEADS))
        if not found:
            raise ConfigError("Heads(): the model has no head of its own to train, as that of its vocabulary is tied to the embeddings; give "
                              "it heads for tasks, or take LastLayers(count=1)")  # fmt: skip
        return found


class Either(Trainable):
    """What is in any of several sets. Written `a | b`."""

    sets: tuple[Trainable, ...] = Field(min_length=1)
    """The sets."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        return frozenset().union(*(one.names(everything) for one in self.sets))


class Both(Trainable):
    """What is in all of several sets. Written `a & b`."""

    sets: tuple[Trainable, ...] = Field(min_length=1)
    """The sets."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        first, *others = (one.names(everything) for one in self.sets)
        return first.intersection(*others)


class Without(Trainable):
    """What is in one set and not in another. Written `a - b`."""

    of: Trainable
    """The one."""
    but: Trainable
    """The other."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        return self.of.names(everything) - self.but.names(everything)


def within(name: str, path: str) -> bool:
    """Whether a parameter stands at a path or below it."""
    return name == path or name.startswith(f"{path}.")


def _nearest(path: str, everything: Sequence[Member]) -> str:
    """The remedy for a path that leads nowhere."""
    known = {".".join(words[:i]) for member in everything for words in [member.name.split(".")] for i in range(1, len(words) + 1)}
    roots = ", ".join(sorted({name.split(".")[0] for name in known}))
    return did_you_mean(path, sorted(known), f"its parts are {roots}", cutoff=0.5)
