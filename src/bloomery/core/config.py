"""`Config`: the frozen, typed value that everything configurable is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from bloomery.core.errors import ConfigError, did_you_mean


class Config(BaseModel):
    """A frozen, keyword-only value whose fields say all there is to know about it.

    Subclass it and declare typed fields, each with a docstring below that gives its meaning and unit. Unknown fields, wrong types and
    failed checks raise `ConfigError` naming the field and the nearest remedy. Rules across fields go into `check`.

    Two configs are equal when their class and fields are; nothing can be assigned after construction; use `replace`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=False, arbitrary_types_allowed=True, use_attribute_docstrings=True, validate_default=True,
    )

    contract: ClassVar[int] = 1
    """Bumped by the author when the same fields come to mean something else; part of the identity."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(explain(type(self), fields, error)) from None

    def model_post_init(self, context: Any, /) -> None:
        self.check()

    def check(self) -> None:
        """Checks the rules that join several fields; raises `ConfigError` via `self.refuse`."""

    def refuse(self, field: str, rule: str) -> ConfigError:
        """The error for a field that breaks `rule`: "LlamaConfig.n_heads=10 does not divide …"."""
        return ConfigError(f"{type(self).__name__}.{field}={getattr(self, field)!r} {rule}")

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like any other; what was left to follow from other fields follows them still."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **changes})

    @classmethod
    def kind(cls) -> str:
        """The name that this class has in identities, manifests and store folders."""
        return cls.__name__

    def identity(self, path: str = "") -> dict[str, Any]:
        """The plain data by which this value counts in the keys of what contains it: kind, contract and the fields that are not default."""
        plain: dict[str, Any] = {"kind": self.kind()}
        if self.contract != 1:
            plain["contract"] = self.contract
        return plain | {name: to_plain(v, f"{path}.{name}" if path else name) for name, v in self.non_default_fields().items()}

    def non_default_fields(self) -> dict[str, Any]:
        """The fields whose value differs from the default, in declaration order: the fields that make up the identity."""
        return {name: getattr(self, name) for name, field in type(self).model_fields.items() if not _is_default(self, name, field)}

    def __hash__(self) -> int:
        """Of equal values the same, also where fields are mappings."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return hash((type(self), *(frozenset(v.items()) if isinstance(v, Mapping) else v for v in values)))

    def __str__(self) -> str:
        return f"{self.kind()}({', '.join(f'{k}={v}' for k, v in self.non_default_fields().items())})"


def _is_default(config: Config, name: str, field: FieldInfo) -> bool:
    return not field.is_required() and getattr(config, name) == field.get_default(call_default_factory=True, validated_data=vars(config))


def to_plain(value: Any, path: str = "") -> Any:
    """The value as JSON-able data; each config as its `identity`.

    Args:
        value: a literal, Config, enum, path, or a mapping or sequence of them.
        path: where it was found, for the error message.

    Raises:
        ConfigError: for anything else, a callable above all: its identity cannot be known.
    """
    if isinstance(value, Config):
        return value.identity(path)
    if isinstance(value, Enum):
        return to_plain(value.value, path)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v, f"{path}[{k}]") for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [to_plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
    raise ConfigError(f"{path}={value!r} cannot be part of an identity; use a literal, a Config, or a tuple or dict of them")


def flatten(plain: Any, path: str = "") -> dict[str, Any]:
    """Nested plain data as one level: {"model.n_layers": 6, …}. Used by golden configs and diffs."""
    if isinstance(plain, dict) and plain:
        return {k: v for name, child in plain.items() for k, v in flatten(child, f"{path}.{name}" if path else name).items()}
    if isinstance(plain, list) and plain:
        return {k: v for i, child in enumerate(plain) for k, v in flatten(child, f"{path}[{i}]").items()}
    return {path: plain}


def explain(cls: type[BaseModel], fields: dict[str, Any], error: ValidationError) -> str:
    """One sentence for the first thing that is wrong with `fields`, with the nearest remedy."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt field also shows up as a missing one
    where = ".".join(str(part) for part in first["loc"])
    known = list(cls.model_fields)
    if first["type"] == "extra_forbidden":
        remedy = did_you_mean(where, known, f"the fields are {', '.join(known)}")
        return f"{cls.__name__} has no field {where!r}; {remedy}"
    if first["type"] == "missing":
        return f"{cls.__name__}.{where} is missing; give it a value"
    message = first["msg"].removeprefix("Value error, ")
    return f"{cls.__name__}.{where}={first['input']!r}: {message[0].lower()}{message[1:]}"
