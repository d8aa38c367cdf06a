"""Pre-training on text that every machine has: the Python standard library's own sources and docstrings."""

from __future__ import annotations

from bloomery.recipe import Recipe
from bloomery.recipe.pretrain import pretrain
from bloomery.text.readers import Files, StandardLibrary


def stdlib(
    *, source: str = "", name: str = "stdlib", vocab_size: int = 4096, d_model: int = 256, n_layers: int = 4, max_seq_len: int = 256,
    batch_tokens: int = 4096, steps: int = 400, seed: int = 0,
) -> Recipe:
    """Trains on the standard library, or on --source: a file, folder, glob, JSONL, Parquet, or any fsspec path (s3://, hf://)."""
    reader = Files(path=source) if source else StandardLibrary()
    return pretrain(
        name, reader, vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, max_seq_len=max_seq_len, batch_tokens=batch_tokens,
        steps=steps, prompts=() if source else ("def ", "import "), seed=seed,
    )  # fmt: skip
