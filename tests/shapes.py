"""Checks shapes wherever a function or a dataclass of a package names some, and costs nothing where none are named.

jaxtyping's own import hook wraps every function and checks it at every call, which took a fifth of the time of all tests.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType
from typing import Any

import beartype
import jaxtyping
import torch
from torch import Tensor


def check_shapes(packages: Sequence[str]) -> None:
    """Checks shapes in modules of these packages that are imported from now on."""
    sys.meta_path.insert(0, _Finder(packages))


def shaped(target: Callable) -> Callable:
    """A function or a dataclass that is held to the shapes in its annotations, once for each set of shapes and types that it is given."""
    checked = jaxtyping.jaxtyped(target, typechecker=beartype.beartype)
    if isinstance(target, type):
        return checked
    seen: set[tuple] = set()

    @wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return target(*args, **kwargs)
        given = (*map(_kind, args), *((name, _kind(value)) for name, value in kwargs.items()))
        if given in seen:
            return target(*args, **kwargs)
        result = checked(*args, **kwargs)
        seen.add(given)
        return result

    return call


def _kind(value: object) -> object:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else type(value)


class _Finder(PathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith(tuple(f"{package}." for package in self.packages)) and fullname not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Of the source, decorated; never of bytecode, which others share."""
        path = self.get_filename(fullname)
        tree = _Decorator().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Decorator(ast.NodeTransformer):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        after = sum(isinstance(one, ast.Expr) or getattr(one, "module", None) == "__future__" for one in node.body[:2])
        self.generic_visit(node)
        node.body.insert(after, ast.copy_location(ast.parse("from tests.shapes import shaped as _shaped").body[0], node.body[0]))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if any(_names_a_shape(one) for one in (*(argument.annotation for argument in every), node.returns)):
            node.decorator_list.append(ast.copy_location(ast.Name("_shaped", ast.Load()), node))  # innermost: others hide annotations
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        if any(isinstance(one, ast.AnnAssign) and _names_a_shape(one.annotation) for one in node.body):
            node.decorator_list.insert(0, ast.copy_location(ast.Name("_shaped", ast.Load()), node))  # outermost: what dataclass has made
        return node


def _names_a_shape(annotation: ast.expr | None) -> bool:
    """As `Float[Tensor, "batch time"]` does."""
    return annotation is not None and any(
        isinstance(one, ast.Subscript) and isinstance(one.value, ast.Name) and hasattr(jaxtyping, one.value.id) for one in ast.walk(annotation)
    )
