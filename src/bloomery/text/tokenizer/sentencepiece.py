"""SentencePiece's `.model` files, read without SentencePiece: the few fields of its protocol buffer that decide how a text is encoded.

    ModelProto       1 pieces (1 text, 2 score, 3 type) · 2 trainer (3 kind, 24 suffix, 35 byte fallback) · 3 normaliser
    normaliser       2 character map · 3 blank put first · 4 blanks collapsed · 5 blanks spelled ▁

Source: `sentencepiece_model.proto` of SentencePiece (Apache-2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from tokenizers import AddedToken, Regex, decoders, models, normalizers
from tokenizers import Tokenizer as Backend

from bloomery.core.errors import DataError
from bloomery.text.tokenizer.alphabet import BLANK

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Piece(NamedTuple):
    """A token: how it is spelled, how likely or how early merged it is, and of what type."""

    text: str
    score: float = 0.0
    type: int = NORMAL


def sentencepiece(data: bytes) -> Backend:
    """The tokenizer of a `.model` file, with the same ids.

    Raises:
        DataError: the bytes are no such file, or one of a kind that is not read: words, characters, blanks as suffixes.
    """
    try:
        proto = list(fields(data))
        pieces = [_piece(value) for number, value in proto if number == 1]
        trainer, normaliser = (dict(fields(b"".join(value for n, value in proto if n == number))) for number in (2, 3))
    except (TypeError, ValueError, struct.error) as error:
        raise DataError(f"does not read as a SentencePiece model ({error})") from None
    kind = trainer.get(3, UNIGRAM)
    if not pieces or kind not in (UNIGRAM, BPE) or trainer.get(24) or not normaliser.get(5, 1):
        raise DataError("is a SentencePiece model of a kind that is not read; those of type BPE and Unigram with blanks as prefixes are")
    unknown = next((i for i, piece in enumerate(pieces) if piece.type == UNKNOWN), 0)
    fallback = any(piece.type == BYTE for piece in pieces)
    if kind == BPE:
        ranked = sorted((piece for piece in pieces if piece.type == NORMAL), key=lambda piece: -piece.score)
        vocabulary = {piece.text: i for i, piece in enumerate(pieces)}
        merges = merges_of({piece.text: rank for rank, piece in enumerate(ranked)})
        options = {"unk_token": pieces[unknown].text, "fuse_unk": True, "byte_fallback": fallback}
        backend = Backend(models.BPE(vocab=vocabulary, merges=merges, **options))
    else:
        backend = Backend(models.Unigram([(piece.text, piece.score) for piece in pieces], unk_id=unknown, byte_fallback=fallback))
    prefixed = bool(normaliser.get(3, 1))
    backend.normalizer = _normaliser(normaliser, prefixed)
    steps = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)
    backend.add_special_tokens([AddedToken(p.text, special=True, normalized=False) for p in pieces if p.type in (UNKNOWN, CONTROL)])
    backend.add_tokens([AddedToken(p.text, special=False, normalized=False) for p in pieces if p.type == USER_DEFINED])
    return backend


class _Text(Hashable, Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, place: slice, /) -> Any: ...


T = TypeVar("T", bound=_Text)


def merges_of(ranks: Mapping[T, int]) -> list[tuple[T, T]]:
    """The merges that lead to each token, in the order of the tokens' ranks: every way to make it of two others.

    With them, merging the first pair of the list that is there is merging the pair whose token has the least rank.
    """
    found = []
    for token, rank in ranks.items():
        for i in range(1, len(token)):
            left, right = token[:i], token[i:]
            if left in ranks and right in ranks:
                found.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for _, _, _, left, right in sorted(found)]


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The numbers and values of the fields of a protocol buffer: whole numbers, floats, or bytes.

    Raises:
        ValueError: the bytes end in the middle of a field, or have one of a type that is no longer in use.
    """
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == BYTES:
            size, place = _varint(data, place)
        if size is None or place + size > len(data):
            raise ValueError(f"its field {number} at byte {place} is torn")
        value, place = data[place : place + size], place + size
        yield number, struct.unpack("<f", value)[0] if wire == FIXED32 else value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte, place = data[place], place + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"its number at byte {place} is too long")


def _piece(data: bytes) -> Piece:
    found = dict(fields(data))
    return Piece(found[1].decode() if 1 in found else "", found.get(2, 0.0), found.get(3, NORMAL))


def _normaliser(spec: Mapping[int, Any], prefixed: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.get(2):
        steps.append(normalizers.Precompiled(spec[2]))
    if spec.get(4, 1):
        steps.append(normalizers.Replace(Regex(f"(?<![ {BLANK}])[ {BLANK}]++\\z|\\A +| +(?= )"), ""))
    if prefixed:
        steps.append(normalizers.Prepend(BLANK))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", BLANK)])
