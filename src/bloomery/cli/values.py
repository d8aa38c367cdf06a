"""Values as they are written in a recipe, on the command line: 'Beam(n_beams=4)'. Nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, did_you_mean


def value_of(text: str, option: str, kinds: Mapping[str, type[Config]]) -> Any:
    """The value that a text spells: a kind with its fields, which are literals or such values again; without fields, its name will do.

    Raises:
        ConfigError: it spells none.
    """
    try:
        return _built(ast.parse(text.strip(), mode="eval").body, option, kinds)
    except (SyntaxError, ValueError):
        example = f"{next(iter(kinds))}(…)"
        raise ConfigError(f"{option} {text!r} does not read as a value; write it as in a recipe, {example}, with literals") from None


def _built(node: ast.expr, option: str, kinds: Mapping[str, type[Config]]) -> Any:
    if isinstance(node, ast.Name):
        return _kind(node.id, option, kinds)()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        kind = _kind(node.func.id, option, kinds)
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ConfigError(f"{option} {ast.unparse(node)!r} has a value without a name; write {node.func.id}(name=value)")
        return kind(**{keyword.arg: _built(keyword.value, option, kinds) for keyword in node.keywords if keyword.arg})
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_built(child, option, kinds) for child in node.elts)
    return ast.literal_eval(node)


def _kind(name: str, option: str, kinds: Mapping[str, type[Config]]) -> type[Config]:
    if name not in kinds:
        raise ConfigError(f"{option} knows no {name!r}; {did_you_mean(name, kinds, 'it knows ' + ', '.join(kinds))}")
    return kinds[name]
