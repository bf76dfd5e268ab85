"""Short names for the numbers of a board, and names for rows by which they can be told apart."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from cirbench.leaderboard.entry import read_entry
from cirbench.leaderboard.rows import REPRODUCED, SERVER, Board, BoardRow
from cirbench.metrics.table import METRICS, Label, parse_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.leaderboard.entry import Entry

_SHORT = {"Recall": "R", "Recall_subset": "Rs", "Recall_fractional": "R", "Hit_rate": "Hit"}
_MOST_headings = 10


@dataclasses.dataclass(frozen=True)
class Heading:
    """A column of numbers.

    Attributes:
        label: As results have it.
        short: As a table shows it.
        text: What it is, in a sentence.
        key: What the page's address calls it.
        shown: Whether the table shows it before anybody chose.
    """

    label: str
    short: str
    text: str
    key: str
    shown: bool


def headings(labels: Sequence[str]) -> tuple[Heading, ...]:
    """Name the columns of a board.

    Where there are many, the first two cut-offs of each metric are shown, and slices at the cut-off of the headline.
    """
    first = parse(labels[0])
    cutoffs: dict[str, list[int]] = {}
    found = []
    for text in labels:
        label = parse(text)
        if label.part is None:
            cutoffs.setdefault(label.metric, []).append(label.k)
            shown = label.k in cutoffs[label.metric][:2]
        else:
            shown = (label.metric, label.k) == (first.metric, first.k)
        key = text.replace(" ", "-").replace("[", ".").replace("]", "").replace("=", ".")
        found.append(Heading(text, short_label(text), long_label(text), key, shown or len(labels) <= _MOST_headings))
    return tuple(found)


def parse(text: str) -> Label:
    """Take a label apart; one that no protocol of ours reports, such as mAP without a cut-off, as far as it goes."""
    try:
        return parse_label(text)
    except ValueError:
        metric, _, rest = text.partition("[")
        by, _, part = rest.rstrip("]").partition("=")
        return Label(metric, 0, by=by.removeprefix("mean over ") or None, part=part or None)


def short_label(text: str) -> str:
    """Write ``"R@10 shirt"`` for ``"Recall@10[category=shirt]"``, ``"R@10 mean"`` for the mean over categories."""
    label = parse(text)
    return f"{_name(label, _SHORT.get(label.metric, label.metric))}{_slice(label)}"


def long_label(text: str) -> str:
    """Say what a number is: the metric's own sentence, the cut-off, and the slice."""
    label = parse(text)
    part = f"; {label.by}: {label.part}" if label.part else f"; mean over each {label.by}" if label.by else ""
    known = METRICS.get(label.metric)
    meaning = f": {known.title.rstrip('.')}" if known else ""
    return f"{_name(label, label.metric)}{meaning}{part}"


def _name(label: Label, metric: str) -> str:
    known = METRICS.get(label.metric)
    return metric if label.k == 0 or (known and known.names_cutoffs) else f"{metric}@{label.k}"


def _slice(label: Label) -> str:
    if label.part is not None:
        return f" {label.part.replace('_', ' ')}"
    return " mean" if label.by else ""


HERE = (REPRODUCED, SERVER)
"""Badges of rows that cirbench made."""

_SETTING = re.compile(r"\((?P<name>[a-z ]+) (?P<value>\d+(?:\.\d+)?)\)$")
_MOST_naming = 3

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
    """Call rows made here by their method and, where it has several on a backbone, by the settings that differ.

    Rows that differ in no setting are told apart by their runs.
    """
    return tuple(
        dataclasses.replace(
            board,
            groups=tuple(
                dataclasses.replace(group, rows=tuple(_apart(group.rows, settings))) for group in board.groups
            ),
        )
        for board in boards
    )


def _apart(rows: Sequence[BoardRow], settings: Settings) -> Iterator[BoardRow]:
    """The rows of a group; those that were made here with names that tell them apart."""
    here = [row for row in rows if row.badge in HERE]
    titles = {row.id: _said(row, [other for other in here if other.method == row.method], settings) for row in here}
    times = Counter(titles.values())
    for row in rows:
        title = titles.get(row.id, row.title)
        run = f" ({row.id.rpartition('--')[2]})" if times[title] > 1 and row.id in titles else ""
        yield dataclasses.replace(row, title=title + run)


def _said(row: BoardRow, kin: Sequence[BoardRow], settings: Settings) -> str:
    """The method of a row, with the settings in which it differs from others of its kind."""
    mine = settings[row.id]
    differing = [key for key in mine if any(settings[other.id].get(key) != mine[key] for other in kin)]
    return " ".join([row.method, *(f"{key}={mine[key]}" for key in differing[:_MOST_naming])])


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
    method = entry.method
    return {**method.parameters, **(method.training or {}), "data": method.trained_on, "seed": entry.seed}


def _base(row: BoardRow) -> str:
    return row.method if row.badge in HERE else _SETTING.sub("", row.title).strip()
