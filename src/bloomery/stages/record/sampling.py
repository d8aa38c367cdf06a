"""Random rows of files of any size, in one pass: those whose ids hash lowest."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bloomery.core.rng import numpy_rng

PERIOD = 4096  # bytes of an id that have weights of their own


def keys_of(ids: pa.ChunkedArray | pa.Array, seed: int) -> np.ndarray:
    """64 bits for each id, as good as random, and the same wherever the id stands: the n lowest are a sample without replacement.

    A multilinear hash, Σ wᵢ·(byteᵢ + 1) mod 2⁶⁴ with weights drawn by the seed, stirred once.
    Source: Lemire and Kaser (2014), arXiv 1202.4961, for the hash; Steele et al. (2014), SplitMix64, for the stirring; departures: the weights
    repeat every 4096 bytes.
    """
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    array = array.cast(pa.string())
    _, offsets, data = array.buffers()
    ends = np.zeros(1, np.int64)
    if len(array):
        ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    content = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.empty(0, np.uint8)
    ends -= ends[0]
    place = np.arange(len(content)) - np.repeat(ends[:-1], np.diff(ends))
    weights = numpy_rng("record", seed).integers(0, 2**64, PERIOD, np.uint64, endpoint=False)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum((content.astype(np.uint64) + np.uint64(1)) * weights[place % PERIOD])])
    return _stirred(sums[ends[1:]] - sums[ends[:-1]] + weights[0])


def _stirred(x: np.ndarray) -> np.ndarray:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
