"""What speaks HTTP: a model behind an OpenAI-compatible endpoint."""
