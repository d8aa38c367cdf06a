"""Models that filters learn from prepared documents: counts of word sequences, classifiers, embeddings; numpy and Arrow, no torch."""
