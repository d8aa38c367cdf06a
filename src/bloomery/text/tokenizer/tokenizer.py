"""`Tokenizer`: texts to ids and back, in which no text can forge a control token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer as Backend

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.store.files import write_text
from bloomery.text.tokenizer.models import UNKNOWN, ByteBPE, TokenModel
from bloomery.text.tokenizer.spelling import Plain, Spelling, flat, losses, spelling
from bloomery.text.tokenizer.words import ByWords, by_words

ROLES = ("begin", "end", "user", "assistant", "system", "pad")
"""What the control tokens are for: to begin a document and end it or a turn, to open the turns of a conversation, to fill a row."""

CONTROL_TOKENS = tuple(f"<|{role}|>" for role in ROLES)
"""The control tokens of a tokenizer that is trained here, as ids 0 to 5. Only Bloomery writes them; the same characters in a text are text."""

TEMPLATE = "TemplateProcessing"
REPLACEMENT = "\ufffd".encode()


class Tokenizer:
    """Texts to ids and back.

    `encode` treats all of a text as text: "<|end|>" in a document becomes a few ordinary tokens, never the control token.
    `encode_markup` is the one way in for control tokens spelled as text. Any Unicode text survives `decode(encode(text))` if `loses`
    is empty.

    A token `<|name|>` has the role `name`; a file that spells a role otherwise, "<s>" say, tells so in its post-processor's table of
    special tokens.

    Attributes:
        vocab_size: every id is below it, control tokens included.
        roles: ids by role; the six of `ROLES` at least.
        begin, end, user, assistant, system, pad: the ids of the control tokens.
        unknown: the id of what the vocabulary does not have; None where every text has ids.
        loses: what of a text does not survive, in words.
        plain: what `save` writes, as plain data; not to be changed.
    """

    def __init__(self, backend: Backend, spelled: Mapping[str, str] | None = None) -> None:
        """Takes over a tokenizer of the `tokenizers` library.

        Args:
            backend: with a special token for every role; it belongs to this object from now on.
            spelled: how a role is spelled where it is not `<|role|>`.

        Raises:
            ArtifactError: a control token is missing.
        """
        self._text = with_roles(backend, spelled) if spelled else backend
        self._json = self._text.to_str()
        self.plain: Plain = json.loads(self._json)
        self._text.encode_special_tokens = True  # the library's name for: a control token's characters are encoded as characters
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self.controls = {token["id"]: token["content"] for token in self.plain["added_tokens"] if token["special"]}
        self.roles = {spelled_role(content): i for i, content in self.controls.items() if spelled_role(content)}
        self.roles |= roles_in(self.plain)
        if missing := [role for role in ROLES if role not in self.roles]:
            raise ArtifactError(f"the tokenizer has no control token '<|{missing[0]}|>'; add it, or train one with TrainTokenizer")
        self.begin, self.end, self.user, self.assistant, self.system, self.pad = (self.roles[role] for role in ROLES)
        self.unknown = _unknown(self.plain["model"], vocabulary)
        self.loses = losses(self.plain)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, model: TokenModel | None = None, roles: Sequence[str] = ()) -> Tokenizer:
        """Learns a vocabulary from texts; the same texts give the same tokenizer.

        Args:
            texts: the corpus; read once, in order.
            vocab_size: ids wanted, control tokens included; at least 262 for bytes. A small corpus may yield fewer.
            model: what a token is made of; None for `ByteBPE()`.
            roles: more roles that need a control token, `<|role|>`.

        Raises:
            ConfigError: the vocabulary is too small or too large for the model.
            DataError: there is no text.
        """
        model = model or ByteBPE()
        controls = [*CONTROL_TOKENS, *(f"<|{role}|>" for role in roles), *([UNKNOWN] if model.can_miss else [])]
        if refusal := refuse_size(vocab_size, model, len(roles)):
            raise ConfigError(f"vocab_size={vocab_size} {refusal}")
        seen = 0

        def counted() -> Iterator[str]:
            nonlocal seen
            for text in texts:
                seen += len(text)
                yield without_surrogates(text)

        backend = model.learn(counted(), vocab_size, controls)
        if model.learns and not seen:
            raise DataError("the corpus holds no text to train a tokenizer on; check its source and its filters")
        return cls(backend)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.json` that `save` has written, or any other with all control tokens.

        Raises:
            ArtifactError: the file is missing, is not a tokenizer, or lacks a control token.
        """
        try:
            return cls(Backend.from_file(str(path)))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from None
        except Exception as error:  # the library raises bare Exception
            raise ArtifactError(f"{path} does not read as a tokenizer ({error}); run the TrainTokenizer stage that makes it") from None

    def save(self, path: Path) -> str:
        """Writes `tokenizer.json` atomically; returns its SHA-256 in hex. `transformers` loads the file as it is."""
        return write_text(path, self._json)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of what `save` writes: equal for tokenizers that encode alike."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text; never a control token."""
        return self.encode_arrays([text])[0].tolist()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode_arrays`, in lists."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]]:
        """The ids of many texts as int32; never a control token but `<|unknown|>`.

        A lone surrogate, which has no UTF-8, counts as U+FFFD.
        """
        try:
            return self._arrays(texts)
        except (TypeError, UnicodeEncodeError):  # what the library says to a lone surrogate
            return self._arrays([without_surrogates(text) for text in texts])

    def _arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        if self._words is not None and (found := self._words.encode(texts)) is not None:
            return found
        return [np.array(self._ids_of(e), np.int32) for e in self._text.encode_batch_fast(list(texts), add_special_tokens=False)]

    @cached_property
    def _words(self) -> ByWords | None:
        return by_words(self._text, self.plain, self._ids_of)

    def _ids_of(self, encoding: Any) -> Sequence[int]:
        """The ids of an encoded text. A word that the model finds in its vocabulary as a control token is unknown instead."""
        ids = encoding.ids
        if self._forbidden.isdisjoint(ids):
            return ids
        instead = [] if self.unknown is None else [self.unknown]
        return [j for i in ids for j in (instead if i in self._forbidden else [i])]

    @cached_property
    def _forbidden(self) -> set[int]:
        return set(self.controls) - {self.unknown}

    def encode_documents(self, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]]:
        """The ids of whole documents as int32: `<|begin|>` text `<|end|>`."""
        begin, end = np.array([self.begin], np.int32), np.array([self.end], np.int32)
        return [np.concatenate([begin, ids, end]) for ids in self.encode_arrays(texts)]

    def encode_markup(self, text: str) -> list[int]:
        """The ids of a text in which control tokens are spelled out and meant ("<|user|>Hello<|end|>"). Not for text from outside."""
        return self._markup.encode(without_surrogates(text), add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids, without control tokens; what is unknown, and bytes that are no UTF-8, as at a cut character, become U+FFFD.

        A blank that the tokenizer itself puts before a text is taken away.
        """
        data = self.decode_bytes(ids)
        return data[self._spelling.leads and data.startswith(b" ") :].decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of some ids, without control tokens: what streaming joins before it decodes.

        Ids beyond the vocabulary, which an untrained model with a larger one may pick, become U+FFFD.
        """
        table = self.token_bytes
        return b"".join(table[i] if i < len(table) else REPLACEMENT for i in ids)

    def decode_markup(self, ids: Iterable[int]) -> str:
        """The text of some ids with the control tokens spelled out: for people, logs and tests."""
        controls, table = self.controls, self.token_bytes
        return b"".join(controls[i].encode() if i in controls else table[i] for i in ids).decode(errors="replace")

    def spell(self, template: str) -> str:
        """A template in which control tokens are spelled `<|role|>`, spelled as this tokenizer's own."""
        for role in ROLES:
            template = template.replace(f"<|{role}|>", self.controls[self.roles[role]])
        return template

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes that each id stands for; none for control tokens. Ids that a vocabulary leaves out have none either."""
        table = [b""] * self.vocab_size
        for token, i in self._text.get_vocab(with_added_tokens=False).items():
            table[i] = self._spelling.bytes_of(token)
        for token in self.plain["added_tokens"]:
            table[token["id"]] = b"" if token["special"] else token["content"].encode()
        if self.unknown is not None:
            table[self.unknown] = self._spelling.bytes_of("\ufffd")
        return tuple(table)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """How many bytes of text each id stands for, as int32 of shape (vocab_size,). For bits per byte.

        0 for control tokens, and for `<|unknown|>`, which stands for who knows what: so that the bits per byte of what is unknown are too
        many rather than too few.
        """
        lengths = np.array([len(token) for token in self.token_bytes], dtype=np.int32)
        if self.unknown is not None:
            lengths[self.unknown] = 0
        return lengths

    @cached_property
    def _markup(self) -> Backend:
        backend = Backend.from_str(self._json)
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def _spelling(self) -> Spelling:
        return spelling(self.plain)


def refuse_size(vocab_size: int, model: TokenModel, roles: int = 0) -> str:
    """Why a vocabulary cannot have so many ids, as the end of a sentence; empty where it can.

    Args:
        vocab_size: ids wanted.
        model: what a token is made of.
        roles: how many more there are than the six.
    """
    controls = len(CONTROL_TOKENS) + roles + model.can_miss
    least = controls + model.needs + 256 * getattr(model, "byte_fallback", False)
    if vocab_size < least:
        return f"cannot hold the control tokens and what {model.kind()} needs; {least} is the least"
    if model.most is not None and vocab_size > controls + model.most:
        return f"is more than {model.kind()} has tokens for; {controls + model.most} is the most"
    return ""


def with_roles(backend: Backend, spelled: Mapping[str, str]) -> Backend:
    """The tokenizer with an entry `<|role|>` for each role among the special tokens that its post-processor knows.

    The library lets a post-processor know more tokens than it puts around a text, and keeps them: what the file does elsewhere stays.
    """
    plain = json.loads(backend.to_str())
    parts = list(flat(plain["post_processor"], "processors"))
    table: Plain | None = next((part for part in parts if part["type"] == TEMPLATE), None)
    if table is None:
        first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
        parts.append(table := {"type": TEMPLATE, "single": [first], "pair": [first, second], "special_tokens": {}})
    entries = {f"<|{role}|>": {"ids": [backend.token_to_id(token)], "tokens": [token]} for role, token in spelled.items()}
    table["special_tokens"] = table["special_tokens"] | {name: {"id": name} | entry for name, entry in entries.items()}
    plain["post_processor"] = parts[0] if len(parts) == 1 else {"type": "Sequence", "processors": parts}
    return Backend.from_str(json.dumps(plain))


def roles_in(plain: Plain) -> dict[str, int]:
    """What `with_roles` has put in a tokenizer file."""
    tables = [part["special_tokens"] for part in flat(plain.get("post_processor"), "processors") if part["type"] == TEMPLATE]
    return {spelled_role(name): entry["ids"][0] for table in tables for name, entry in table.items() if spelled_role(name)}


def spelled_role(token: str) -> str:
    """The role that a control token's spelling tells: "end" for "<|end|>"; empty where it tells none."""
    inner = token.removeprefix("<|").removesuffix("|>")
    return inner if token == f"<|{inner}|>" else ""


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unknown(model: Plain, vocabulary: Mapping[str, int]) -> int | None:
    if model["type"] == "Unigram":
        return model["unk_id"]
    return vocabulary.get(model.get("unk_token") or "")

