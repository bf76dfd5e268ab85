"""JSON files with a schema version: read strictly, up to a size, and brought up to date where they are older."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from cirbench.errors import CorruptFile, MissingData
from cirbench.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Migration = Callable[[dict[str, Any]], dict[str, Any]]

T = TypeVar("T")

LIMIT = 16 << 20
"""Bytes; what we write is far smaller, so a larger file is not ours."""


class _Version(msgspec.Struct):
    schema_version: Annotated[int, msgspec.Meta(ge=1)]


def read_versioned(
    path: Path,
    kind: type[T],
    *,
    version: int,
    migrations: Mapping[int, Migration] | None = None,
    limit: int = LIMIT,
    hint: str | None = None,
) -> T:
    """Read a file that carries a ``schema_version``.

    Args:
        path: The file.
        kind: What it holds, in its newest form.
        version: Of that form.
        migrations: By version, how to turn the content of a file of that version into the next one's.
        limit: In bytes; a larger file is not read.
        hint: What helps against damage.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged, too large, or was written by a newer version.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > limit:
        raise CorruptFile(f"{path} is larger than {limit:,} bytes, which no file of its kind is.", hint=hint)
    try:
        values = msgspec.json.decode(content, type=dict[str, Any])
        found = msgspec.convert(values, _Version).schema_version
        if found > version:
            raise CorruptFile(
                f"{path} has schema version {found}; this cirbench reads up to {version}.", hint="Upgrade cirbench."
            )
        for step in range(found, version):
            values = (migrations or {})[step](values)
        return msgspec.convert(values, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise CorruptFile(f"{path} is damaged: {error}.", hint=hint) from error


def write_versioned(path: Path, value: msgspec.Struct) -> None:
    """Write a value that carries its ``schema_version`` as indented JSON, atomically."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
