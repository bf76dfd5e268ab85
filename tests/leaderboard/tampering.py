"""Ways to change an entry, as a careless hand or a forger would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.leaderboard.check import Verdict, check_entries
from cirbench.leaderboard.entry import Entry, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Values = dict[str, Any]


def folder_of(entries: Path) -> Path:
    return next(path for path in entries.iterdir() if path.is_dir())


def verdict(entries: Path) -> Verdict:
    return check_entries(entries)[0]


def rewrite(entries: Path, change: Callable[[Values], object], *, seal: bool = True) -> None:
    """Change the content of the entry, and seal it again as a forger would."""
    path = folder_of(entries) / "entry.json"
    values = json.loads(path.read_text())
    change(values)
    if seal:
        values = msgspec.to_builtins(sealed(msgspec.convert(values, Entry)))
    path.write_text(json.dumps(values))


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*at, key))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from leaves(part, (*at, place))
    else:
        yield at


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x"


def put(values: Any, at: tuple[Any, ...], new: Any) -> None:
    for key in at[:-1]:
        values = values[key]
    values[at[-1]] = new
