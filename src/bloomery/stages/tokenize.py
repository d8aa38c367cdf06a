"""`Tokenize`: documents to token shards, one shard per file of documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import DataError
from bloomery.core.units import human_count
from bloomery.data.encodings import Encoding, Plain
from bloomery.data.shards import INDEX, Encoded, ShardCounts, TokenShards, shard_files, write_index, write_shard, written_shard
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenizer import TOKENIZER
from bloomery.store import Artifact, Workspace
from bloomery.text.documents import read_parquet
from bloomery.text.tokenizer import Tokenizer

PREFIX = {"train": "documents-", "held_out": "held_out-"}
ENCODED_BYTES = 2 << 20  # text encoded at once; its words and ids take some twenty times as much memory


class Tokenize(Stage):
    """Encodes a split of a corpus. What it leaves: `TokenShards`, to be opened with `TokenShards.open`.

    Each file of documents becomes one shard, written atomically. The shards are spread over the workers; an interrupted run makes only those
    that are missing. The bytes are the same whatever the workers and the interruptions.

    Example:
        >>> Tokenize(corpus=prepare, tokenizer=tokenizer, split="held_out")
        >>> Tokenize(corpus=conversations, tokenizer=tokenizer, encoding=Chat())
    """

    corpus: Stage
    """The stage that leaves the documents: `Prepare`."""
    tokenizer: Stage
    """The stage that leaves `tokenizer.json`: `TrainTokenizer` or `LoadTokenizer`."""
    split: Literal["train", "held_out"] = "train"
    """Which of the corpus's splits."""
    encoding: Encoding = Plain()
    """`Plain()` for documents, `Chat()` for conversations; `Classes()`, `Tags()`, `Choices()`, `Numbers()`, `Steps()`, `Likeness()` or
    `Matches()` for labelled rows, `Rewrites()` for translations and summaries."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        corpus, path = inputs[self.corpus], inputs[self.tokenizer].checked(TOKENIZER)
        tokenizer, files = Tokenizer.load(path), self._files(corpus)
        written = [written_shard(workspace.path, number) for number in range(len(files))]
        tasks = ((number, corpus.checked(name)) for number, name in enumerate(files) if written[number] is None)
        made = context.executor().map(_Encoder(workspace.path, path, self.encoding), tasks)
        counts: list[ShardCounts] = []
        for number, there in enumerate(written):
            counts.append(there or next(made))
            tokens_file, *beside = shard_files(number, masked=self.encoding.masked)
            workspace.count(tokens_file, tokens=counts[-1].tokens)
            for other in beside:
                workspace.count(other, **asdict(counts[-1]))
            documents, tokens = (human_count(sum(getattr(c, name) for c in counts)) for name in ("documents", "tokens"))
            context.progress(f"{self.reference}: {number + 1} of {len(files)} shards, {documents} documents, {tokens} tokens")
        read = sum(pq.read_metadata(corpus.file(name)).num_rows for name in files)
        total = {name: sum(getattr(c, name) for c in counts) for name in ("documents", "tokens", "bytes", "learnt")}
        if not total["learnt"]:
            raise DataError(f"{self.reference}: there is nothing to learn in {read} documents under {self.encoding.kind()}; {self._remedy()}")
        write_index(workspace.path, counts, vocab_size=tokenizer.vocab_size, pad=tokenizer.pad, masked=self.encoding.masked,
                    head=self.encoding.labels_for)  # fmt: skip
        workspace.count(INDEX, shards=len(counts), documents=total["documents"], tokens=total["tokens"])
        if skipped := max(0, read - total["documents"]):
            context.say(f"{self.reference}: {skipped} of {read} documents {self.encoding.passed_over} and are left out")
        if self.encoding.kept:
            total |= self._told_of_rows(TokenShards(workspace.path), context)
        return total | {"skipped_documents": skipped, "vocab_size": tokenizer.vocab_size, "bytes_per_token": total["bytes"] / total["tokens"]}

    def _told_of_rows(self, shards: TokenShards, context: RunContext) -> dict[str, int]:
        """How many rows lost tokens to the encoding's limits, and of how many nothing is learnt; said, and for the summary."""
        cut, lost = int(shards.cuts.sum()), int(shards.cuts_learnt.sum())
        nothing, longer = int((shards.learnt == 0).sum()), int((shards.cuts > 0).sum())
        what, name = ("to be learnt", "unlearnt") if shards.head is None else ("for the head " + repr(shards.head), "unlabelled")
        lack = "have nothing to be learnt" if shards.head is None else "have no label"
        context.say(f"{self.reference}: {len(shards)} rows {what}; {nothing} {lack}; {longer} were too long and have lost {cut} tokens"
                    + (f", {lost} of them to be learnt" if lost else ""))  # fmt: skip
        return {"cut_documents": longer, "cut_tokens": cut, "cut_learnt": lost, name: nothing}

    def _files(self, corpus: Artifact) -> list[str]:
        """The corpus's files of this split, in order."""
        files = sorted(name for name in corpus.manifest.files if name.startswith(PREFIX[self.split]))
        if not files:
            remedy = "raise its held_out, or take held_out=0 to measure nothing"
            raise DataError(f"{corpus.reference} has no documents in split={self.split!r}; {remedy}")
        return files

    def _remedy(self) -> str:
        if self.encoding.column == "meta":
            return "look at the columns that it names"
        return "use Plain() for documents that are no conversations" if self.encoding.masked else "check the corpus's filters"


@dataclass(frozen=True)
class _Encoder:
    """Makes a shard of a file of documents, wherever the work is done."""

    folder: Path
    tokenizer: Path
    encoding: Encoding

    def __call__(self, task: tuple[int, Path]) -> ShardCounts:
        number, path = task
        tokenizer = _tokenizer(self.tokenizer)
        sequences = self._sequences(path, tokenizer)
        return write_shard(
            self.folder, number, sequences, vocab_size=tokenizer.vocab_size, masked=self.encoding.masked,
            kept=self.encoding.kept,
        )  # fmt: skip

    def _sequences(self, path: Path, tokenizer: Tokenizer) -> Iterator[Encoded]:
        """The sequences of a file's documents, in order."""
        for batch in read_parquet([path], columns=["id", "text", *({self.encoding.column, *self.encoding.beside} - {"text"})]):
            for part in in_parts(batch, ENCODED_BYTES):
                yield from self.encoding.encode(part, tokenizer)


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    """Read once per process; with it stay the words that it has seen."""
    return Tokenizer.load(path)


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
