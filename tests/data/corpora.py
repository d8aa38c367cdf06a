"""Small corpora with tokens that tell where they came from, for the tests of data/."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from bloomery.data.shards import Encoded, TokenShards, write_index, write_shard

PAD = 5
VOCAB = 70_000  # above 65536, so that ids can number every token of a test corpus


def make_shards(folder: Path, lengths: list[int], *, per_shard: int = 4, masked: bool = False, vocab_size: int = VOCAB) -> TokenShards:
    """Shards whose tokens count up from 10 through the whole corpus, so that each token names its document and place.

    Masks are a fixed irregular pattern of zeros and ones.
    """
    ids = np.arange(10, 10 + sum(lengths))
    starts = np.cumsum([0, *lengths])
    mask = (ids * 7919 % 5 < 3).astype(np.uint8)
    spans = [slice(a, b) for a, b in itertools.pairwise(starts)]
    documents = [Encoded(f"doc-{i}", ids[s], 3 * len(ids[s]) + i, mask[s] if masked else None) for i, s in enumerate(spans)]
    shards = [documents[i : i + per_shard] for i in range(0, len(documents), per_shard)] or [[]]
    folder.mkdir(parents=True, exist_ok=True)
    counts = [write_shard(folder, number, shard, vocab_size=vocab_size, masked=masked) for number, shard in enumerate(shards)]
    write_index(folder, counts, vocab_size=vocab_size, pad=PAD, masked=masked)
    return TokenShards(folder)
