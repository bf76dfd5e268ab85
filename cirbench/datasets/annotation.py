"""Reading annotation files: decode them into types, and refuse one that is not what was published."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import msgspec

from cirbench.errors import CorruptFile, MissingData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")


def decode(path: Path, type: type[T]) -> T:
    """Decode a JSON file into ``type``.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not whole JSON of that type; the message names the place.
    """
    try:
        return msgspec.json.decode(read(path), type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_as_published(path, str(error)) from error


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, blank ones left out.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not UTF-8.
    """
    try:
        return [line for line in read(path).decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise not_as_published(path, f"byte {error.start} is not UTF-8") from error


def read(path: Path) -> bytes:
    """Read a file.

    Raises:
        MissingData: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error


def refuse(path: Path, problems: Iterable[str]) -> None:
    """Raise one error that tells every problem, if there is any.

    Raises:
        CorruptFile: There is one.
    """
    if told := "; ".join(problems):
        raise not_as_published(path, told)


def not_as_published(path: Path, problem: str) -> CorruptFile:
    """Say that a file is not what its authors published, and why."""
    return CorruptFile(
        f"{path} is not the file that was published: {problem.rstrip('.')}.",
        hint="Fetch the file again from the benchmark's authors.",
    )


def wrong_count(what: str, found: int, expected: int | None) -> Iterator[str]:
    """Yield a problem where a count is not the expected one; ``None`` expects nothing."""
    if expected is not None and found != expected:
        yield f"it holds {found} {what}, not {expected}"


def repeated(what: str, names: Iterable[object]) -> Iterator[str]:
    """Yield a problem that names everything that stands more than once."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        yield f"it holds {what} more than once: {some(twice)}"


def queries(ids: Sequence[object]) -> str:
    """Name queries."""
    return f"{'query' if len(ids) == 1 else 'queries'} {some(ids)}"


def some(names: Sequence[object], limit: int = 10) -> str:
    """List the first of ``names``, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
