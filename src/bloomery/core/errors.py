"""Every error that a user can cause, and how it is worded.

    BloomeryError
    ├── ConfigError      a field, or a pair of fields, that cannot be        (exit code 2)
    ├── DataError        a document, file or row that cannot be read         (exit code 3)
    ├── ArtifactError    something in the store is missing, torn or changed  (exit code 4)
    ├── NumericsError    a value that is no longer a number                  (exit code 5)
    ├── ResourceError    disk, memory, permission, time                      (exit code 6)
    └── StoppedError     the run was asked to end, and can be gone on with   (exit code 75, "try again later" by sysexits.h)

A message is one sentence that names the thing, its value, the rule, and the nearest remedy after a semicolon or full stop:
"LlamaConfig.n_heads=10 does not divide d_model=384; 8 or 12 would". The command line prints it alone, with no traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BloomeryError(Exception):
    """Base of all errors that are told to the user as one sentence. `exit_code` is what the command line leaves with."""

    exit_code = 1


class ConfigError(BloomeryError):
    """A configuration that cannot be: an unknown field, a wrong type, two fields that contradict each other."""

    exit_code = 2


class DataError(BloomeryError):
    """A source document that cannot be read as what it claims to be."""

    exit_code = 3


class ArtifactError(BloomeryError):
    """An artifact that is missing, incomplete, or not what its manifest says."""

    exit_code = 4


class NumericsError(BloomeryError):
    """Training met a value that is not finite."""

    exit_code = 5


class ResourceError(BloomeryError):
    """The machine would not give what was needed: disk space, a writable folder, memory."""

    exit_code = 6


class StoppedError(BloomeryError):
    """A run that was asked to end (SIGTERM) has saved itself; no fault, but it is not done either."""

    exit_code = 75


def did_you_mean(name: str, known: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """The remedy for a name that is not there: the one that is like it, or else what is told.

    Args:
        name: that was given.
        known: those that there are.
        otherwise: where none is like it.
        cutoff: how like it must be, from 0 to 1.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else otherwise
