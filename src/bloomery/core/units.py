"""Quantities as people read them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from bloomery.core.errors import ConfigError

Tokens = Annotated[int, Gt(0)]
"""A positive number of tokens."""
Steps = Annotated[int, Ge(0)]
"""A number of optimiser steps."""
Bytes = Annotated[int, Gt(0)]
"""A positive number of bytes."""


def human_count(value: float) -> str:
    """1234567 → '1.23M' (powers of 1000)."""
    return _scaled(value, 1000.0, ("", "k", "M", "B", "T", "P", "E", "Z"))


def human_bytes(value: float) -> str:
    """1536 → '1.50 KiB' (powers of 1024)."""
    return _scaled(value, 1024.0, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def count_of(text: str) -> float:
    """'1.5T' → 1.5e12: a number as people write it, powers of 1000.

    Raises:
        ConfigError: it is none.
    """
    return _read(text, 1000.0, ("k", "m", "b", "t", "p"), "1.5T or 200B, say")


def bytes_of(text: str) -> float:
    """'80GiB' → 85899345920: powers of 1024.

    Raises:
        ConfigError: it is no size.
    """
    return _read(text.lower().removesuffix("b").removesuffix("i"), 1024.0, ("k", "m", "g", "t", "p"), "80GiB, say")


def human_seconds(value: float) -> str:
    """75.3 → '1m15s', 0.0234 → '23ms'."""
    if 0 < value < 0.0995:
        return f"{1000 * value:.2g}ms"
    if value < 60:
        return f"{value:.1f}s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"


def _scaled(value: float, base: float, suffixes: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(suffixes) - 1:
        value, power = value / base, power + 1
    suffix = suffixes[power]
    return f"{value:.0f}{suffix}" if suffix in ("", " B") else f"{value:.3g}{suffix}"


def _read(text: str, base: float, suffixes: tuple[str, ...], example: str) -> float:
    written = text.strip().lower()
    power = suffixes.index(written[-1]) + 1 if written[-1:] in suffixes else 0
    try:
        number = float(written[:-1] if power else written)
    except ValueError:
        raise ConfigError(f"{text!r} is no number; write {example}") from None
    return number * base**power
