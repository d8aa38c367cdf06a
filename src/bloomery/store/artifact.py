"""`Artifact`: an immutable folder whose manifest, written last, says that it is whole and what is in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import ArtifactError
from bloomery.store.files import read_json, sha256_of

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of an artifact: its length in bytes, its SHA-256 and what else is counted in it (rows, tokens)."""

    bytes: int
    sha256: str
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is, what it was made from, and what it holds.

    Attributes:
        stage: the kind of the stage that made it.
        name: the stage's name in the recipe.
        key: the content key, a function of everything above it.
        fields: the stage's non-default fields as plain data; inputs stand as {"stage", "name", "key"}.
        inputs: field path → "<stage>/<name>-<key>" of each input artifact.
        files: relative path → record, for every file but the manifest itself.
        summary: figures of the result, for reports; never read to decide anything.
        made: version of Bloomery, start and duration in seconds.
    """

    stage: str
    name: str
    key: str
    fields: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, FileRecord]
    summary: dict[str, Any]
    made: dict[str, Any]

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Manifest:
        return cls(**(plain | {"files": {path: FileRecord(**record) for path, record in plain["files"].items()}}))


@dataclass(frozen=True)
class Artifact:
    """A finished folder in the store. Never changed after it exists; whatever reads it may trust its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Opens a finished artifact.

        Raises:
            ArtifactError: there is no readable manifest: the folder is not, or no longer, a whole artifact.
        """
        if not (path / MANIFEST).exists():
            raise ArtifactError(f"{path} has no {MANIFEST}, so it is not a finished artifact; run the recipe that makes it")
        try:
            return cls(path, Manifest.from_plain(read_json(path / MANIFEST)))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{path / MANIFEST} does not read as a manifest ({error}); delete the folder and run again") from None

    @property
    def reference(self) -> str:
        """`<stage>/<name>-<key>`: the artifact's address within the store."""
        return f"{self.path.parent.name}/{self.path.name}"

    def file(self, relative: str) -> Path:
        """The path of one of its files, checked to be there at its full length."""
        record = self.manifest.files.get(relative)
        path = self.path / relative
        if record is None:
            raise ArtifactError(f"{self.reference} holds no file {relative!r}; it holds {', '.join(sorted(self.manifest.files)[:8])}")
        if not path.exists() or path.stat().st_size != record.bytes:
            raise self._damaged(relative, "is missing or has another length")
        return path

    def checked(self, relative: str) -> Path:
        """The path of one of its files, after its checksum has been compared.

        Raises:
            ArtifactError: the bytes are not the ones that were written.
        """
        path = self.file(relative)
        if sha256_of(path) != self.manifest.files[relative].sha256:
            raise self._damaged(relative, "does not have the checksum in its manifest")
        return path

    def verify(self, *beginnings: str) -> None:
        """Compares files with the manifest: those whose names begin so, or all if nothing is said."""
        for relative in self.manifest.files:
            if relative.startswith(beginnings or ""):
                self.checked(relative)

    def _damaged(self, relative: str, what: str) -> ArtifactError:
        return ArtifactError(f"{self.path / relative} {what}; delete the folder {self.path} and run again to rebuild it")
