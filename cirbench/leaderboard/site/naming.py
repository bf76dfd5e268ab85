"""Short names for the numbers of a board, and rows that form a sweep."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cirbench.leaderboard.board import SETTING
from cirbench.metrics.table import METRICS, Label, parse_label, short_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cirbench.leaderboard.board import Board, BoardRow

_MOST_HEADINGS = 10


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
        found.append(Heading(text, short_label(text), long_label(text), key, shown or len(labels) <= _MOST_HEADINGS))
    return tuple(found)


def parse(text: str) -> Label:
    """Take a label apart; one that no protocol of ours reports, such as mAP without a cut-off, as far as it goes."""
    try:
        return parse_label(text)
    except ValueError:
        metric, _, rest = text.partition("[")
        by, _, part = rest.rstrip("]").partition("=")
        return Label(metric, 0, by=by.removeprefix("mean over ") or None, part=part or None)


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


def swept(
    rows: Sequence[tuple[Board, BoardRow]],
) -> Mapping[tuple[str, str], Mapping[str, list[tuple[float, BoardRow]]]]:
    """Find rows of one method that differ in one number alone.

    Returns:
        By board and setting, and then by the name of the curve: the rows with their values of the setting, in order.
    """
    found: dict[tuple[str, str], dict[tuple[Any, ...], list[tuple[float, BoardRow]]]] = {}
    for board, row in rows:
        mine = row.settings
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


def _base(row: BoardRow) -> str:
    return row.method if row.is_run else SETTING.sub("", row.title).strip()
