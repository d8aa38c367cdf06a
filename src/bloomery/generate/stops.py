"""Text as it is written: whole characters, and strings that end it wherever tokens begin and end."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence

from bloomery.text.tokenizer import Tokenizer


class Stops:
    """Strings that end a text; they are no part of it.

    Args:
        strings: none of them empty.
        tokenizer: of the text.
    """

    def __init__(self, strings: Sequence[str], tokenizer: Tokenizer) -> None:
        self._stops = [string.encode() for string in strings]
        self._longest = max(map(len, self._stops), default=0)
        self._tokenizer = tokenizer

    def ended_by(self, new: Sequence[int]) -> bool:
        """Whether the last of some tokens completes one of them."""
        if not self._stops:
            return False
        *before, last = new
        tail = self._tokenizer.decode_bytes([last])
        needed = len(tail) + self._longest - 1
        for token in reversed(before):
            if len(tail) >= needed:
                break
            tail = self._tokenizer.decode_bytes([token]) + tail
        return self.first_in(tail) is not None

    def first_in(self, data: bytes) -> int | None:
        """Where the one begins that is complete first; None where none is. So the same text ends alike, whatever its tokens are."""
        found = [(at + len(stop), at) for stop in self._stops if (at := data.find(stop)) >= 0]
        return min(found)[1] if found else None

    def begun_by(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of one."""
        longest = min(self._longest - 1, len(data))
        return next((n for n in range(longest, 0, -1) if any(stop.startswith(data[len(data) - n :]) for stop in self._stops)), 0)

    def text(self, new: Sequence[int]) -> str:
        """What some tokens say, up to the first of them."""
        return "".join(self.streamed(new))

    def streamed(self, new: Iterable[int]) -> Iterator[str]:
        """Text as soon as it is sure: a character of several tokens waits for its last byte, and what may begin a stop for what follows."""
        decoder, held = codecs.getincrementaldecoder("utf-8")(errors="replace"), b""
        for token in new:
            held += self._tokenizer.decode_bytes([token])
            if (end := self.first_in(held)) is not None:
                held = held[:end]
                break
            sure = len(held) - self.begun_by(held)
            if piece := decoder.decode(held[:sure]):
                yield piece
            held = held[sure:]
        if rest := decoder.decode(held, final=True):
            yield rest
