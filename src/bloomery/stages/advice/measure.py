"""`measure`: what there is to know of some data beside a model, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bloomery.core.errors import ConfigError, DataError
from bloomery.evals.likelihood import told_tokens
from bloomery.mesh import ALONE
from bloomery.models import AdaptedConfig, Model, load_hub
from bloomery.nn.adapters import LoRA
from bloomery.optim import AdamW
from bloomery.stages.anatomy import Planned
from bloomery.stages.planner import NOTHING_AGAIN, here, outlook_of
from bloomery.store import Store, read_json
from bloomery.store.artifact import MANIFEST
from bloomery.text.chat import ChatTemplate
from bloomery.text.filters.duplicates import digest
from bloomery.text.readers import Reader
from bloomery.text.tokenizer import Tokenizer
from bloomery.text.tokenizer.loading import load_foreign

RANK = 16  # of the adapter that is thought of
SAMPLED_TOKENS = 32_768  # that the model reads to be measured
ROWS = 8  # per forward pass


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured.

    Attributes:
        rows: documents or conversations.
        conversations: how many of them are conversations.
        turns: answers in a conversation, in the mean; 0 where there are none.
        tokens: of all rows in the model's vocabulary.
        learnt: those of them that would be learnt.
        median, p99, longest: tokens of a row.
        cut: share of the rows that are longer than the model reads.
        duplicates: share of the rows that repeat an earlier one.
        answers: different answers; 0 where there are no conversations.
        characters_per_token: of the texts.
        unknown: share of the tokens that are single bytes or stand for what the vocabulary cannot spell.
        bits_per_byte: of the model as it is, on what would be learnt.
        bits: to be learnt at most: what the model as it is would need to write it down.
        params, adapter_params: of the model, and of a LoRA of rank 16 on all its matrices.
        max_seq_len: that the model reads.
        template: whether the model's folder brings a chat template.
        seen: tokens that it was trained on; None where nobody knows.
        rate: the highest rate of its pre-training; None where nobody knows.
        bytes_full, bytes_adapter: of tensors that a training of all weights, and of the adapter, would have at a time, with a row at a time.
        memory: bytes that this machine has.
    """

    rows: int
    conversations: int
    turns: float
    tokens: int
    learnt: int
    median: int
    p99: int
    longest: int
    cut: float
    duplicates: float
    answers: int
    characters_per_token: float
    unknown: float
    bits_per_byte: float
    bits: float
    params: int
    adapter_params: int
    max_seq_len: int
    template: bool
    seen: float | None
    rate: float | None
    bytes_full: float
    bytes_adapter: float
    memory: float

    @property
    def time(self) -> int:
        """Tokens in a row that hold 99 of 100 of the rows, in steps of 64, as far as the model reads."""
        return row_length(self.p99, self.max_seq_len)


def row_length(p99: int, most: int) -> int:
    """Tokens in a row that hold 99 of 100 of the rows, in steps of 64, as far as the model reads."""
    return min(most, 64 * -(-p99 // 64))


def measure(reader: Reader, folder: Path, seen: float | None = None, rate: float | None = None) -> Measured:
    """Measures data and model.

    Args:
        reader: the data.
        folder: a model as the hub has it: config.json, *.safetensors and a tokenizer. One that `Export` has left also says what it has seen.
        seen: tokens that the model was trained on, where that is known otherwise.
        rate: the highest learning rate of its pre-training, likewise.

    Raises:
        DataError: there is nothing to read, or no model.
    """
    if not (folder / "config.json").exists():
        raise ConfigError(f"{folder} holds no model as the hub has it (config.json, *.safetensors, a tokenizer); give such a folder, or what "
                          "an Export stage has left")  # fmt: skip
    tokenizer, (config, model) = load_foreign(folder).tokenizer, load_hub(folder)
    rows = [row for batch in reader.batches() for row in batch.select(["text", "messages"]).to_pylist()]
    if not rows:
        raise DataError(f"{reader} holds no rows to advise on; give a source with text in it")
    talks, texts = [row["messages"] for row in rows if row["messages"]], [row["text"] for row in rows]
    if tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(f"{folder} knows {config.vocab_size} ids, and its tokenizer with our control tokens has {tokenizer.vocab_size}; take "
                          "a model whose table has room for them, as padded ones have")  # fmt: skip
    if len(talks) == len(rows):
        encoded = [(np.array(ids), np.array(mask)) for ids, mask in ChatTemplate().render_batch(talks, tokenizer)]
    else:
        encoded = [(ids, np.arange(len(ids)) > 0) for ids in tokenizer.encode_documents(texts)]
    lengths = np.array([len(ids) for ids, _ in encoded])
    plain = np.concatenate(tokenizer.encode_arrays(texts)) if texts else np.zeros(0, int)
    learnt = int(sum(mask.sum() for _, mask in encoded))
    nats, sampled, size = surprise(model.eval(), encoded, tokenizer)
    history = _history(folder)
    p99, machine = int(np.quantile(lengths, 0.99)), here()
    time = row_length(p99, config.max_seq_len)
    adapted = AdaptedConfig(base=config, adapter=LoRA(rank=RANK, alpha=2.0 * RANK))
    needs = {
        name: outlook_of(Planned(config=learner, time=time, guarded=True), machine, 1, ALONE.layout, 1, NOTHING_AGAIN).memory.total
        for name, learner in (("full", config), ("adapter", adapted))
    }
    return Measured(
        rows=len(rows), conversations=len(talks), turns=sum(m["role"] == "assistant" for t in talks for m in t) / max(1, len(talks)),
        tokens=int(lengths.sum()), learnt=learnt, median=int(np.median(lengths)), p99=p99,
        longest=int(lengths.max()),
        cut=float((lengths > config.max_seq_len).mean()),
        duplicates=1 - len({digest(text) for text in pa.array(texts, pa.string())}) / len(texts),
        answers=len({m["content"].strip() for talk in talks for m in talk if m["role"] == "assistant"}),
        characters_per_token=sum(map(len, texts)) / max(1, len(plain)), unknown=_unknown(plain, tokenizer),
        bits_per_byte=nats / math.log(2) / max(1, size), bits=nats / math.log(2) / max(1, sampled) * learnt, params=config.n_params,
        adapter_params=adapted.n_params, max_seq_len=config.max_seq_len, template=_template(folder), seen=seen or history.get("tokens"),
        rate=rate or history.get("rate"), bytes_full=needs["full"], bytes_adapter=needs["adapter"],
        memory=machine.memory,
    )  # fmt: skip


def surprise(model: Model, encoded: Sequence[tuple[np.ndarray, np.ndarray]], tokenizer: Tokenizer) -> tuple[float, int, int]:
    """Nats that a model needs for what is learnt in a sample of rows, and the tokens and bytes of that.

    Args:
        model: as it is.
        encoded: ids and mask of each row.
        tokenizer: that encoded them.
    """
    nats, tokens, size = 0.0, 0, 0
    sample = encoded[:: max(1, len(encoded) * 128 // SAMPLED_TOKENS)]  # rows from all over
    for start in range(0, len(sample), ROWS):
        told = told_tokens(model, sample[start : start + ROWS])
        nats -= float(told.logprobs.sum())
        tokens, size = tokens + len(told.tokens), size + int(tokenizer.byte_lengths[told.tokens.numpy()].sum())
        if tokens >= SAMPLED_TOKENS:
            break
    return nats, tokens, size


def _unknown(ids: np.ndarray, tokenizer: Tokenizer) -> float:
    """The share of tokens that are parts of a character: the vocabulary has none for what they spell."""
    broken = np.array([_is_part(piece) for piece in tokenizer.token_bytes])
    return float(broken[ids].mean()) if len(ids) else 0.0


def _is_part(piece: bytes) -> bool:
    return bool(piece) and piece.decode(errors="ignore") == ""


def _template(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").exists() or (config.exists() and "chat_template" in read_json(config))


def _history(folder: Path) -> dict[str, float]:
    """Tokens and highest rate of the trainings behind what `Export` has left, as far as the store still has them."""
    found: dict[str, float] = {}
    if not (folder / MANIFEST).exists():
        return found
    store, reference = Store(folder.parent.parent), read_json(folder / MANIFEST)["inputs"].get("model")
    while reference and (artifact := store.find(reference)) is not None:
        fields, inputs = artifact.manifest.fields, artifact.manifest.inputs
        steps = fields.get("steps") or fields.get("tokens", 0) / max(1, fields.get("batch_tokens", 1))
        found["tokens"] = found.get("tokens", 0.0) + steps * fields.get("batch_tokens", 0)
        found["rate"] = fields.get("optimizer", {}).get("learning_rate", AdamW().learning_rate)
        reference = inputs.get("init.base") or inputs.get("base")
    return found
