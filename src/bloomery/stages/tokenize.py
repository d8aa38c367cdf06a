"""`Tokenize`: documents to token shards, one shard per file of documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import DataError
from bloomery.core.units import human_count
from bloomery.data.encodings import Encoding, Plain
from bloomery.data.shards import INDEX, Encoded, ShardCounts, shard_files, write_index, write_shard, written_shard
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenizer import TOKENIZER
from bloomery.store import Artifact, Workspace
from bloomery.text.documents import read_parquet
from bloomery.text.tokenizer import Tokenizer

PREFIX = {"train": "documents-", "held_out": "held_out-"}
ENCODED_BYTES = 8 << 20  # text encoded at once; its ids take some ten times as much memory
SAID_EVERY_S = 10.0


class Tokenize(Stage):
    """Encodes a split of a corpus. What it leaves: `TokenShards`, to be opened with `TokenShards.open`.

    Each file of documents becomes one shard, written atomically; an interrupted run goes on after the last whole shard and leaves the same
    bytes as an uninterrupted one.

    Example:
        >>> Tokenize(corpus=prepare, tokenizer=tokenizer, split="held_out")
        >>> Tokenize(corpus=conversations, tokenizer=tokenizer, encoding=Chat())
    """

    corpus: Stage
    """The stage that leaves the documents: `Prepare`."""
    tokenizer: Stage
    """The stage that leaves `tokenizer.json`: `TrainTokenizer`."""
    split: Literal["train", "held_out"] = "train"
    """Which of the corpus's splits."""
    encoding: Encoding = Plain()
    """`Plain()` for documents, `Chat()` for conversations."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        tokenizer = Tokenizer.load(inputs[self.tokenizer].checked(TOKENIZER))
        files = self._files(inputs[self.corpus])
        progress = Progress(f"{self.reference}: shard {{shard}} of {len(files)}, {{documents}} documents, {{tokens}} tokens", context.say)
        counts: list[ShardCounts] = []
        read = 0
        for number, name in enumerate(files):
            path = inputs[self.corpus].file(name)
            read += pq.read_metadata(path).num_rows
            if (written := written_shard(workspace.path, number)) is None:
                path = inputs[self.corpus].checked(name)
                documents = progress.watch(number + 1, self._encoded(path, tokenizer))
                options = {"vocab_size": tokenizer.vocab_size, "masked": self.encoding.masked}
                written = write_shard(workspace.path, number, documents, **options)
            counts.append(written)
            tokens_file, *beside = shard_files(number, masked=self.encoding.masked)
            workspace.count(tokens_file, tokens=written.tokens)
            for other in beside:
                workspace.count(other, documents=written.documents, tokens=written.tokens, bytes=written.bytes, learnt=written.learnt)
        total = {name: sum(getattr(c, name) for c in counts) for name in ("documents", "tokens", "bytes", "learnt")}
        if not total["learnt"]:
            raise DataError(f"{self.reference}: there is nothing to learn in {read} documents under {self.encoding.kind()}; {self._remedy()}")
        write_index(workspace.path, counts, vocab_size=tokenizer.vocab_size, pad=tokenizer.pad, masked=self.encoding.masked)
        workspace.count(INDEX, shards=len(counts), documents=total["documents"], tokens=total["tokens"])
        if skipped := read - total["documents"]:
            context.say(f"{self.reference}: {skipped} of {read} documents have no {self.encoding.column} and are left out")
        return total | {"skipped_documents": skipped, "vocab_size": tokenizer.vocab_size, "bytes_per_token": total["bytes"] / total["tokens"]}

    def _files(self, corpus: Artifact) -> list[str]:
        """The corpus's files of this split, in order."""
        files = sorted(name for name in corpus.manifest.files if name.startswith(PREFIX[self.split]))
        if not files:
            remedy = "raise its held_out, or take held_out=0 to measure nothing"
            raise DataError(f"{corpus.reference} has no documents in split={self.split!r}; {remedy}")
        return files

    def _encoded(self, path: Path, tokenizer: Tokenizer) -> Iterator[Encoded]:
        """The sequences of a file's documents, in order."""
        for batch in read_parquet([path], columns=["id", "text", *({self.encoding.column} - {"text"})]):
            for part in in_parts(batch, ENCODED_BYTES):
                yield from self.encoding.encode(part, tokenizer)

    def _remedy(self) -> str:
        return "use Plain() for documents that are no conversations" if self.encoding.masked else "check the corpus's filters"


class Progress:
    """Says how far the encoding is, now and then.

    Args:
        line: with places for {shard}, {documents} and {tokens}.
        say: who is told.
    """

    def __init__(self, line: str, say: Callable[[str], None]) -> None:
        self.line, self.say = line, say
        self.documents = self.tokens = 0
        self._said = self._started = time.monotonic()

    def watch(self, shard: int, documents: Iterator[Encoded]) -> Iterator[Encoded]:
        """The documents of a shard, counted as they pass."""
        for document in documents:
            yield document
            self.documents += 1
            self.tokens += len(document.tokens)
            if (now := time.monotonic()) - self._said >= SAID_EVERY_S:
                self._said = now
                speed = human_count(self.tokens / (now - self._started))
                counts = {"documents": human_count(self.documents), "tokens": human_count(self.tokens)}
                self.say(f"{self.line.format(shard=shard, **counts)} ({speed} tokens/s)")


def in_parts(batch: pa.RecordBatch, text_bytes: int) -> Iterator[pa.RecordBatch]:
    """A batch in slices of about so much text, at least one document each."""
    sizes = pc.binary_length(batch.column("text")).to_pylist()
    begin = size = 0
    for i, n in enumerate(sizes):
        if size and size + n > text_bytes:
            yield batch.slice(begin, i - begin)
            begin, size = i, 0
        size += n
    if begin < len(sizes):
        yield batch.slice(begin)
