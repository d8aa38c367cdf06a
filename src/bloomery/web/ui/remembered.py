"""`Remembered`: a store that is asked often what it holds."""

from __future__ import annotations

from pathlib import Path

from bloomery.store import Artifact, Store
from bloomery.store.artifact import MANIFEST


class Remembered(Store):
    """A store whose manifests are read once each: an artifact never changes, and one of the same name that was made anew has another file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._known: dict[str, tuple[tuple[int, int], Artifact]] = {}

    def artifacts(self) -> list[Artifact]:
        known: dict[str, tuple[tuple[int, int], Artifact]] = {}
        for path in self.root.glob(f"*/*/{MANIFEST}"):
            try:
                state = path.stat()
            except OSError:  # it was deleted meanwhile
                continue
            mark, before = (state.st_ino, state.st_mtime_ns), self._known.get(str(path))
            known[str(path)] = before if before is not None and before[0] == mark else (mark, Artifact.open(path.parent))
        self._known = known
        return sorted((artifact for _, artifact in known.values()), key=lambda artifact: artifact.manifest.made["started"])
