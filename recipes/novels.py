"""Pre-training on books: a folder of plain-text files, one book each."""

from __future__ import annotations

from bloomery.recipe import Recipe
from bloomery.recipe.pretrain import pretrain
from bloomery.text.readers import Files


def novels(
    *, source: str, encoding: str = "utf-8", vocab_size: int = 8192, d_model: int = 384, n_layers: int = 6, max_seq_len: int = 256,
    batch_tokens: int = 4096, steps: int = 2000, seed: int = 0,
) -> Recipe:
    """Trains on the .txt files below --source; books are set aside whole for measuring."""
    reader = Files(path=source, include=("*.txt",), encoding=encoding)
    return pretrain(
        "novels", reader, vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, max_seq_len=max_seq_len, batch_tokens=batch_tokens,
        steps=steps, held_out=0.05, prompts=("It was a dark", "She looked at"), seed=seed,
    )  # fmt: skip
