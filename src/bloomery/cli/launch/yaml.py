"""Plain data as YAML, for manifests that people read. Whatever the data, reading it gives the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

Plain = Mapping[str, "Plain"] | Sequence["Plain"] | str | int | float | bool | None
SPECIAL = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # words that some readers take for something else


def documents(values: Iterable[Plain]) -> str:
    """Several documents in one file."""
    return "---\n".join("\n".join(_lines(value)) + "\n" for value in values)


def _lines(value: Plain) -> Iterator[str]:
    """The lines of a mapping or a sequence, or the one of a scalar, from the left margin."""
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _under(f"{_key(key)}:", child)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for child in value:
            first, *rest = _lines(child)
            yield f"- {first}"
            yield from (f"  {line}" if line else "" for line in rest)
    else:
        yield _scalar(value)


def _under(head: str, child: Plain) -> Iterator[str]:
    if isinstance(child, str) and _is_text(child):
        yield f"{head} |2"
        yield from (f"  {line}" if line else "" for line in child[:-1].split("\n"))
    elif isinstance(child, Mapping | Sequence) and not isinstance(child, str) and child:
        yield head
        yield from (f"  {line}" if line else "" for line in _lines(child))
    else:
        yield f"{head} {_scalar(child)}"


def _is_text(value: str) -> bool:
    """Whether it can stand as it is, indented: lines of printable characters, of which the last one is not empty."""
    printable = all(character == "\n" or character.isprintable() for character in value)
    return printable and value.count("\n") > 1 and value.endswith("\n") and not value.endswith("\n\n") and value.strip() != ""


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", key) and key.lower() not in SPECIAL else _quoted(key)


def _scalar(value: Plain) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    def one(character: str) -> str:
        if character in '"\\':
            return f"\\{character}"
        return "\\n" if character == "\n" else character if character.isprintable() else f"\\U{ord(character):08x}"

    return '"' + "".join(map(one, text)) + '"'
