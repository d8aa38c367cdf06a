"""Disks of our own: file systems mounted in a private mount namespace, which only the commands run in it see."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


class Namespace:
    """A private mount namespace, kept alive by a sleeping process; used as a context manager.

    Root makes it alone; others need a user namespace around it. Where neither is permitted, the test is skipped.
    """

    def __enter__(self) -> Namespace:
        self._options = [] if os.geteuid() == 0 else ["--map-root-user"]
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            pytest.skip("unshare and nsenter (util-linux) are not here, so nothing can be mounted privately")
        command = ["unshare", "--mount", *self._options, "sh", "-c", "echo ready; exec sleep 600"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._holder.stdout.readline() != "ready\n":
            pytest.skip(f"a private mount namespace is not permitted here: {self._holder.communicate()[1].strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()

    def inside(self, *command: str) -> list[str]:
        """The command that runs `command` in the namespace; its paths must be absolute."""
        users = ["--user", "--preserve-credentials"] if self._options else []
        return ["nsenter", "--target", str(self._holder.pid), *users, "--mount", *command]

    def do(self, *command: str) -> str:
        """Runs a command in the namespace, which must succeed; what it prints."""
        done = subprocess.run(self.inside(*command), capture_output=True, text=True)
        if done.returncode and command[0] == "mount":
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def small_disk(self, folder: Path, size: int) -> None:
        """Puts an empty disk of `size` bytes at `folder`."""
        folder.mkdir(exist_ok=True)
        self.do("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder))

    def resize(self, folder: Path, size: int) -> None:
        """Gives a small disk another size."""
        self.do("mount", "-o", f"remount,size={size}", str(folder))

    def used(self, folder: Path) -> int:
        """Bytes taken on a small disk."""
        return int(self.do("df", "--block-size=1", "--output=used", str(folder)).split()[-1])

    def read_only(self, folder: Path) -> None:
        """Makes a folder read-only, to root as well."""
        self.do("mount", "--bind", str(folder), str(folder))
        self.do("mount", "-o", "remount,bind,ro", str(folder))

    def copy(self, source: Path, target: Path) -> None:
        """Copies a folder in the namespace: in or out."""
        self.do("cp", "-a", f"{source}/.", str(target))
