"""Markdown for cards, as the hub shows them: below a YAML head; what a text from anywhere says stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.stages.inert import one_line


def yaml_head(fields: Mapping[str, Any]) -> str:
    """The head. Values are written as JSON, which is YAML, too."""
    return "\n".join(["---", *(f"{name}: {json.dumps(value, ensure_ascii=True)}" for name, value in fields.items()), "---", ""])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, an empty one behind it."""
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def fenced(text: str, language: str = "text") -> list[str]:
    """The lines of a block that shows a text as it stands; its fence is longer than any in the text, so that none ends it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return [f"{fence}{language}", text, fence]


def plain(text: str) -> str:
    """Text that Markdown takes as it stands: on one line, and with every sign escaped that could mean something."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$&])", r"\\\1", one_line(text, 2000))
