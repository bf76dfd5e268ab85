"""Rows of the boards with names and settings by which they can be told apart."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from cirbench.leaderboard.entry import read_entry
from cirbench.leaderboard.model import REPRODUCED, SERVER, Board, BoardRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cirbench.leaderboard.entry import Entry

HERE = (REPRODUCED, SERVER)
"""Badges of rows that cirbench made."""

_SETTING = re.compile(r"\((?P<name>[a-z ]+) (?P<value>\d+(?:\.\d+)?)\)$")
_MOST = 3

Settings = dict[str, dict[str, Any]]


def settings_of(boards: Sequence[Board], entries: Path) -> Settings:
    """Return what each row's method was set to, by the row's id; a published row says one in its name, if any.

    Raises:
        CorruptFile: An entry is damaged.
    """
    found: Settings = {}
    for row in (row for board in boards for row in board.rows):
        if row.badge in HERE:
            found[row.id] = _settings(read_entry(entries / row.id))
        elif match := _SETTING.search(row.title):
            found[row.id] = {match["name"].replace(" ", "_"): float(match["value"])}
    return found


def named(boards: Sequence[Board], settings: Settings) -> tuple[Board, ...]:
    """Call rows made here by their method and, where it has several on a backbone, by the settings that differ."""

    def name(row: BoardRow, kin: Sequence[BoardRow]) -> BoardRow:
        if row.badge not in HERE:
            return row
        others = [settings[other.id] for other in kin if other.badge in HERE and other.method == row.method]
        mine = settings[row.id]
        differing = [key for key in mine if any(other.get(key) != mine[key] for other in others)]
        said = " ".join([row.method, *(f"{key}={mine[key]}" for key in differing[:_MOST])])
        return dataclasses.replace(row, title=said)

    return tuple(
        dataclasses.replace(
            board,
            groups=tuple(
                dataclasses.replace(group, rows=tuple(name(row, group.rows) for row in group.rows))
                for group in board.groups
            ),
        )
        for board in boards
    )


def swept(
    rows: Sequence[tuple[Board, BoardRow]], settings: Settings
) -> Mapping[tuple[str, str], Mapping[str, list[tuple[float, BoardRow]]]]:
    """Find rows of one method that differ in one number alone.

    Returns:
        By board and setting, and then by the name of the curve: the rows with their values of the setting, in order.
    """
    found: dict[tuple[str, str], dict[tuple[Any, ...], list[tuple[float, BoardRow]]]] = {}
    for board, row in rows:
        mine = settings.get(row.id, {})
        for key, value in mine.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and key != "seed" and not row.partial:
                rest = tuple(sorted((other, str(each)) for other, each in mine.items() if other != key))
                same = (row.method, row.backbone, row.badge, rest)
                found.setdefault((board.id, key), {}).setdefault(same, []).append((float(value), row))
    curves = {
        key: {
            f"{_base(points[0][1])} on {same[1]}": sorted(points, key=lambda point: point[0])
            for same, points in groups.items()
            if len({value for value, _ in points}) > 1
        }
        for key, groups in found.items()
    }
    return {key: named for key, named in curves.items() if named}


def _settings(entry: Entry) -> dict[str, Any]:
    return {**entry.method.parameters, **(entry.method.training or {}), "seed": entry.seed}


def _base(row: BoardRow) -> str:
    return row.method if row.badge in HERE else _SETTING.sub("", row.title).strip()
