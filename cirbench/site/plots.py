"""Which pictures a page has, from the rows of its boards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.datasets.catalogue import protocols
from cirbench.site.figures import Dot, Figure, Line, curves_figure, rows_figure
from cirbench.site.headings import parse, short_label
from cirbench.site.naming import swept
from cirbench.tables import Number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.leaderboard.board import Board, BoardRow, Value
    from cirbench.metrics.labels import Label
    from cirbench.site.naming import Settings

_MOST_CURVES = 6
_MOST_SERIES = 4

SIZES = {
    "scenes-vit": 1.9,
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
    for group in board.groups:
        rows = [row for row in group.rows if row.ranked]
        if rows:
            lines.append(Line(group.backbone))
            lines += [Line(row.title, (_dot(row, headline),), f"rank {row.rank}") for row in rows]
    if lines:
        dots = [dot for line in lines for dot in line.dots]
        said = "Filled: measured here, with a 95 % bootstrap interval. " if any(dot.measured for dot in dots) else ""
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
            points = [(float(labels[text].k), _number(row.metrics[text])) for text in asked]
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
            dots = tuple(_dot(row, column, series) for series, row in enumerate(shown) if column in row.metrics)
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
                (next(iter(at.values())).title, [(size, _number(at[size].metrics[headline])) for size in sorted(at)])
                for at in several[:_MOST_CURVES]
            ],
            title=f"{short_label(headline)} against the size of the backbone",
            across="million parameters",
            up=f"{short_label(headline)}, percent",
            text="Methods with ranked rows on several CLIP backbones. Those were trained on different images too, so "
            "their size is not all that differs.",
        )


def ablations(rows: Sequence[tuple[Board, BoardRow]], settings: Settings) -> Iterator[Figure]:
    """Draw rows of one method that differ in one setting against that setting."""
    boards = {board.id: board for board, _ in rows}
    for (id, setting), curves in swept(rows, settings).items():
        headline = boards[id].metrics[0]
        name = setting.replace("_", " ")
        yield curves_figure(
            [
                (label, [(value, _number(row.metrics[headline])) for value, row in points if headline in row.metrics])
                for label, points in curves.items()
            ],
            title=f"{short_label(headline)} against {name}",
            across=name,
            up=f"{short_label(headline)}, percent",
            text=f"Rows of {boards[id].title} ({id}) that differ in this setting alone.",
        )


def chosen(board: Board) -> list[BoardRow]:
    """Choose the rows that pictures compare: the best run here of each method, or the best ranked row a backbone."""
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
    of = "the best run here of each method" if any(map(measured, rows)) else "the best ranked row of each backbone"
    return f", for {of}" if shown == len(rows) else f", for the first {shown} of {len(rows)} in the table: {of}"


def _name(row: BoardRow, rows: Sequence[BoardRow]) -> str:
    return row.title if len({other.backbone for other in rows}) == 1 else f"{row.title}, {row.backbone}"


def _dot(row: BoardRow, label: str, series: int = 0) -> Dot:
    value = row.metrics[label]
    half = None if value.low is not None or parse(label).part else sampling_error(value.value, row.protocol)
    if half is None:
        return Dot(_number(value), series, measured(row))
    low, high = max(0.0, value.value - half), min(100.0, value.value + half)
    return Dot(Number(value.value, low, high), series, measured=False)


def _number(value: Value) -> Number:
    return Number(value.value, value.low, value.high)
