"""`Store`: where artifacts live, and the lease under which one is made.

    store/<stage>/<name>-<key>/            a finished artifact: its manifest exists
    store/<stage>/<name>-<key>.partial/    work in progress; what is in it is resumed, never thrown away
    store/<stage>/<name>-<key>.lease       locked by the process that works; the lock dies with the process, also by kill -9
    store/<stage>/<name>-<key>.stop        somebody asks that process to save and to end, so that it can be gone on with
    store/<stage>/<name>-<key>.failed      why the last attempt to make it ended with an error; gone when the next one begins
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bloomery import __version__
from bloomery.core.errors import ArtifactError
from bloomery.store.artifact import MANIFEST, Artifact, FileRecord, Manifest
from bloomery.store.files import TEMPORARY, os_errors, sha256_of, sync_folder, write_json, write_text

PARTIAL = ".partial"
LEASE = ".lease"
STOP = ".stop"
FAILED = ".failed"
TOLD_CHARS = 4000  # of an error


class Store:
    """A folder of artifacts, addressed by `<stage>/<name>-<key>`. Several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, reference: str) -> Path:
        """Where the artifact is, or would be."""
        return self.root / reference

    def find(self, reference: str) -> Artifact | None:
        """The finished artifact, or None."""
        path = self.path(reference)
        return Artifact.open(path) if (path / MANIFEST).exists() else None

    def open(self, reference: str) -> Artifact:
        """The finished artifact; raises `ArtifactError` where there is none."""
        return Artifact.open(self.path(reference))

    def has_partial(self, reference: str) -> bool:
        """Whether unfinished work for it is there."""
        return self.path(reference + PARTIAL).exists()

    def siblings(self, stage: str, name: str) -> list[Artifact]:
        """All finished artifacts of a stage with this name, newest first."""
        found = [Artifact.open(m.parent) for m in (self.root / stage).glob(f"{name}-*/{MANIFEST}")]
        return sorted((a for a in found if a.manifest.name == name), key=lambda a: a.manifest.made["started"], reverse=True)

    def artifacts(self) -> list[Artifact]:
        """Everything finished in the store, oldest first."""
        return sorted((Artifact.open(m.parent) for m in self.root.glob(f"*/*/{MANIFEST}")), key=lambda a: a.manifest.made["started"])

    def fail(self, reference: str, why: str) -> None:
        """Keeps why the artifact could not be made. Only for the holder of the lease."""
        with contextlib.suppress(OSError):  # the disk may be what failed
            write_text(self.path(reference + FAILED), why[:TOLD_CHARS])

    def failure(self, reference: str) -> str:
        """Why the last attempt to make the artifact ended with an error; empty where it did not."""
        try:
            return self.path(reference + FAILED).read_text(errors="replace")
        except OSError:
            return ""

    @contextlib.contextmanager
    def lease(self, reference: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Holds the right to make the artifact; calls `on_wait` once if another process holds it, then waits.

        The lock is the operating system's (`flock`), so it cannot outlive its holder.
        """
        path = self.path(reference + LEASE)
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def workspace(self, reference: str) -> Workspace:
        """The partial folder for an artifact, made if it isn't there. Only for the holder of the lease."""
        path = self.path(reference + PARTIAL)
        with os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            self.path(reference + FAILED).unlink(missing_ok=True)
        return Workspace(path, self.path(reference))


def find_artifact(store: Store, text: str) -> Artifact:
    """The artifact that `text` names: a reference, or the unambiguous beginning of one ("Train/chat", "chat-3f").

    Raises:
        ArtifactError: none fits, or several do.
    """
    known = {artifact.reference: artifact for artifact in store.artifacts()}
    if text in known:
        return known[text]
    fitting = [reference for reference in known if reference.startswith(text) or reference.split("/")[1].startswith(text)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise ArtifactError(f"{text!r} fits {len(fitting)} artifacts: {', '.join(fitting)}; write more of one")
    raise ArtifactError(f"{store.root} holds no artifact {text!r}; `bloomery show` lists what it holds")


class Workspace:
    """The `.partial` folder in which a stage works. `finish` turns it into the artifact."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self._counts: dict[str, dict[str, int]] = {}
        self._started = time.time()

    @property
    def seconds(self) -> float:
        """How long this process has been working here."""
        return time.time() - self._started

    def count(self, relative: str, **counts: int) -> None:
        """Records how much is in a file (`rows=…`, `tokens=…`), for the manifest."""
        self._counts[relative] = counts

    def leave(self) -> None:
        """Gives up for now: a folder with work in it stays to be gone on with, an empty one is removed."""
        with contextlib.suppress(OSError):  # it is not empty, or the disk is read-only
            self.path.rmdir()

    def finish(self, *, stage: str, name: str, key: str, fields: dict[str, Any], inputs: dict[str, str], summary: dict[str, Any]) -> Artifact:
        """Checksums every file, writes the manifest last, and renames the folder to its final place."""
        with os_errors(self._target):
            for leftover in self.path.rglob(f"*{TEMPORARY}"):
                leftover.unlink()
            files = {}
            for path in sorted(p for p in self.path.rglob("*") if p.is_file() and p.name != MANIFEST):
                relative = path.relative_to(self.path).as_posix()
                files[relative] = FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path), counts=self._counts.get(relative, {}))
            made = {"bloomery": __version__, "started": self._started, "seconds": round(self.seconds, 3)}
            manifest = Manifest(stage=stage, name=name, key=key, fields=fields, inputs=inputs, files=files, summary=summary, made=made)
            write_json(self.path / MANIFEST, manifest.to_plain())
            if self._target.exists():
                raise ArtifactError(f"{self._target} exists without a manifest; delete it and run again")
            os.rename(self.path, self._target)
            sync_folder(self._target.parent)
        return Artifact.open(self._target)
