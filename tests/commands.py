"""The command line in processes of their own, forked from one that has torch in it already: importing it anew takes seconds each time."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mesh.ranks import CONTEXT

ROOT = Path(__file__).parents[1]


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def bloomery(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> Done:
    """Runs `bloomery` with some arguments in a folder; it does not outlive the call."""
    with tempfile.TemporaryDirectory() as folder:
        process = CONTEXT.Process(target=_run, args=(folder, str(cwd), dict(environment), arguments))
        process.start()
        try:
            process.join()
        finally:
            process.kill()
            process.join()
        told = [(Path(folder) / name).read_text(errors="replace") if (Path(folder) / name).exists() else "" for name in ("out", "err")]
        assert process.exitcode is not None
        return Done(process.exitcode, *told)


def _run(folder: str, cwd: str, environment: dict[str, str], arguments: Sequence[str]) -> None:
    sys.stdout.flush(), sys.stderr.flush()
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv, sys.path[:0] = ["bloomery", *arguments], [cwd]
    if "OMP_NUM_THREADS" in environment:  # which torch has read long ago
        import torch

        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    from bloomery.cli.main import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
