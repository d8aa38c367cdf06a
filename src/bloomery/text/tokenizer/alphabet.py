"""How tokenizer files spell what cannot be printed: bytes and blanks."""

from __future__ import annotations

BLANK = "▁"
"""U+2581, by which SentencePiece and its likes spell the blank."""

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The tokens by which they spell single bytes."""


def _byte_alphabet() -> tuple[str, ...]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(spare)) for byte in range(256))


BYTE_ALPHABET = _byte_alphabet()
"""The character by which byte-level BPE spells each byte: itself where it can be printed, else one from U+0100 on.

Source: `bytes_to_unicode` of GPT-2's encoder.py (OpenAI, MIT).
"""
