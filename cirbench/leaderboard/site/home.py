"""The first page: the boards in numbers, the best of each benchmark, progress over the years, what is new."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from cirbench.leaderboard.board import PUBLISHED
from cirbench.leaderboard.site.figures import curves_figure
from cirbench.leaderboard.site.views import method_page, run_page
from cirbench.metrics.table import short_label
from cirbench.support.files import slug
from cirbench.support.tables import Number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cirbench.leaderboard.board import BoardRow
    from cirbench.leaderboard.site.figures import Figure
    from cirbench.leaderboard.site.views import BoardView

_CLASSES = (
    ("Multimodal language models", re.compile(r"LLaVA|Qwen|LamRA|VLM2Vec|GME|Phi|InternVL|PaliGemma|Gemini|GPT", re.I)),
    ("BLIP and BLIP-2", re.compile(r"^blip", re.I)),
    ("CLIP ViT-H/14, G/14", re.compile(r"ViT-(H|G|bigG|g)[/-]14")),
    ("CLIP ViT-L/14", re.compile(r"ViT-L[/-]14")),
    ("CLIP ViT-B/32, B/16", re.compile(r"ViT-B")),
    ("scenes-vit", re.compile(r"^scenes-vit")),
)
_REST = "Other backbones, and those that are not stated"
_MOST_ROWS = 5
_NEWEST = 12


def backbone_class(backbone: str) -> str:
    """Say which kind of backbone it is, the largest first: what lifts every method that uses it."""
    return next((name for name, pattern in _CLASSES if pattern.search(backbone)), _REST)


@dataclasses.dataclass(frozen=True)
class Column:
    """A benchmark of the matrix, by the board that most rows can be compared on.

    Attributes:
        title: What to print.
        metric: The number, short.
        href: Where its board is.
        view: The board.
    """

    title: str
    metric: str
    href: str
    view: BoardView


@dataclasses.dataclass(frozen=True)
class Cell:
    """The best row of a method on a benchmark, and whether no other method of its class is better."""

    value: float
    backbone: str
    badge: str
    href: str
    best: bool


@dataclasses.dataclass(frozen=True)
class Line:
    """A method in the matrix."""

    title: str
    href: str
    supervised: bool
    cells: tuple[Cell | None, ...]


@dataclasses.dataclass(frozen=True)
class Section:
    """The methods on one class of backbones, and how many of them the matrix leaves to the boards."""

    title: str
    lines: tuple[Line, ...]
    left: int


@dataclasses.dataclass(frozen=True)
class News:
    """A method that was published lately: when, where, and on which boards its rows are."""

    when: str
    title: str
    href: str
    source: str
    link: str | None
    benchmarks: str


@dataclasses.dataclass(frozen=True)
class Home:
    """The content of the first page.

    Attributes:
        counts: What there is, in pairs of a number and what it counts.
        columns: The benchmarks of the matrix.
        sections: Its rows.
        progress: The best number of each year.
        news: The newest methods.
    """

    counts: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    progress: tuple[Figure, ...]
    news: tuple[News, ...]

    @property
    def supervised(self) -> bool:
        """Whether the matrix has methods that were trained on triplets."""
        return any(line.supervised for section in self.sections for line in section.lines)


def home(views: Sequence[BoardView], methods: int) -> Home:
    """Gather what the first page shows from all boards and the number of methods that have a row."""
    columns = tuple(_columns(views))
    rows = [row for view in views for row in view.board.rows]
    papers = {row.source.partition(",")[0] for row in rows if not row.is_run}
    counts = (
        (f"{sum(not row.is_run for row in rows):,}", "published rows"),
        (f"{len(papers):,}", "papers and repositories"),
        (f"{sum(row.is_run for row in rows):,}", "runs with ranks to check"),
        (f"{sum(len(view.audits) for view in views):,}", "audits of rows"),
        (f"{methods:,}", "methods"),
        (f"{sum(view.board.protocol is not None for view in views):,}", "protocols"),
    )
    return Home(counts, columns, tuple(_sections(columns)), tuple(_progress(columns)), tuple(_news(views)))


def _columns(views: Sequence[BoardView]) -> Iterator[Column]:
    """For each benchmark but somebody's own, the board with most ranked rows."""
    best: dict[str, BoardView] = {}
    for view in views:
        known = best.get(view.benchmark)
        if view.board.protocol and view.ranked and (known is None or view.ranked > known.ranked):
            best[view.benchmark] = view
    for view in sorted(best.values(), key=lambda view: (view.board.benchmark == "scenes", -len(view.board.rows))):
        if not view.board.benchmark.startswith("own-"):
            href = f"benchmarks/{view.benchmark}.html#{view.anchor}"
            yield Column(view.board.id, short_label(view.board.metrics[0]), href, view)


def _sections(columns: Sequence[Column]) -> Iterator[Section]:
    best: dict[str, dict[tuple[str, bool], dict[int, BoardRow]]] = {}
    for at, column in enumerate(columns):
        headline = column.view.board.metrics[0]
        for row in column.view.board.rows:
            if headline in row.metrics and not row.partial:
                line = best.setdefault(backbone_class(row.backbone), {}).setdefault((row.method, row.supervised), {})
                if at not in line or row.metrics[headline].value > line[at].metrics[headline].value:
                    line[at] = row
    for name in (*(name for name, _ in _CLASSES[:-1]), _REST, _CLASSES[-1][0]):
        if name in best:
            yield _section(name, best[name], columns)


def _section(name: str, lines: dict[tuple[str, bool], dict[int, BoardRow]], columns: Sequence[Column]) -> Section:
    """Keep the methods that lead somewhere, then those with the most and the highest numbers; zero-shot ones first."""
    headlines = [column.view.board.metrics[0] for column in columns]

    def value(line: dict[int, BoardRow], at: int) -> float:
        return line[at].metrics[headlines[at]].value if at in line else -1.0

    leads: dict[tuple[str, bool], int] = dict.fromkeys(lines, 0)
    first: set[tuple[tuple[str, bool], int]] = set()
    for kind in (False, True):
        mine = [key for key in lines if key[1] is kind]
        for at in range(len(columns)):
            top = max((value(lines[key], at) for key in mine), default=-1.0)
            for key in mine:
                if top >= 0 and value(lines[key], at) == top:
                    leads[key] += 1
                    first.add((key, at))
    ordered = sorted(
        lines,
        key=lambda key: (-leads[key], -len(lines[key]), [-value(lines[key], at) for at in range(len(columns))], key),
    )
    kept = sorted(
        ordered[: max(_MOST_ROWS, sum(map(bool, leads.values())))], key=lambda key: (key[1], ordered.index(key))
    )
    made = []
    for key in kept:
        cells = tuple(
            _cell(columns[at], lines[key][at], (key, at) in first) if at in lines[key] else None
            for at in range(len(columns))
        )
        made.append(Line(_line_title(lines[key].values()), method_page(key[0]), key[1], cells))
    return Section(name, tuple(made), len(lines) - len(made))


def _line_title(rows: Iterable[BoardRow]) -> str:
    """Name a line as its rows are printed, or by its method where they are printed under several names."""
    titles = {row.method if row.is_run else row.title for row in rows}
    return titles.pop() if len(titles) == 1 else next(iter(rows)).method


def _cell(column: Column, row: BoardRow, best: bool) -> Cell:
    href = run_page(row) if row.is_run else f"benchmarks/{column.view.benchmark}.html#{slug(row.id)}"
    return Cell(row.metrics[column.view.board.metrics[0]].value, row.backbone, row.badge, href, best)


def _progress(columns: Sequence[Column]) -> Iterator[Figure]:
    """Draw the best number so far, year by year, of methods that were trained on no triplets."""
    curves = []
    for column in columns:
        headline = column.view.board.metrics[0]
        rows = [row for row in column.view.board.rows if row.year and headline in row.metrics and not row.partial]
        years: dict[int, float] = {}
        for row in rows:
            if not row.supervised and not row.is_run:
                years[row.year or 0] = max(years.get(row.year or 0, 0.0), row.metrics[headline].value)
        points, top = [], 0.0
        for year in sorted(years):
            top = max(top, years[year])
            points.append((float(year), Number(top)))
        if len(points) > 1:
            curves.append((f"{column.title}, {column.metric}", points))
    if curves:
        yield curves_figure(
            curves[:6],
            title="The best number so far, trained on no triplets",
            across="year of the source",
            up="percent",
            text="One curve for each benchmark and number, on whatever backbone; curves of two benchmarks cannot be "
            "compared. The year is that of the paper that prints the number.",
        )


_MONTH = re.compile(r"arxiv\.org/abs/(\d\d)(\d\d)\.")


def _news(views: Sequence[BoardView]) -> Iterator[News]:
    """List the methods whose own source is newest, by the month of its arXiv number."""
    found: dict[str, tuple[str, BoardRow, list[str]]] = {}
    for view in views:
        for row in view.board.rows:
            month = _MONTH.search(row.link or "")
            if row.badge == PUBLISHED and month and "README" not in row.source:
                when = f"20{month[1]}-{month[2]}"
                known = found.setdefault(row.method, (when, row, []))
                known[2].append(view.board.benchmark)
                if when < known[0]:  # a method is as old as the first paper that brings it
                    found[row.method] = (when, row, known[2])
    newest = sorted(found.values(), key=lambda each: (each[0], each[1].method), reverse=True)[:_NEWEST]
    for when, row, benchmarks in newest:
        source = row.source.partition(",")[0]
        yield News(when, row.title, method_page(row.method), source, row.link, ", ".join(_distinct(benchmarks)))


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
