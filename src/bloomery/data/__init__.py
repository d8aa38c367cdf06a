"""From token shards to batches: packing, mixtures, and the resumable source in global order."""

from bloomery.data.batch import Batch
from bloomery.data.mixing import Corpus, Curriculum, Given, Mixed, Mixing, Proportions, Ratio, Stretch, Temperature, UniMax
from bloomery.data.mixture import Mixture
from bloomery.data.packing import Cut, Fit, Packing
from bloomery.data.shards import Encoded, TokenShards, write_index, write_shard
from bloomery.data.source import Cursor, Packed, Source, Span, Supply

__all__ = [
    "Batch", "Corpus", "Curriculum", "Cursor", "Cut", "Encoded", "Fit", "Given", "Mixed", "Mixing", "Mixture", "Packed", "Packing",
    "Proportions", "Ratio", "Source", "Span", "Stretch", "Supply", "Temperature", "TokenShards", "UniMax", "write_index", "write_shard",
]  # fmt: skip
