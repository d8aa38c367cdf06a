"""Texts cut into pieces to show: what matters is marked, what is too long is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

CONTEXT = 120  # characters shown on either side of a span
WORD = re.compile(r"\S+\s*|\s+")
WORDS_COMPARED = 400  # of each text, behind what they begin with in common: the comparison takes the product of both
SPANS_SHOWN = 50


class Piece(NamedTuple):
    """A stretch of text; `kind` is "" for plain text, "mark" for what is meant, "gap" for a sign that something is left out."""

    text: str
    kind: str = ""


GAP = Piece(" … ", "gap")


def excerpt(text: str, spans: Sequence[tuple[int, int]] = (), chars: int = 600) -> list[Piece]:
    """At most about `chars` characters of a text: its beginning, or the surroundings of its spans, with these marked.

    Args:
        text: of any length.
        spans: pairs of (start, end), in any order; they may overlap, and what lies outside of the text is ignored.
        chars: how much to show.
    """
    marks = _merged([(max(0, start), min(end, len(text))) for start, end in spans])[:SPANS_SHOWN]
    if not marks:
        return [Piece(text)] if len(text) <= chars else [Piece(text[:chars]), GAP]
    if len(text) <= chars:
        windows = [(0, len(text))]
    else:
        context = min(CONTEXT, chars // 3)
        windows, left = [], chars
        for low, high in _merged([(max(0, start - context), min(len(text), end + context)) for start, end in marks]):
            if left <= 0:
                break
            windows.append((low, min(high, low + left)))
            left -= high - low
    pieces: list[Piece] = []
    for low, high in windows:
        if low > (0 if not pieces else -1):
            pieces.append(GAP)
        at = low
        for start, end in marks:
            if start < high and end > at:
                pieces += [Piece(text[at : max(at, start)]), Piece(text[max(at, start) : min(end, high)], "mark")]
                at = min(end, high)
        pieces.append(Piece(text[at:high]))
    if windows[-1][1] < len(text):
        pieces.append(GAP)
    return [piece for piece in pieces if piece.text]


def differences(one: str, other: str, chars: int = 1200) -> tuple[list[Piece], list[Piece]]:
    """Two texts in pieces, with the words marked that the other one lacks.

    What they begin with in common is shortened, and behind it 400 words of each are compared, so that it takes no time on any input.
    """
    words = WORD.findall(one[: 8 * chars]), WORD.findall(other[: 8 * chars])
    alike = (a.split() == b.split() for a, b in zip(*words, strict=False))
    same = next((place for place, equal in enumerate(alike) if not equal), min(map(len, words)))
    tails = [side[same : same + WORDS_COMPARED] for side in words]
    marked: tuple[list[Piece], list[Piece]] = ([], [])
    matcher = SequenceMatcher(None, [w.strip() for w in tails[0]], [w.strip() for w in tails[1]], autojunk=True)
    for what, a, b, c, d in matcher.get_opcodes():
        for side, (start, end) in enumerate(((a, b), (c, d))):
            text = "".join(tails[side][start:end])
            words_alone = text.rstrip()
            marked[side].extend([Piece(words_alone, "" if what == "equal" else "mark"), Piece(text[len(words_alone) :])])
    return tuple(_shortened("".join(side[:same]), pieces, chars) for side, pieces in zip(words, marked, strict=True))  # type: ignore[return-value]


def _shortened(head: str, pieces: list[Piece], chars: int) -> list[Piece]:
    """The head's last words and the pieces, `chars` characters in all."""
    total = sum(len(piece.text) for piece in pieces)
    room = max(2 * CONTEXT, chars - total)
    shown = [GAP, Piece(head[-room:])] if len(head) > room else [Piece(head)]
    left = chars - len(shown[-1].text)
    for piece in pieces:
        if left <= 0:
            shown.append(GAP)
            break
        shown.append(Piece(piece.text[:left], piece.kind))
        left -= len(piece.text)
    return [piece for piece in shown if piece.text]


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
