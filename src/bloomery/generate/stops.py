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
        spelling = Spelling(self, self._tokenizer)
        for token in new:
            if piece := spelling.add(token):
                yield piece
            if spelling.stopped:
                break
        if rest := spelling.rest():
            yield rest


class Spelling:
    """The text of tokens that come one by one, as soon as it is sure.

    Args:
        stops: what ends it.
        tokenizer: of the tokens.

    Attributes:
        stopped: whether one of the stops was there; what comes behind it is no part of the text.
    """

    def __init__(self, stops: Stops, tokenizer: Tokenizer) -> None:
        self.stopped = False
        self._stops, self._tokenizer = stops, tokenizer
        self._decoder, self._held = codecs.getincrementaldecoder("utf-8")(errors="replace"), b""

    def add(self, token: int) -> str:
        """What is sure now and was not before; nothing more once it has stopped."""
        if self.stopped:
            return ""
        held = self._held + self._tokenizer.decode_bytes([token])
        if (end := self._stops.first_in(held)) is not None:
            self.stopped, self._held = True, held[:end]
            return ""
        sure = len(held) - self._stops.begun_by(held)
        self._held = held[sure:]
        return self._decoder.decode(held[:sure])

    def rest(self) -> str:
        """What was held back, now that no more comes."""
        held, self._held = self._held, b""
        return self._decoder.decode(held, final=True)
