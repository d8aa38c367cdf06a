"""A small model of random weights that is asked, and what it says by itself."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bloomery.evals import Respondent
from bloomery.models import LlamaConfig, write_model
from bloomery.nn import FanInInit, SequenceLayout
from bloomery.store import Artifact, Store
from bloomery.text.readers import Files, Rows
from bloomery.text.tokenizer import Characters, Tokenizer

TOKENIZER = Tokenizer.train(["abcdefghijklmnopqrstuvwxyz ABCDEQS.!?,;:-+*/=#\n{}[]<>\"0123456789é"], vocab_size=280, model=Characters())
CONFIG = LlamaConfig(
    vocab_size=TOKENIZER.vocab_size, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=96, tie_embeddings=False,
    init=FanInInit(gain=1.5, embedding=1.0),
)  # fmt: skip
MODEL, OTHER = CONFIG.build(11).eval(), CONFIG.build(12).eval()
SMALL, BESIDE = Respondent("small", MODEL, TOKENIZER), Respondent("beside", OTHER, TOKENIZER)


def told(before: list[int], after: list[int], model=MODEL) -> float:
    """log p of what follows, by the model itself, in one row."""
    ids = torch.tensor([[*before, *after]])
    with torch.no_grad():
        logprobs = model(ids, SequenceLayout.rows(*ids.shape))[0].double().log_softmax(-1)
    return sum(float(logprobs[len(before) + i - 1, token]) for i, token in enumerate(after))


def told_text(context: str, continuation: str, model=MODEL) -> float:
    """The same of texts, of which the first one is begun as documents are."""
    return told([TOKENIZER.begin, *TOKENIZER.encode(context)], TOKENIZER.encode(continuation), model)


def table(path: Path, rows: list[dict]) -> Files:
    """Rows in a file, as a task reads them."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Files(path=str(path), rows=Rows(form="columns"))


def left(folder: Path, name: str, model=MODEL, config=CONFIG) -> Artifact:
    """An artifact that holds a model, as trainings leave it."""
    workspace = Store(folder).workspace(f"Train/{name}-0123456789ab")
    write_model(workspace.path / "model", config, model)
    TOKENIZER.save(workspace.path / "tokenizer" / "tokenizer.json")
    return workspace.finish(stage="Train", name=name, key="0123456789ab", fields={}, inputs={}, summary={})
