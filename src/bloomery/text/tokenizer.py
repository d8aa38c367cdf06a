"""`Tokenizer`: byte-level BPE, in which every text has ids and no text can forge a control token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.store.files import write_text

CONTROL_TOKENS = ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>")
"""The tokens that structure a sequence, as ids 0 to 5. Only Bloomery writes them; the same characters in a text are plain text."""

UNKNOWN = "\ufffd".encode()
SMALLEST_VOCABULARY = len(CONTROL_TOKENS) + 256
PIECE_CHARS = 1 << 16  # a longer text is encoded in pieces of at least this length, cut where the words are cut anyway


def word_pattern(max_digits: int) -> str:
    """The regular expression that cuts a text into words, within which pairs are merged.

    Contractions; letters with one leading blank or sign; digits in groups of at most `max_digits`; signs with the newlines that follow;
    newlines; blanks, the last one left to the next word.

    Source: the `cl100k_base` pattern of OpenAI's tiktoken (MIT), as in Llama 3 (arXiv 2407.21783, section 3.2); there `max_digits` is 3.
    """
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1," + str(max_digits) + r"}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


class Tokenizer:
    """Texts to ids and back.

    `encode` treats all of a text as text: "<|end|>" in a document becomes a few ordinary tokens, never the control token.
    `encode_markup` is the one way in for control tokens spelled as text. Any Unicode text survives `decode(encode(text))`.

    Attributes:
        vocab_size: number of ids, control tokens included.
        begin, end, user, assistant, system, pad: the ids of the control tokens.
    """

    def __init__(self, backend: Backend) -> None:
        found = [_control_id(backend, token) for token in CONTROL_TOKENS]
        self.begin, self.end, self.user, self.assistant, self.system, self.pad = found
        self.vocab_size = backend.get_vocab_size()
        self._json = backend.to_str()
        self._text = backend
        self._text.encode_special_tokens = True  # the library's name for: a control token's characters are encoded as characters
        self._markup = Backend.from_str(self._json)
        self._markup.encode_special_tokens = False

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, max_digits: int = 3) -> Tokenizer:
        """Learns the merges from texts; the same texts give the same tokenizer.

        Args:
            texts: the corpus; read once, in order.
            vocab_size: ids wanted, at least 262 (6 control tokens and 256 bytes). A small corpus may yield fewer.
            max_digits: longest group of digits in one token, at least 1.

        Raises:
            ConfigError: the vocabulary cannot hold the bytes.
            DataError: there is no text.

        Source: Sennrich et al. (2016), arXiv 1508.07909, over bytes as in Radford et al. (2019).
        """
        if vocab_size < SMALLEST_VOCABULARY:
            raise ConfigError(f"vocab_size={vocab_size} cannot hold the control tokens and the bytes; {SMALLEST_VOCABULARY} is the least")
        if max_digits < 1:
            raise ConfigError(f"max_digits={max_digits} leaves no token for digits; 1 to 3 are usual")
        backend = Backend(models.BPE(byte_fallback=False))
        backend.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(word_pattern(max_digits)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        backend.decoder = decoders.ByteLevel()
        seen = 0

        def counted() -> Iterator[str]:
            nonlocal seen
            for text in texts:
                seen += len(text)
                yield text

        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, min_frequency=2, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS],
        )
        backend.train_from_iterator(counted(), trainer)
        if not seen:
            raise DataError("the corpus holds no text to train a tokenizer on; check its source and its filters")
        return cls(backend)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.json` (the format of Hugging Face `tokenizers`).

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
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, on all cores; long texts are spread over the cores too. Never a control token.

        A lone surrogate, which has no UTF-8, counts as U+FFFD.
        """
        pieces, counts = [], []
        for text in texts:
            before = len(pieces)
            pieces.extend(cut(text, PIECE_CHARS))
            counts.append(len(pieces) - before)
        try:
            encodings = self._text.encode_batch_fast(pieces, add_special_tokens=False)
        except TypeError:  # what the library says to a lone surrogate
            encodings = self._text.encode_batch_fast([without_surrogates(piece) for piece in pieces], add_special_tokens=False)
        encoded = iter([e.ids for e in encodings])
        return [next(encoded) if n == 1 else [i for _ in range(n) for i in next(encoded)] for n in counts]

    def encode_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of whole documents: `<|begin|>` text `<|end|>`."""
        return [[self.begin, *ids, self.end] for ids in self.encode_batch(texts)]

    def encode_markup(self, text: str) -> list[int]:
        """The ids of a text in which control tokens are spelled out and meant ("<|user|>Hello<|end|>"). Not for text from outside."""
        return self._markup.encode(without_surrogates(text), add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids, without control tokens; bytes that are no UTF-8, as at a cut character, become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of some ids, without control tokens: what streaming joins before it decodes.

        Ids beyond the vocabulary, which an untrained model with a larger one may pick, become U+FFFD.
        """
        table = self.token_bytes
        return b"".join(table[i] if i < len(table) else UNKNOWN for i in ids)

    def decode_markup(self, ids: Iterable[int]) -> str:
        """The text of some ids with the control tokens spelled out: for people, logs and tests."""
        controls = self.controls
        return b"".join(controls[i].encode() if i in controls else self.token_bytes[i] for i in ids).decode(errors="replace")

    @cached_property
    def controls(self) -> dict[int, str]:
        """Control token ids and how they are spelled."""
        return {i: token.content for i, token in sorted(self._text.get_added_tokens_decoder().items()) if token.special}

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes that each id stands for; none for control tokens. Ids that a vocabulary leaves out have none either."""
        byte_of = {char: byte for byte, char in enumerate(_byte_alphabet())}
        table = [b""] * (max(self._text.get_vocab().values()) + 1)
        for token, i in self._text.get_vocab().items():
            if i not in self.controls:
                table[i] = bytes(byte_of[char] for char in token) if set(token) <= byte_of.keys() else token.encode()
        return tuple(table)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """How many bytes of text each id stands for, as int32 of shape (vocab_size,); 0 for control tokens. For bits per byte."""
        return np.array([len(token) for token in self.token_bytes], dtype=np.int32)


def cut(text: str, piece_chars: int) -> list[str]:
    """Pieces of a text, each at least `piece_chars` long but the last, that encode to the same ids as the whole.

    A cut is made only between a line's end and a character that is not white space: `word_pattern` never matches across it.
    A text without such places stays whole.
    """
    pieces, start = [], 0
    while len(text) - start > piece_chars:
        end = text.find("\n", start + piece_chars - 1) + 1
        while 0 < end < len(text) and text[end].isspace():
            end = text.find("\n", end) + 1
        if not 0 < end < len(text):
            break
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _control_id(backend: Backend, token: str) -> int:
    if (found := backend.token_to_id(token)) is None:
        raise ArtifactError(f"the tokenizer has no control token {token!r}; add it, or train one with TrainTokenizer")
    return found


def _byte_alphabet() -> list[str]:
    """The character by which byte-level BPE spells each byte: itself where it can be printed, else one from U+0100 on.

    Source: `bytes_to_unicode` of GPT-2's encoder.py (OpenAI, MIT).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
