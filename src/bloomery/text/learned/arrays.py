"""How what was learnt is written: plain arrays, that nothing has to be unpickled for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloomery.store.files import atomic_file


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as .npy, atomically."""
    with atomic_file(path) as file:
        np.save(file, np.asarray(array), allow_pickle=False)
