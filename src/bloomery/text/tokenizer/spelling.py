"""What a tokenizer file says about its tokens: the bytes that each stands for, and what of a text they cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bloomery.text.tokenizer.alphabet import BLANK, BYTE_ALPHABET, BYTE_TOKENS

Plain = dict[str, Any]
"""A `tokenizer.json`, or a part of it."""


class Spelling(NamedTuple):
    """How ids become text again.

    Attributes:
        bytes_of: the bytes that a token, as the vocabulary spells it, stands for.
        leads: whether the first token of a text brings a blank that was not in the text.
    """

    bytes_of: Callable[[str], bytes]
    leads: bool


def spelling(plain: Plain) -> Spelling:
    """How the tokens of a tokenizer file are spelled, as its decoder says."""
    parts = list(flat(plain.get("decoder"), "decoders"))
    kinds = {part["type"] for part in parts}
    if "ByteLevel" in kinds:
        return Spelling(_byte_level, leads=False)
    if not parts:
        return Spelling(lambda token: f" {token}".encode(), leads=True)
    changes = [_change(part) for part in parts if part["type"] in ("Replace", "Metaspace", "WordPiece", "BPEDecoder")]
    bytes_of_token = {token: bytes([byte]) for byte, token in enumerate(BYTE_TOKENS)} if "ByteFallback" in kinds else {}

    def bytes_of(token: str) -> bytes:
        if token in bytes_of_token:
            return bytes_of_token[token]
        for change in changes:
            token = change(token)
        return token.encode()

    strips = any(part["type"] == "Strip" and part["start"] for part in parts)
    prefixed = any(part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never" for part in parts)
    return Spelling(bytes_of, leads="WordPiece" in kinds or strips or prefixed)


def losses(plain: Plain) -> tuple[str, ...]:
    """What of a text does not survive its ids, in words; nothing for a tokenizer that gives every text back."""
    lost = []
    normalisers, steps = list(flat(plain.get("normalizer"), "normalizers")), list(flat(plain.get("pre_tokenizer"), "pretokenizers"))
    changing = [part["type"] for part in normalisers if part["type"] != "Prepend" and not _spells_blanks(part)]
    if changing:
        lost.append(f"what {', '.join(changing)} changes")
    if any(part["type"] in ("WhitespaceSplit", "Whitespace", "BertPreTokenizer") or part.get("behavior") == "Removed" for part in steps):
        lost.append("which white space stood between words")
    if any(part["type"] == "Metaspace" for part in steps) or any(map(_spells_blanks, normalisers)):
        lost.append("the difference between ▁ and a blank")
    model = plain["model"]
    vocabulary = {entry[0] for entry in model["vocab"]} if model["type"] == "Unigram" else set(model["vocab"])
    spelled_in_bytes = any(part["type"] == "ByteLevel" for part in steps) and vocabulary.issuperset(BYTE_ALPHABET)
    falls_back = model.get("byte_fallback") and vocabulary.issuperset(BYTE_TOKENS)
    if not spelled_in_bytes and not falls_back:
        lost.append("what is outside the vocabulary")
    return tuple(lost)


def flat(part: Plain | None, children: str) -> Iterator[Plain]:
    """The parts of a sequence of parts, however it is nested."""
    if part is not None and part["type"] == "Sequence":
        for child in part[children]:
            yield from flat(child, children)
    elif part is not None:
        yield part


def _byte_level(token: str) -> bytes:
    return bytes(BYTE_OF[char] for char in token) if BYTE_OF.keys() >= set(token) else token.encode()


def _change(part: Plain) -> Callable[[str], str]:
    match part["type"]:
        case "Replace":
            return lambda token: token.replace(part["pattern"].get("String", "\0"), part["content"])
        case "Metaspace":
            return lambda token: token.replace(part["replacement"], " ")
        case "WordPiece":
            return lambda token: token.removeprefix(part["prefix"]) if token.startswith(part["prefix"]) else f" {token}"
        case _:
            return lambda token: token.replace(part["suffix"], " ")


def _spells_blanks(part: Plain) -> bool:
    return part["type"] == "Replace" and part["pattern"].get("String") == " " and part["content"] == BLANK


BYTE_OF = {char: byte for byte, char in enumerate(BYTE_ALPHABET)}
