"""`inert`: text from anywhere, made safe to look at."""

from __future__ import annotations

RANGES = (
    (0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0x061C, 0x061C), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F), (0x2028, 0x202E),
    (0x2060, 0x206F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F),
)  # fmt: skip
"""Control characters, and the invisible ones that turn, hide or break lines of text; not tab and newline, nor the joiners that scripts need."""

PICTURES = {
    code: chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd" for low, high in RANGES for code in range(low, high + 1)
}


def inert(text: str) -> str:
    """The text with a visible sign for each character that would do something instead of being seen: no terminal obeys it.

    One character for one, so that spans of the text stay where they are.
    """
    return text.translate(PICTURES)


def one_line(text: str, chars: int = 200) -> str:
    """As `inert`, for a label: on one line, and no longer than `chars`."""
    line = inert(text[: 4 * chars].replace("\n", "␤").replace("\t", "␉"))
    return line if len(line) <= chars else line[: chars - 1] + "…"
