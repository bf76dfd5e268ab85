"""Typed parameters: what a user may set, with a default for everything and an error that names what is wrong."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec

from cirbench.errors import MissingData, UnknownName, UsageError, excerpt, quoted
from cirbench.support.console import typed
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters with a default each; subclass it, and describe every field under ``Attributes:``.

    What is set always takes effect or is refused, by two declarations that subclasses add to:

    - ``EXCLUSIVE``: groups of parameters that replace each other. Setting one clears the others, which a preset or a
      default may have set, to null; setting two is an error. At most one of a group cannot be null: it is what
      applies where all others are.
    - ``ONLY_WITH``: by parameter, another one and the value that it must have, or a tuple of such values, or setting it
      would change nothing.
    """

    EXCLUSIVE: ClassVar[tuple[tuple[str, ...], ...]] = ()
    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {}


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
        UsageError: A value does not fit, or would have no effect beside the others.
    """
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in values:
        if name not in fields:
            raise UnknownName(f"parameter of {owner}", name, fields)
    converted = {name: _convert(value, fields[name], owner) for name, value in values.items()}
    start = base if base is not None else kind()
    try:
        parsed = msgspec.structs.replace(start, **_cleared(kind, converted, owner), **converted)
    except ValueError as error:
        raise UsageError(f"The parameters of {owner} contradict each other: {error}") from error
    _refuse_inert(parsed, converted, owner)
    return parsed


def _cleared(kind: type[Parameters], given: Mapping[str, Any], owner: str) -> dict[str, None]:
    """The parameters that those given replace, each as null."""
    nullable = {field.name for field in msgspec.structs.fields(kind) if _can_be_null(field)}
    cleared: dict[str, None] = {}
    for group in _groups(kind):
        chosen = [name for name in group if given.get(name) is not None]
        if len(chosen) > 1:
            raise UsageError(
                f"The parameters {' and '.join(chosen)} of {owner} exclude each other.",
                hint=f"Set one of them only: {' or '.join(typed(f'{name}={_text(given[name])}') for name in chosen)}",
            )
        if chosen:
            cleared |= {name: None for name in group if name in nullable and name not in given}
    return cleared


def _refuse_inert(parsed: Parameters, given: Mapping[str, Any], owner: str) -> None:
    for name, (other, value) in _conditions(type(parsed)).items():
        if given.get(name) not in (None, ()) and not _has(parsed, other, value):
            needed = " or ".join(f"{other}={_text(each)}" for each in _any_of(value))
            raise UsageError(
                f"The parameter {name} of {owner} has an effect only with {needed}, and {other} is "
                f"{_text(getattr(parsed, other))}.",
                hint=f"Add {needed}, or leave out {name}.",
            )


def _has(parameters: Parameters, name: str, value: Any) -> bool:
    return getattr(parameters, name) in _any_of(value)


def _any_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def settings_of(parameters: Parameters, base: Parameters | None = None) -> dict[str, Any]:
    """What to set to get these parameters again: all that are not null and have an effect beside the others.

    Args:
        parameters: What to get.
        base: What is there where nothing is set; a null that it has another value for is set as ``"null"``.
    """
    values = {name: value for name, value in msgspec.to_builtins(parameters).items() if value is not None}
    nullable = {field.name for field in msgspec.structs.fields(type(parameters)) if _can_be_null(field)}
    inert = {
        name for name, (other, value) in _conditions(type(parameters)).items() if not _has(parameters, other, value)
    }
    for group in _groups(type(parameters)):
        if any(name in values for name in group if name in nullable):
            inert.update(name for name in group if name not in nullable)
    cleared = {name for group in _groups(type(parameters)) if any(each in values for each in group) for name in group}
    nulls = {
        name: "null"
        for name in type(parameters).__struct_fields__
        if getattr(parameters, name) is None and getattr(base, name, None) is not None and name not in cleared
    }
    return {**{name: value for name, value in values.items() if name not in inert}, **nulls}


def named_files(parameters: Parameters) -> dict[str, str]:
    """Return a digest of each file and folder that a parameter names, also within a list, by the text that names it.

    A file counts by its content; a folder, which may hold a data set, by the names, sizes and times of its files.
    """
    found: dict[str, str] = {}
    pending = [msgspec.to_builtins(parameters)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
        # Not Path.is_file, which fails for texts that are too long for a path.
        elif isinstance(value, str) and os.path.isfile(value):  # noqa: PTH113
            found[value] = sha256_of_file(Path(value))
        elif isinstance(value, str) and value and os.path.isdir(value):  # noqa: PTH112
            states = {str(path.relative_to(value)): path.stat() for path in Path(value).rglob("*") if path.is_file()}
            found[value] = digest([[name, each.st_size, each.st_mtime_ns] for name, each in sorted(states.items())])
    return found


def _groups(kind: type[Parameters]) -> list[tuple[str, ...]]:
    return [group for ancestor in kind.__mro__ for group in ancestor.__dict__.get("EXCLUSIVE", ())]


def _conditions(kind: type[Parameters]) -> dict[str, tuple[str, Any]]:
    declared = [ancestor.__dict__.get("ONLY_WITH", {}) for ancestor in reversed(kind.__mro__)]
    return {name: condition for conditions in declared for name, condition in conditions.items()}


def _can_be_null(field: msgspec.structs.FieldInfo) -> bool:
    kind = msgspec.inspect.type_info(field.type)
    return isinstance(kind, msgspec.inspect.UnionType) and kind.includes_none


def _text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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


def read_options(
    file: Path | None, given: Mapping[str, Any], *, fields: Sequence[str], sections: Sequence[str]
) -> dict[str, Any]:
    """Combine a TOML file with options, which win; those that are ``None`` were not given.

    Args:
        file: The file, or ``None`` for the options alone.
        given: The options by name.
        fields: Every name that there is.
        sections: Those of them that are tables, which are combined entry by entry.

    Raises:
        MissingData: The file cannot be read.
        UsageError: It is not TOML.
        UnknownName: It has a key that is not one of ``fields``.
    """
    values = {} if file is None else read_toml(file)
    for key in values:
        if key not in fields:
            raise UnknownName(f"key in {file}", key, fields)
    for section in sections:
        if not isinstance(values.get(section, {}), dict):
            raise UsageError(f"{file} gives {section} as {quoted(values[section])}; it is a table, [{section}].")
    combined = {section: {**values.pop(section, {}), **(given.get(section) or {})} for section in sections}
    chosen = {name: value for name, value in given.items() if value is not None and name not in sections}
    return {**values, **chosen, **combined}


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        MissingData: It cannot be read.
        UsageError: It is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingData(f"There is no configuration file {file}.") from error
    except OSError as error:
        raise MissingData(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # TOML that is wrong, not UTF-8, or has a number without end
        raise UsageError(f"{file} is not TOML: {excerpt(error)}.") from error


def require_numbers(value: Any, place: str = "$") -> None:
    """Refuse numbers that are not finite or need more than 64 bits, which TOML and texts can hold, at any depth.

    Raises:
        msgspec.ValidationError: There is one; the message says where.
    """
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            require_numbers(part, f"{place}.{key}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise msgspec.ValidationError(f"Expected a finite number, got {value} - at `{place}`")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise msgspec.ValidationError(f"Expected a number of at most 64 bits - at `{place}`")


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
        converted = msgspec.convert(value, field.type, strict=False)
        require_numbers(converted, field.name)
        return converted
    except msgspec.ValidationError as error:
        known = getattr(msgspec.inspect.type_info(field.type), "values", ())
        choice = f"It is one of {', '.join(map(str, known))}. " if known else ""
        raise UsageError(
            f"The parameter {field.name} of {owner} cannot be {quoted(value)}: {error}.",
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
