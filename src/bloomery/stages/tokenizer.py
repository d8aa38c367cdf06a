"""`TrainTokenizer` and `LoadTokenizer`: a vocabulary learnt from prepared documents, or read from somebody else's files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Gt
from pydantic import Field

from bloomery.core.errors import ConfigError
from bloomery.core.units import Bytes
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Artifact, Workspace, write_json
from bloomery.store.files import sha256_of, write_text
from bloomery.text.tokenizer import ROLES, ByteBPE, PatternSplit, Tokenizer, TokenModel
from bloomery.text.tokenizer.fertility import compare
from bloomery.text.tokenizer.loading import Loaded, load_foreign, tokenizer_files
from bloomery.text.tokenizer.tokenizer import refuse_size

TOKENIZER = "tokenizer.json"
MEASURED_BYTES = 4 << 20  # of each corpus, for its fertility


class TrainTokenizer(Stage):
    """Trains a tokenizer on a sample of one or more corpora. The artifact is a `tokenizer.json`.

    Example:
        >>> TrainTokenizer(corpora=(novels,), vocab_size=8192)
        >>> TrainTokenizer(corpora=(novels,), model=Unigram(split=Gpt4(max_digits=1)), roles=("tool",))
    """

    corpora: tuple[Prepare, ...]
    """What to learn from; each gives the same share of the sample, as far as it has that much."""
    vocab_size: Annotated[int, Gt(0)] = 4096
    """Ids wanted, the 6 control tokens and 256 bytes included; a small corpus may yield fewer."""
    model: TokenModel = ByteBPE()
    """What a token is made of."""
    roles: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")], ...] = ()
    """More roles that get a control token each, "tool" the token `<|tool|>`: for templates of one's own."""
    sample_bytes: Bytes = 64 << 20
    """Text to learn from, in bytes; from the beginning of each corpus."""

    def check(self) -> None:
        if not self.corpora:
            raise ConfigError("TrainTokenizer.corpora=() names nothing to learn from; give one Prepare at least")
        if twice := {role for role in self.roles if self.roles.count(role) > 1 or role in (*ROLES, "unknown")}:
            raise self.refuse("roles", f"names {min(twice)!r} twice, or one that every tokenizer has; name others")
        if refusal := refuse_size(self.vocab_size, self.model, len(self.roles)):
            raise self.refuse("vocab_size", refusal)

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        corpora = [inputs[corpus] for corpus in self.corpora]
        share = self.sample_bytes // len(corpora) or 1
        seen = 0

        def sample() -> Iterator[str]:
            nonlocal seen
            for corpus in corpora:
                for text in texts(corpus, share):
                    seen += len(text.encode())
                    yield text

        tokenizer = Tokenizer.train(sample(), vocab_size=self.vocab_size, model=self.model, roles=self.roles)
        tokenizer.save(workspace.path / TOKENIZER)
        if tokenizer.vocab_size < self.vocab_size:
            context.say(f"{self.reference}: the corpus yields {tokenizer.vocab_size} tokens, not {self.vocab_size}")
        measured = {corpus.reference: fertility(tokenizer, list(texts(corpus, MEASURED_BYTES))) for corpus in corpora}
        lost = {"loses": list(tokenizer.loses)} if tokenizer.loses else {}
        return {"vocab_size": tokenizer.vocab_size, "sample_bytes": seen, "bytes_per_token": measured} | lost


class LoadTokenizer(Stage):
    """Somebody else's tokenizer, ready for a recipe: `tokenizer.json`, GPT-2's two files, SentencePiece's `.model`, tiktoken's list.

    Its own tokens get the roles that they usually have (`<s>` begins a document, say), and control tokens that it lacks are added behind
    its ids; the run says which. The artifact is a `tokenizer.json`, as `TrainTokenizer` leaves it. It counts in keys by its contents;
    where it lies does not matter.

    Example:
        >>> LoadTokenizer(path="gpt2/tokenizer.json")
        >>> LoadTokenizer(path="llama/tokenizer.model", roles={"pad": "<unk>"})
    """

    path: str
    """A tokenizer's file, or a folder that holds one."""
    split: PatternSplit | None = None
    """How a tiktoken list, which does not say it, cuts a text; None for `Gpt4()`. Other files say it themselves."""
    roles: dict[str, str] = Field(default_factory=dict)
    """The token for a role ("begin", "end", "user", "assistant", "system", "pad", or one of your own), where it is not the usual one."""

    @cached_property
    def vocab_size(self) -> int:
        """Every id is below it, those of added control tokens included."""
        return self._loaded().tokenizer.vocab_size

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        loaded = self._loaded()
        tokenizer, added = loaded.tokenizer, list(loaded.added)
        tokenizer.save(workspace.path / TOKENIZER)
        mapped = ", ".join(f"{role} is {token}" for role, token in loaded.spelled.items()) or "none of its tokens has a role"
        context.say(f"{self.reference}: {loaded.format} of {tokenizer.vocab_size - len(added)} ids; {mapped}")
        if added:
            first = tokenizer.vocab_size - len(added)
            context.say(f"{self.reference}: {', '.join(added)} are added as ids {first} to {tokenizer.vocab_size - 1}")
        if tokenizer.loses:
            context.say(f"{self.reference}: texts do not survive whole; it loses {', '.join(tokenizer.loses)}")
        figures = {"vocab_size": tokenizer.vocab_size, "loses": list(tokenizer.loses)}
        return figures | {"format": loaded.format, "roles": loaded.spelled, "added": added}

    def _loaded(self) -> Loaded:
        marks = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in tokenizer_files(Path(self.path)))
        return _load(self.path, self.split, tuple(self.roles.items()), marks)

    def _own_fields(self) -> dict[str, Any]:
        plain = {name: value for name, value in super()._own_fields().items() if name != "path"}
        return plain | {"contents": [sha256_of(file) for file in tokenizer_files(Path(self.path))]}


class CompareTokenizers(Stage):
    """Encodes the same documents with several tokenizers and writes down, language by language, how short the sequences become.

    It leaves `fertility.json` and, as a table to read, `fertility.txt`.
    """

    corpora: tuple[Prepare, ...]
    """The documents; a document's language is `language` in its `meta`, or else its source."""
    tokenizers: tuple[TrainTokenizer | LoadTokenizer, ...]
    """Side by side."""
    sample_bytes: Bytes = 16 << 20
    """Text to encode, in bytes; from the beginning of each corpus, the same share of each."""

    def check(self) -> None:
        for field in ("corpora", "tokenizers"):
            if not getattr(self, field):
                raise self.refuse(field, "names nothing to compare; give one at least")

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        names = [stage.name for stage in self.tokenizers]
        shown = names if len(set(names)) == len(names) else [stage.reference for stage in self.tokenizers]
        compared = {name: load_tokenizer(inputs[stage]) for name, stage in zip(shown, self.tokenizers, strict=True)}
        share = self.sample_bytes // len(self.corpora) or 1
        samples = (part for corpus in self.corpora for part in first_documents(inputs[corpus], share))
        table = compare(compared, samples)
        write_json(workspace.path / "fertility.json", table.plain())
        write_text(workspace.path / "fertility.txt", f"{table}\n")
        return {"languages": len(table.languages), "overall": table.plain()["overall"]}


@lru_cache(maxsize=8)
def _load(path: str, split: PatternSplit | None, roles: tuple[tuple[str, str], ...], marks: tuple[tuple[int, int], ...]) -> Loaded:
    """Reads a tokenizer once per process, as long as its files do not change."""
    return load_foreign(Path(path), split, dict(roles))


def load_tokenizer(artifact: Artifact) -> Tokenizer:
    """The tokenizer that a `TrainTokenizer` or a `LoadTokenizer` has left."""
    return Tokenizer.load(artifact.file(TOKENIZER))


def fertility(tokenizer: Tokenizer, texts: list[str]) -> float:
    """Bytes of UTF-8 per token over some texts: the more, the shorter the sequences."""
    tokens = sum(map(len, tokenizer.encode_arrays(texts)))
    return round(sum(len(text.encode()) for text in texts) / max(tokens, 1), 4)


def texts(corpus: Artifact, limit_bytes: int) -> Iterator[str]:
    """The first texts of a prepared corpus that together have `limit_bytes`, the last one cut short."""
    for batch in documents(corpus, columns=("text",)):
        for text in batch.column("text").to_pylist():
            size = len(text.encode())
            yield text if size <= limit_bytes else text.encode()[:limit_bytes].decode(errors="ignore")
            limit_bytes -= size
            if limit_bytes <= 0:
                return


def first_documents(corpus: Artifact, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """The first documents of a prepared corpus that together have `limit_bytes`, the last one whole."""
    for batch in documents(corpus, columns=("text", "source", "meta")):
        total = np.cumsum(pc.binary_length(batch.column("text")).to_numpy(zero_copy_only=False).astype(np.int64))
        yield batch.slice(0, int(np.searchsorted(total, limit_bytes)) + 1)
        limit_bytes -= int(total[-1])
        if limit_bytes <= 0:
            return
