"""The project's own sources as syntax trees, for the tests of the house."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "bloomery"


@cache
def modules() -> dict[str, ast.Module]:
    """Path below the package → syntax tree."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def room(path: str) -> str:
    """The room that a module is in; "" for the package itself."""
    return path.split("/")[0] if "/" in path else ""
