"""The parts that models are built of: layout, norms, positions, mixers, feed-forwards, caches."""
