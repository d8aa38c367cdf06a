"""`TrainTokenizer` and `LoadTokenizer`: a vocabulary learnt from prepared documents, or read from somebody else's files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Gt
from pydantic import Field

from bloomery.core.errors import ConfigError
from bloomery.core.units import Bytes
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Artifact, Workspace
from bloomery.text.tokenizer import ROLES, ByteBPE, Tokenizer, TokenModel
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


def load_tokenizer(artifact: Artifact) -> Tokenizer:
    """The tokenizer that a `TrainTokenizer` has made."""
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
