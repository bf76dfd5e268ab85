"""Typed parameters: what a user may set, with a default for everything and an error that names what is wrong."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cirbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters with a default each; subclass it, and describe every field under ``Attributes:``."""


P = TypeVar("P", bound=Parameters)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One parameter, for help pages.

    Attributes:
        name: What is typed before ``=``.
        default: The value where none is given.
        text: Its description; empty where the docstring has none.
    """

    name: str
    default: Any
    text: str


def parse(kind: type[P], values: Mapping[str, Any], *, owner: str, base: P | None = None) -> P:
    """Build parameters from texts or TOML values.

    Args:
        kind: The type of the parameters.
        values: What was set, by name; texts are converted, and commas separate the values of a list.
        owner: Whose parameters they are, for messages.
        base: Where the values that were not set come from; the defaults if not given.

    Raises:
        UnknownName: There is no such parameter.
        UsageError: A value does not fit.
    """
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in values:
        if name not in fields:
            raise UnknownName(f"parameter of {owner}", name, fields)
    converted = {name: _convert(value, fields[name], owner) for name, value in values.items()}
    start = base if base is not None else kind()
    try:
        return msgspec.structs.replace(start, **converted)
    except ValueError as error:
        raise UsageError(f"The parameters of {owner} contradict each other: {error}") from error


def pairs(assignments: Iterable[str]) -> dict[str, str]:
    """Split texts of the form ``key=value``.

    Raises:
        UsageError: One has no ``=``.
    """
    split = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"A parameter is set by KEY=VALUE, not {text!r}.", hint="For instance: --set weight=0.5")
        split[key.strip()] = value.strip()
    return split


def read_toml(file: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        OSError: It cannot be read.
        UsageError: It is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not TOML: {error}.") from error


def describe(kind: type[Parameters]) -> list[Field]:
    """List the parameters with their defaults and descriptions."""
    texts: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        texts |= _attributes(inspect.cleandoc(ancestor.__dict__.get("__doc__") or ""))
    default = kind()
    return [Field(name, getattr(default, name), texts.get(name, "")) for name in kind.__struct_fields__]


def takes_list(kind: type[Parameters], name: str) -> bool:
    """Say whether the parameter ``name`` is a list, of which commas separate the values."""
    (field,) = (field for field in msgspec.structs.fields(kind) if field.name == name)
    return _is_list(field)


def _is_list(field: msgspec.structs.FieldInfo) -> bool:
    return isinstance(msgspec.inspect.type_info(field.type), _LISTS)


def _convert(value: Any, field: msgspec.structs.FieldInfo, owner: str) -> Any:
    if isinstance(value, str) and _is_list(field):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        known = getattr(msgspec.inspect.type_info(field.type), "values", ())
        choice = f"It is one of {', '.join(map(str, known))}. " if known else ""
        raise UsageError(
            f"The parameter {field.name} of {owner} cannot be {value!r}: {error}.",
            hint=f"{choice}Its default is {field.default!r}.",
        ) from error


_LISTS = (msgspec.inspect.VarTupleType, msgspec.inspect.TupleType, msgspec.inspect.ListType)


def _attributes(docstring: str) -> dict[str, str]:
    """The descriptions under ``Attributes:`` of a docstring in Google style."""
    _, _, section = docstring.partition("Attributes:\n")
    found: dict[str, str] = {}
    for line in section.splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif line.startswith("     ") and found:
            found[name] = f"{found[name]} {line.strip()}"
        elif line.strip() and not line.startswith(" "):
            break
    return found
