"""From token shards to batches: packing, mixtures, and the resumable source in global order."""
