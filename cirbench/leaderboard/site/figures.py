"""The pictures of the site: numbers with their intervals row by row, and numbers against a quantity."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cirbench.benchmarks.catalogue import protocols
from cirbench.leaderboard.board import SETTING
from cirbench.leaderboard.site.frame import parse
from cirbench.metrics.table import short_label
from cirbench.support.tables import Number
from cirbench.support.tables.svg import (
    SHAPES,
    Plot,
    Point,
    Series,
    group,
    label,
    line,
    mark,
    path,
    picture,
    short,
    to_svg,
    value_axis,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cirbench.leaderboard.board import Board, BoardRow
    from cirbench.metrics.table import Label

_WIDTH = 640
_LEFT, _RIGHT = 222.0, 566.0
_ROW, _APART = 13.0, 8.0
_INDENT, _KEY, _LETTER = 6.0, 20.0, 7.0


@dataclasses.dataclass(frozen=True)
class Dot:
    """A number in percent with its interval.

    Attributes:
        number: The number.
        series: Which of the series it belongs to, from 0.
        measured: Whether the number and its interval were measured query by query; else they are drawn hollow.
    """

    number: Number
    series: int = 0
    measured: bool = True

    @property
    def ends(self) -> tuple[float, ...]:
        """What must fit into the picture."""
        return (self.number.value, *(self.number.ends or ()))


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a picture: a heading without dots, or a label with some; ``note`` is written at its end."""

    label: str
    dots: tuple[Dot, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        drawing: The picture itself.
        title: What it shows.
        text: What to know about it, in a sentence.
        data: Its numbers as a table, the head first.
    """

    drawing: Markup
    title: str
    text: str
    data: tuple[tuple[str, ...], ...]


def rows_figure(lines: Sequence[Line], series: Sequence[str], *, title: str, unit: str, text: str) -> Figure:
    """Draw dots with whiskers, one row each.

    Args:
        lines: Rows and headings; at least one has a dot.
        series: What each series is called; a legend names them if there are several.
        title: Of the picture.
        unit: What the numbers are.
        text: What it shows.
    """
    axis = value_axis([0.0, *(end for row in lines for dot in row.dots for end in dot.ends)])

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * axis.place(value)

    keys, rows_of_keys = _legend(series) if len(series) > 1 else ([], 0)
    parts = [label(0, 16, title, class_="title"), *keys]
    top = 58.0 + _KEY * rows_of_keys
    height = _ROW + _APART * len(series)
    bottom = top + height * len(lines) + 4
    for tick in axis.ticks:
        at = _LEFT + (_RIGHT - _LEFT) * tick.place
        parts.append(line(at, top - 4, at, bottom, "grid"))
        parts.append(label(at, top - 9, tick.text, anchor="middle", class_="quiet"))
    for place, row in enumerate(lines):
        y = top + height * (place + 0.5)
        if not row.dots:
            parts.append(label(0, y + 5, row.label, class_="heading"))
            continue
        parts.append(label(_LEFT - 14, y + 4, short(row.label, 32), anchor="end"))
        for dot in row.dots:
            parts.append(_draw_dot(dot, x, y + _APART * (dot.series - (len(series) - 1) / 2), row.label))
        parts.append(label(_WIDTH, y + 4, row.note, anchor="end", class_="quiet"))
    said = "; ".join(f"{row.label} {', '.join(str(dot.number) for dot in row.dots)}" for row in lines if row.dots)
    drawing = picture(parts, width=_WIDTH, height=round(bottom + 6), title=title, text=f"{unit}. {said}.")
    names = [name or unit.lower() for name in series]
    data = [("", *names)]
    for row in lines:
        if row.dots:
            by_series = {dot.series: str(dot.number) for dot in row.dots}
            data.append((row.label, *(by_series.get(at, "") for at in range(len(names)))))
    return Figure(drawing, title, text, tuple(data))


def curves_figure(
    curves: Sequence[tuple[str, Sequence[tuple[float, Number]]]], *, title: str, across: str, up: str, text: str
) -> Figure:
    """Draw numbers with their intervals against a quantity.

    Args:
        curves: The name and the points of each.
        title: Of the picture.
        across: The quantity, with its unit.
        up: The numbers, with their unit.
        text: What it shows.
    """
    series = tuple(Series(name, tuple(Point(at, number) for at, number in points)) for name, points in curves)
    data = [("", across, up)] + [(name, f"{at:g}", str(number)) for name, points in curves for at, number in points]
    return Figure(Markup(to_svg(Plot(title, across, up, series))), title, text, tuple(data))


def _draw_dot(dot: Dot, x: Callable[[float], float], y: float, name: str) -> Markup:
    """Draw one number: its interval where it has one, and its mark."""
    parts = [path([(x(end), y) for end in dot.number.ends], "whisker")] if dot.number.ends else []
    parts.append(mark(SHAPES[dot.series % len(SHAPES)], x(dot.number.value), y, f"{name}: {dot.number}"))
    return group(parts, class_=f"series{dot.series + 1}{'' if dot.measured else ' hollow'}")


def _legend(series: Sequence[str]) -> tuple[list[Markup], int]:
    """Name the series, side by side as far as there is room; return that and on how many lines."""
    parts, x, row = [], _INDENT, 0
    for number, name in enumerate(series):
        shown = short(name, 40)
        width = 26 + _LETTER * len(shown)
        if x > _INDENT and x + width > _WIDTH:
            x, row = _INDENT, row + 1
        y = 36 + _KEY * row
        key = group([mark(SHAPES[number % len(SHAPES)], x, y, name)], class_=f"series{number + 1}")
        parts += [key, label(x + 10, y + 4, shown)]
        x += width
    return parts, row + 1


_MOST_CURVES = 6
_MOST_SERIES = 4

SIZES = {
    "scenes-vit": 1.9,
    "scenes-vit-captions": 1.9,
    "CLIP ViT-B/32": 151.3,
    "CLIP ViT-L/14": 427.6,
    "CLIP ViT-H/14": 986.1,
    "CLIP ViT-G/14": 2539.6,
}
"""Millions of parameters of both towers of a backbone, counted in open_clip's definitions; ViT-G/14 is ViT-bigG-14."""


def intervals(board: Board) -> Iterator[Figure]:
    """Draw the ranked rows of a board with what is known of their uncertainty."""
    headline = board.metrics[0]
    lines: list[Line] = []
    for ranked in board.groups:
        rows = [row for row in ranked.rows if row.ranked]
        if rows:
            lines.append(Line(ranked.backbone))
            lines += [Line(row.title, (_dot_plots(row, headline),), f"rank {row.rank}") for row in rows]
    if lines:
        dots = [dot for line in lines for dot in line.dots]
        said = "Filled: measured by cirbench, with a 95 % interval. " if any(dot.measured for dot in dots) else ""
        if not all(dot.measured for dot in dots):
            said += "Hollow: published, without an interval"
            estimated = any(not dot.measured and dot.number.ends for dot in dots)
            said += "; dotted is what chance alone allows for so many independent queries." if estimated else "."
        yield rows_figure(lines, ("",), title=f"{short_label(headline)} with intervals", unit="Percent", text=said)


def recall_curves(rows: Sequence[BoardRow]) -> Iterator[Figure]:
    """Draw the recall of rows against the cut-off."""
    curves = []
    for row in rows:
        labels = {text: parse(text) for text in row.metrics}
        asked = [text for text, label in labels.items() if label.by is None and label.metric == "Recall"]
        if len(asked) > 2:
            points = [(float(labels[text].k), row.metrics[text]) for text in asked]
            curves.append((_name(row, rows), sorted(points, key=lambda point: point[0])))
    if curves:
        yield curves_figure(
            curves[:_MOST_CURVES],
            title="Recall against K",
            across="K",
            up="Recall@K, percent",
            text=f"How recall grows with K{_which(rows, len(curves[:_MOST_CURVES]))}.",
        )


def slices(rows: Sequence[BoardRow]) -> Iterator[Figure]:
    """Draw, for each kind of slice, the number of each slice at its first cut-off."""
    kinds: dict[str, str] = {}
    for text in (text for row in rows for text in row.metrics):
        label = parse(text)
        if label.by is not None and label.part is not None:
            kinds.setdefault(label.by, _measure(label))
    for kind, measure in kinds.items():
        shown = [row for row in rows if any(_slice_of(text, kind, measure) for text in row.metrics)][:_MOST_SERIES]
        parts = dict.fromkeys(part for row in shown for text in row.metrics if (part := _slice_of(text, kind, measure)))
        lines = []
        for part in parts:
            column = f"{measure}[{kind}={part}]"
            dots = tuple(_dot_plots(row, column, series) for series, row in enumerate(shown) if column in row.metrics)
            lines.append(Line(part.replace("_", " "), dots))
        yield rows_figure(
            lines,
            [_name(row, rows) for row in shown],
            title=f"{short_label(measure)} for each {kind}",
            unit="Percent",
            text=f"Where {'each one' if len(shown) > 1 else 'it'} is strong and weak{_which(rows, len(shown))}.",
        )


def sizes(board: Board) -> Iterator[Figure]:
    """Draw what each method reaches on backbones of different sizes."""
    headline = board.metrics[0]
    best: dict[str, dict[float, BoardRow]] = {}
    for row in board.rows:
        if row.ranked and row.backbone in SIZES:
            at = best.setdefault(row.method, {})
            size = SIZES[row.backbone]
            if size not in at or row.metrics[headline].value > at[size].metrics[headline].value:
                at[size] = row
    several = [at for at in best.values() if len(at) > 1]
    several.sort(key=lambda at: -at[max(at)].metrics[headline].value)
    if several:
        yield curves_figure(
            [
                (next(iter(at.values())).title, [(size, at[size].metrics[headline]) for size in sorted(at)])
                for at in several[:_MOST_CURVES]
            ],
            title=f"{short_label(headline)} against the size of the backbone",
            across="million parameters",
            up=f"{short_label(headline)}, percent",
            text="Methods with ranked rows on several CLIP backbones. Those were trained on different images too, so "
            "their size is not all that differs.",
        )


def ablations(rows: Sequence[tuple[Board, BoardRow]]) -> Iterator[Figure]:
    """Draw rows of one method that differ in one setting against that setting."""
    boards = {board.id: board for board, _ in rows}
    for (id, setting), curves in swept(rows).items():
        headline = boards[id].metrics[0]
        name = setting.replace("_", " ")
        yield curves_figure(
            [
                (label, [(value, row.metrics[headline]) for value, row in points if headline in row.metrics])
                for label, points in curves.items()
            ],
            title=f"{short_label(headline)} against {name}",
            across=name,
            up=f"{short_label(headline)}, percent",
            text=f"Rows of {boards[id].title} ({id}) that differ in this setting alone.",
        )


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


def chosen(board: Board) -> list[BoardRow]:
    """Choose the rows that pictures compare: the best run of each method, or the best ranked row a backbone."""
    best: dict[tuple[str, str], BoardRow] = {}
    for row in board.rows:
        if measured(row) and not row.partial:
            best.setdefault((row.method, row.backbone), row)
    return [*best.values()] or [row for group in board.groups for row in [row for row in group.rows if row.ranked][:1]]


def sampling_error(percent: float, protocol: str | None) -> float | None:
    """Bound the 95 % sampling error of a published mean over the queries of a protocol, in points.

    No published row has per-query values. A mean of n independent values between 0 and 1 has a variance of at most
    p (1 - p) / n: exact for recall, an upper bound for average precision. The normal quantile makes it 1.96 deviations.

    Returns:
        ``None`` where the number of queries is not known.
    """
    known = protocols().get(protocol or "")
    if known is None or known.queries is None:
        return None
    p = percent / 100
    return 196.0 * float((p * (1 - p) / known.queries) ** 0.5)


def measured(row: BoardRow) -> bool:
    """Say whether a row has intervals: whether it was measured query by query."""
    return any(value.low is not None for value in row.metrics.values())


def _measure(label: Label) -> str:
    return f"{label.metric}@{label.k}" if label.k else label.metric


def _slice_of(text: str, kind: str, measure: str) -> str | None:
    label = parse(text)
    return label.part if label.by == kind and _measure(label) == measure else None


def _which(rows: Sequence[BoardRow], shown: int) -> str:
    """Which of the rows that pictures compare a picture shows: its first ones, since they are in order."""
    if len(rows) == 1:
        return ""
    of = "the best run of each method" if any(map(measured, rows)) else "the best ranked row of each backbone"
    return f", for {of}" if shown == len(rows) else f", for the first {shown} of {len(rows)} in the table: {of}"


def _name(row: BoardRow, rows: Sequence[BoardRow]) -> str:
    return row.title if len({other.backbone for other in rows}) == 1 else f"{row.title}, {row.backbone}"


def _dot_plots(row: BoardRow, label: str, series: int = 0) -> Dot:
    value = row.metrics[label]
    half = None if value.low is not None or parse(label).part else sampling_error(value.value, row.protocol)
    if half is None:
        return Dot(value, series, measured(row))
    low, high = max(0.0, value.value - half), min(100.0, value.value + half)
    return Dot(Number(value.value, low, high), series, measured=False)
