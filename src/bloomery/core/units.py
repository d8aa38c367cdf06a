"""Quantities as people read them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

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


def human_seconds(value: float) -> str:
    """75.3 → '1m15s'."""
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
