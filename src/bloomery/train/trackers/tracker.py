"""`Tracker`: takes the figures of a run to where people look at them; and `Trackers`, all of a run, none of which can stop it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a tracker is told of the run before its first figure.

    Attributes:
        run: the artifact's reference, by which a tracker knows the run again when it goes on.
        folder: the run's own, for trackers that write files.
        step: the last step that earlier sessions did and that stands; None where the run begins.
        settings: the fields that decide the run, on one level.
    """

    run: str
    folder: Path
    step: int | None = None
    settings: Mapping[str, Any]


class Tracker(ABC):
    """An open connection to a place where figures are looked at. Subclasses are opened by a `Session`.

    Raises:
        ConfigError: when it is opened without the package that it needs.
    """

    extra: ClassVar[str | None] = None
    """The extra of ours that brings its package; None where nothing more is needed."""

    @abstractmethod
    def __init__(self, session: Session) -> None:
        """Opens it."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points at a step."""

    @abstractmethod
    def close(self) -> None:
        """Hands over what is still held back."""

    @classmethod
    def package(cls) -> Any:
        """The package that it stands on, imported now; None where there is none to ask for."""
        return None

    @classmethod
    def missing(cls) -> ConfigError:
        """The error where its package is not installed."""
        return ConfigError(f"the tracker {cls.__name__} needs another package; pip install 'bloomery[{cls.extra}]'")


class Trackers(Tracker):
    """The trackers of a run as one. The first failure of each is said, and the run goes on without it.

    Args:
        kinds: what to open.
        session: the run.
        say: is told of failures, in a line each.

    Raises:
        ConfigError: a package is missing, which is mended before a run and not during it.
    """

    def __init__(self, kinds: Iterable[type[Tracker]], session: Session, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: list[Tracker] = []
        for kind in kinds:
            try:
                self._open.append(kind(session))
            except ConfigError:
                raise
            except Exception as error:
                self._told(kind, error)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.write(step, values))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())
        self._open = []

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for tracker in list(self._open):
            try:
                do(tracker)
            except Exception as error:
                self._open.remove(tracker)
                self._told(type(tracker), error)

    def _told(self, kind: type[Tracker], error: Exception) -> None:
        self._say(f"the tracker {kind.__name__} failed, and the run goes on without it: {type(error).__name__}: {error}")
