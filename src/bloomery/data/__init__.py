"""From token shards to batches: packing, mixtures, and the resumable source in global order."""

from bloomery.data.batch import Batch, Labels, Samples
from bloomery.data.mixing import Corpus, Curriculum, Given, Mixed, Mixing, Proportions, Ratio, Stretch, Temperature, UniMax
from bloomery.data.mixture import Mixture
from bloomery.data.packing import Cut, Each, Fit, Packing
from bloomery.data.shards import Encoded, TokenShards, write_index, write_shard
from bloomery.data.source import Cursor, Packed, Rows, Source, Span, Supply
from bloomery.data.tasks import (
    BothWays,
    Compared,
    FromPassage,
    FromPrefix,
    MaskedTokens,
    NextToken,
    Ordered,
    Posed,
    PrefixLM,
    RowTask,
    SentenceOrder,
    SpanCorruption,
    TellLabels,
    Unpaired,
    Vocabulary,
)

__all__ = [
    "Batch", "BothWays", "Compared", "Corpus", "Curriculum", "Cursor", "Cut", "Each", "Encoded", "Fit", "FromPassage", "FromPrefix",
    "Given", "Labels", "MaskedTokens", "Mixed", "Mixing", "Mixture", "NextToken", "Ordered", "Packed", "Packing", "Posed", "PrefixLM",
    "Proportions", "Ratio", "RowTask", "Rows", "Samples", "SentenceOrder", "Source", "Span", "SpanCorruption", "Stretch", "Supply",
    "TellLabels", "Temperature", "TokenShards", "UniMax", "Unpaired", "Vocabulary", "write_index", "write_shard",
]  # fmt: skip
