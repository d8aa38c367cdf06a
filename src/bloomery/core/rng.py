"""Randomness by name: every stream of random numbers is derived from what it is for, never from who asks first.

A seed is a hash of its parts (`derive_seed(7, "dropout", step, sample)`), so that streams do not depend on the order of calls, the rank or
the number of workers.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from a path of names and numbers; the same on every machine."""
    text = "\x1f".join(f"{type(part).__name__[0]}{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def python_rng(*parts: str | int) -> random.Random:
    """A `random.Random` for the stream named by `parts`: quick for single draws."""
    return random.Random(derive_seed(*parts))


def numpy_rng(*parts: str | int) -> np.random.Generator:
    """A NumPy generator (PCG64) for the stream named by `parts`: for arrays and permutations."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))
