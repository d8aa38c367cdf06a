"""Token shards: documents laid end to end as flat files that are mapped, not read; who each token belongs to is kept beside them.

    shards.json             what the ids mean, and how many shards there are; written last
    tokens-00000.bin        the token ids, uint16 or uint32, little-endian
    mask-00000.bin          for conversations: one byte per token, 1 where the model is to learn it; for labelled rows, where a label stands
    documents-00000.arrow   id, tokens and bytes of each document, in the order of the tokens, its labels, and what was cut; written last
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Integer, UInt8

from bloomery.core.errors import ArtifactError, DataError
from bloomery.store import Artifact, read_json, write_json
from bloomery.store.files import atomic_file

INDEX = "shards.json"
SCHEMA = pa.schema([("id", pa.string()), ("tokens", pa.int64()), ("bytes", pa.int64()), ("learnt", pa.int64())])
BESIDE = {"labels": pa.list_(pa.float32()), "cut": pa.int64(), "cut_learnt": pa.int64()}
"""What else a table may have."""


class Encoded(NamedTuple):
    """One document as token ids.

    Attributes:
        id: the document's id, by which `bloomery trace` names it.
        tokens: (time,) integer ids.
        bytes: length in UTF-8 bytes of the text that the tokens stand for.
        mask: (time,) of 0 and 1, 1 where the token is to be learnt; None where all are. Of a labelled row, 1 where a label stands.
        labels: of a labelled row, one for each 1 of its mask: the number of a class, or a number.
        cut: tokens that its encoding has cut from it.
        cut_learnt: those of them that were to be learnt.
    """

    id: str
    tokens: Integer[np.ndarray, " time"]
    bytes: int
    mask: Integer[np.ndarray, " time"] | None = None
    labels: Sequence[float] | None = None
    cut: int = 0
    cut_learnt: int = 0


@dataclass(frozen=True, kw_only=True)
class ShardCounts:
    """How much is in a shard: documents, their tokens, their UTF-8 bytes, and the tokens to be learnt."""

    documents: int
    tokens: int
    bytes: int
    learnt: int


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """What the files of a folder of shards mean; kept in `shards.json`.

    Attributes:
        vocab_size: ids are below it; up to 65536 they take two bytes each, above it four.
        pad: the id of `<|pad|>`.
        masked: whether there are masks.
        shards: counts of each shard, in order.
        head: the head that the labels are for; None where there are none.
    """

    vocab_size: int
    pad: int
    masked: bool
    shards: tuple[ShardCounts, ...]
    head: str | None = None

    @classmethod
    def read(cls, path: Path) -> ShardIndex:
        """Reads `shards.json`; raises `ArtifactError` where it is missing or does not say what it should."""
        plain = read_json(path)
        try:
            return cls(**(plain | {"shards": tuple(ShardCounts(**shard) for shard in plain["shards"])}))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{path} does not describe token shards ({error}); delete its folder and run again") from None


def token_dtype(vocab_size: int) -> np.dtype:
    """The little-endian type that token ids are stored in: uint16 up to a vocabulary of 65536, uint32 above."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write_shard(
    folder: Path, number: int, documents: Iterable[Encoded], *, vocab_size: int, masked: bool = False, kept: Sequence[str] = (),
) -> ShardCounts:  # fmt: skip
    """Writes one shard, its documents' table last: where that file exists, the shard is whole.

    Args:
        folder: the workspace.
        number: of the shard, from 0.
        documents: consumed once, in order; memory stays at one document plus the table.
        vocab_size: every id must be below it.
        masked: whether each document brings a mask.
        kept: what else of each is kept: its "labels", how many of its tokens were "cut", and of those to be learnt, "cut_learnt".

    Returns:
        What has been written.

    Raises:
        DataError: a document without tokens, with an id outside the vocabulary, or with a mask or labels of another length.
    """
    dtype = token_dtype(vocab_size)
    ids, tokens, sizes, learnt = [], [], [], []
    beside: dict[str, list[Any]] = {name: [] for name in kept}
    tokens_path, mask_path, table_path = _paths(folder, number)
    with atomic_file(tokens_path) as token_file, atomic_file(mask_path) if masked else nullcontext() as mask_file:
        for document in documents:
            array, mask = np.asarray(document.tokens), None if document.mask is None else np.asarray(document.mask)
            _check(document.id, array, mask, vocab_size, masked)
            token_file.write(array.astype(dtype).tobytes())
            if mask_file is not None and mask is not None:
                mask_file.write(mask.astype(np.uint8).tobytes())
            ids.append(document.id)
            tokens.append(len(array))
            sizes.append(document.bytes)
            learnt.append(len(array) if mask is None else int(mask.sum()))
            if "labels" in kept and len(document.labels or ()) != learnt[-1]:
                raise DataError(f"document {document.id!r} has {len(document.labels or ())} labels for {learnt[-1]} places; give one for each")
            for name, values in beside.items():
                values.append(getattr(document, name))
    schema = pa.schema([*SCHEMA, *((name, BESIDE[name]) for name in kept)])
    table = pa.table([ids, tokens, sizes, learnt, *beside.values()], schema=schema)
    with atomic_file(table_path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return _counts(table)


def written_shard(folder: Path, number: int) -> ShardCounts | None:
    """The counts of a shard that an earlier run finished; None where it did not."""
    table_path = _paths(folder, number)[2]
    return _counts(_read_arrow(table_path)) if table_path.exists() else None


def write_index(
    folder: Path, counts: Sequence[ShardCounts], *, vocab_size: int, pad: int, masked: bool = False, head: str | None = None,
) -> ShardIndex:  # fmt: skip
    """Writes `shards.json`, after all shards."""
    index = ShardIndex(vocab_size=vocab_size, pad=pad, masked=masked, shards=tuple(counts), head=head)
    write_json(folder / INDEX, {name: value for name, value in asdict(index).items() if value is not None})
    return index


def shard_files(number: int, *, masked: bool) -> tuple[str, ...]:
    """The names of a shard's files."""
    tokens, mask, table = _paths(Path(), number)
    return tuple(path.name for path in ((tokens, mask, table) if masked else (tokens, table)))


class TokenShards:
    """Random access to the documents of a folder of shards; documents are numbered through all shards.

    Held in memory per document: length, size, tokens to be learnt, place (32 bytes) and nothing per token; files are mapped.

    Attributes:
        lengths: (documents,) int64, tokens of each.
        bytes_of: (documents,) int64, UTF-8 bytes of each.
        learnt: (documents,) int64, tokens of each that are to be learnt, or places that have a label.
        cuts: (documents,) int64, tokens that its encoding has cut from each.
        cuts_learnt: (documents,) int64, those of them that were to be learnt.
        whole: whether its encoding has cut them to what they are, and a part of one is of no use.
        vocab_size: ids are below it.
        pad: the id of `<|pad|>`.
        masked: whether there is a loss mask.
        head: the head that its labels are for; None where it has none.
    """

    def __init__(self, folder: Path) -> None:
        """Maps the shards of a folder.

        Raises:
            ArtifactError: a file is missing, or not as long as its table says.
        """
        index = ShardIndex.read(Path(folder) / INDEX)
        self.folder, self.vocab_size, self.pad, self.masked, self.head = Path(folder), index.vocab_size, index.pad, index.masked, index.head
        self._tokens, self._masks, self._ids, self._labels = [], [], [], []
        lengths, sizes, learnt = [], [], []
        cuts: dict[str, list[np.ndarray]] = {"cut": [], "cut_learnt": []}
        self.whole = False
        for number, counts in enumerate(index.shards):
            tokens_path, mask_path, table_path = _paths(self.folder, number)
            table = _read_arrow(table_path)
            if _counts(table) != counts:
                raise ArtifactError(f"{table_path} does not count what {INDEX} says; delete the folder {self.folder} and run again")
            self._tokens.append(_map(tokens_path, token_dtype(self.vocab_size), counts.tokens))
            if self.masked:
                self._masks.append(_map(mask_path, np.dtype(np.uint8), counts.tokens))
            self._ids.append(table.column("id"))
            lengths.append(table.column("tokens").to_numpy())
            sizes.append(table.column("bytes").to_numpy())
            learnt.append(table.column("learnt").to_numpy())
            if self.head is not None:
                self._labels.append(table.column("labels"))
            for name, of_shards in cuts.items():
                there = name in table.column_names
                of_shards.append(table.column(name).to_numpy() if there else np.zeros(len(table), np.int64))
                self.whole |= there
        self.lengths = np.concatenate([*lengths, np.empty(0, np.int64)])
        self.bytes_of, self.learnt = (np.concatenate([*some, np.empty(0, np.int64)]) for some in (sizes, learnt))
        self.cuts, self.cuts_learnt = (np.concatenate([*some, np.empty(0, np.int64)]) for some in cuts.values())
        self._first = np.cumsum([0, *map(len, lengths)])  # the number of each shard's first document, and of the one after the last
        before = np.cumsum(self.lengths) - self.lengths
        self._offsets = before - np.repeat(np.cumsum([0, *(c.tokens for c in index.shards)])[:-1], np.diff(self._first))

    @classmethod
    def open(cls, artifact: Artifact) -> TokenShards:
        """The shards of a finished artifact, after every checksum has been compared; done once, when a stage opens them.

        Raises:
            ArtifactError: a byte has changed; the message names the file and the remedy.
        """
        index = ShardIndex.read(artifact.checked(INDEX))
        for number in range(len(index.shards)):
            for name in shard_files(number, masked=index.masked):
                artifact.checked(name)
        return cls(artifact.path)

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """The number of tokens in all documents."""
        return int(self.lengths.sum())

    @property
    def bytes(self) -> int:
        """The number of UTF-8 bytes that the tokens stand for: the denominator of bits per byte."""
        return int(self.bytes_of.sum())

    def id(self, document: int) -> str:
        """The id of a document by its number."""
        shard = self._shard(document)
        return self._ids[shard][int(document - self._first[shard])].as_py()

    def numbers(self, id: str) -> list[int]:
        """The numbers of the documents with an id: one, where ids tell documents apart."""
        found = zip(self._first.tolist(), self._ids, strict=False)
        return [first + number for first, ids in found for number in pc.indices_nonzero(pc.equal(ids, id)).to_pylist()]

    def document(self, document: int, start: int = 0, stop: int | None = None) -> Integer[np.ndarray, " time"]:
        """The tokens of a document, or a range of them: a view into the mapped file."""
        return self._range(self._tokens, document, start, stop)

    def mask(self, document: int, start: int = 0, stop: int | None = None) -> UInt8[np.ndarray, " time"]:
        """The loss mask of a document, or a range of it; ones where the shards have none."""
        if not self.masked:
            return np.ones(len(range(*slice(start, stop).indices(int(self.lengths[document])))), np.uint8)
        return self._range(self._masks, document, start, stop)

    def labels(self, document: int) -> Float32[np.ndarray, " labels"]:
        """The labels of a document, one for each 1 of its mask; of shards that have labels."""
        shard = self._shard(document)
        return np.array(self._labels[shard][int(document - self._first[shard])].as_py(), np.float32)

    def gather(
        self, documents: Integer[np.ndarray, " pieces"], starts: Integer[np.ndarray, " pieces"], lengths: Integer[np.ndarray, " pieces"]
    ) -> tuple[Integer[np.ndarray, " tokens"], UInt8[np.ndarray, " tokens"] | None]:
        """Pieces of documents laid end to end, and their masks (None where the shards have none).

        Args:
            documents: the document that each piece is from.
            starts: the piece's first token within its document.
            lengths: its number of tokens; it must not pass the document's end.
        """
        shards = np.searchsorted(self._first, documents, side="right") - 1
        first = self._offsets[documents] + starts
        spans = list(zip(shards.tolist(), first.tolist(), (first + lengths).tolist(), strict=True))
        tokens = np.concatenate([np.empty(0, token_dtype(self.vocab_size)), *(self._tokens[shard][a:b] for shard, a, b in spans)])
        if not self.masked:
            return tokens, None
        return tokens, np.concatenate([np.empty(0, np.uint8), *(self._masks[shard][a:b] for shard, a, b in spans)])

    def _shard(self, document: int) -> int:
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        return int(np.searchsorted(self._first, document, side="right")) - 1

    def _range(self, files: list[np.ndarray], document: int, start: int, stop: int | None) -> np.ndarray:
        shard, first = self._shard(document), int(self._offsets[document])
        return files[shard][first : first + int(self.lengths[document])][start:stop]


def _paths(folder: Path, number: int) -> tuple[Path, Path, Path]:
    return folder / f"tokens-{number:05}.bin", folder / f"mask-{number:05}.bin", folder / f"documents-{number:05}.arrow"


def _check(name: str, tokens: np.ndarray, mask: np.ndarray | None, vocab_size: int, masked: bool) -> None:
    if not len(tokens):
        raise DataError(f"document {name!r} has no tokens; drop it before it is encoded")
    if int(tokens.max()) >= vocab_size or int(tokens.min()) < 0:
        raise DataError(f"document {name!r} has token ids outside the vocabulary of {vocab_size}; encode it with this vocabulary's tokenizer")
    if masked != (mask is not None) or (mask is not None and len(mask) != len(tokens)):
        found = "no mask" if mask is None else f"a mask of {len(mask)} places"
        wanted = f"one of {len(tokens)}" if masked else "none"
        raise DataError(f"document {name!r} has {found} where its shard needs {wanted}; encode all documents of a shard in one way")


def _counts(table: pa.Table) -> ShardCounts:
    tokens, size, learnt = (int(table.column(name).to_numpy().sum()) for name in ("tokens", "bytes", "learnt"))
    return ShardCounts(documents=len(table), tokens=tokens, bytes=size, learnt=learnt)


def _map(path: Path, dtype: np.dtype, tokens: int) -> np.ndarray:
    found = path.stat().st_size if path.exists() else 0
    if found != tokens * dtype.itemsize:
        raise ArtifactError(
            f"{path} has {found} bytes where {tokens} tokens take {tokens * dtype.itemsize}; delete the folder {path.parent} and run again"
        )
    return np.asarray(np.memmap(path, dtype, mode="r")) if tokens else np.empty(0, dtype)


def _read_arrow(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete the folder {path.parent} and run again") from None
