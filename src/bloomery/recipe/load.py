"""Loading a recipe, or a task, from the Python file that the user names, and setting its dials.

Such a file is the user's own program, run because they asked for it by path; nothing that comes from a checkpoint or a data set is.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.recipe.graph import Recipe

Made = TypeVar("Made")


@dataclass(frozen=True)
class Dials(Generic[Made]):
    """What can be set on a recipe: name → (type, default), from the function's signature, and what it says of itself.

    Attributes:
        function: makes it.
        what: "recipe", or what else it makes.
    """

    function: Callable[..., Made]
    what: str = "recipe"

    @property
    def described(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""

    def defaults(self) -> dict[str, Any]:
        """Dial → default; dials without one are left out."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    @property
    def names(self) -> list[str]:
        """Of the dials."""
        return list(inspect.signature(self.function).parameters)

    def known(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Those of some dials that it has."""
        return {name: text for name, text in texts.items() if name in self.names}

    def set(self, texts: Mapping[str, str]) -> Made:
        """What the function makes with some dials set from text.

        Raises:
            ConfigError: no such dial, a missing one, or a value of another type.
        """
        where = f"{self.what} {self.function.__name__!r}"
        hints = get_type_hints(self.function)
        parameters = inspect.signature(self.function).parameters
        values: dict[str, Any] = {}
        for name, text in texts.items():
            if name not in parameters:
                raise ConfigError(f"{where} has no dial {name!r}; {did_you_mean(name, parameters, f'it has {_listed(parameters)}')}")
            try:
                values[name] = TypeAdapter(hints[name]).validate_python(text)
            except ValidationError as error:
                message = error.errors()[0]["msg"]
                raise ConfigError(f"{where}: {name}={text!r}: {message[0].lower()}{message[1:]}") from None
        for name, parameter in parameters.items():
            if name not in values and parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"{where} needs {name}; add --{name.replace('_', '-')} VALUE")
        return self.function(**values)


def load_recipe(spec: str) -> Dials[Recipe]:
    """The recipe function that `path.py` or `path.py:function` names; without a function, the one called like the file.

    Raises:
        ConfigError: the file is not there, fails, or has no such function.
    """
    return Dials(_function(spec, "recipe"))


def load_task(spec: str) -> Dials[Any]:
    """Likewise, a function that returns an `EvalTask`, or a tuple of them."""
    return Dials(_function(spec, "task"), "task")


def _function(spec: str, what: str) -> Callable[..., Any]:
    path_text, _, function_name = spec.partition(":")
    path = Path(path_text)
    if not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.exists() else [], n=1)
        remedy = f"did you mean {path.parent / near[0]}?" if near else "give the path of a .py file"
        raise ConfigError(f"there is no {what} file {path_text}; {remedy}")
    name = function_name or path.stem
    module_spec = importlib.util.spec_from_file_location(f"{what}_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"{path_text} is not a Python file; a {what} is a .py file with a function called {path.stem}")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    functions = {k: v for k, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__ and not k.startswith("_")}
    if name not in functions:
        raise ConfigError(f"{path_text} has no function {name!r}; it has {_listed(functions)}")
    return functions[name]


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
