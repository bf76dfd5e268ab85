"""Boards as pages show them: anchors, headings, filters and sentences about what stands in the table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import protocols
from cirbench.leaderboard.board import BADGES
from cirbench.leaderboard.site import figures
from cirbench.leaderboard.site.frame import slug
from cirbench.leaderboard.site.naming import HERE, Heading, headings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.leaderboard.board import Board, BoardRow
    from cirbench.leaderboard.site.figures import Figure


@dataclasses.dataclass(frozen=True)
class BoardView:
    """One board on a page.

    Attributes:
        board: The board.
        anchor: Its name in addresses.
        benchmark: The name of its page.
        headings: Its columns of numbers.
        figures: Its pictures.
    """

    board: Board
    anchor: str
    benchmark: str
    headings: tuple[Heading, ...]
    figures: tuple[Figure, ...]

    @property
    def caption(self) -> str:
        """What the numbers are."""
        counted = ", below them 95 % intervals" if any(map(figures.measured, self.board.rows)) else ""
        return f"Percent{counted}. The best of each backbone first, by {self.headings[0].short}."

    @property
    def about(self) -> str:
        """What fixes the numbers."""
        if self.board.protocol is None:
            return "No two rows here need to share a protocol."
        known = protocols().get(self.board.protocol)
        hidden = "; the ground truths are kept by a test server" if known and not known.labelled else ""
        size = f"{self.queries} queries" if known and known.queries else "size as in its files"
        size += f", gallery of {self.gallery}" if known and known.gallery else ""
        return f"Protocol {self.board.id}: {size}{hidden}."

    @property
    def queries(self) -> str:
        """How many queries there are."""
        known = protocols().get(self.board.protocol or "")
        return f"{known.queries:,}" if known and known.queries else "–"

    @property
    def gallery(self) -> str:
        """How many images are ranked."""
        known = protocols().get(self.board.protocol or "")
        return f"{known.gallery:,}" if known and known.gallery else "–"

    @property
    def runs(self) -> int:
        """How many rows were made by cirbench."""
        return sum(row.badge in HERE for row in self.board.rows)

    @property
    def ranked(self) -> int:
        """How many rows have a rank."""
        return sum(row.ranked for row in self.board.rows)

    @property
    def published(self) -> int:
        """How many rows are somebody else's."""
        return len(self.board.rows) - self.runs

    def own_page(self, row: BoardRow) -> str | None:
        """The page of a row that was made here."""
        return run_page(row) if row.badge in HERE else None

    def page_of(self, row: BoardRow) -> str:
        """Say where to read more about a row: its own page, or its method's."""
        return self.own_page(row) or method_page(row.method)

    def first_label(self, row: BoardRow) -> str:
        """Choose the number that stands for a row where there is room for one."""
        return next(label for label in self.board.metrics if label in row.metrics)


def run_page(row: BoardRow) -> str:
    """The page of a run."""
    return f"runs/{slug(row.id)}.html"


def method_page(method: str) -> str:
    """The page of a method."""
    return f"methods/{slug(method)}.html"


def view(board: Board) -> BoardView:
    """Prepare a board for its page."""
    rows = figures.chosen(board)
    drawn = (*figures.intervals(board), *figures.recall_curves(rows), *figures.slices(rows), *figures.sizes(board))
    return BoardView(board, slug(board.id), slug(board.benchmark), headings(board.metrics), drawn)


def filters(views: Sequence[BoardView]) -> list[tuple[str, str, list[str]]]:
    """List what rows can be chosen by: the name, its title, and the choices that occur."""
    rows = [row for view in views for row in view.board.rows]
    backbones = dict.fromkeys(group.backbone for view in views for group in view.board.groups)
    years = sorted({row.year for row in rows if row.year is not None})
    return [
        ("backbone", "Backbone", [*backbones]),
        ("supervision", "Supervision", sorted({row.supervision for row in rows})),
        ("badge", "Evidence", [badge for badge in BADGES if any(row.badge == badge for row in rows)]),
        ("since", "Year from", [str(year) for year in years]),
    ]


def columns(views: Sequence[BoardView]) -> list[tuple[str, str, bool]]:
    """List the columns that can be shown and hidden: key, title, and whether it is shown at first."""
    found = {"rank": ("rank", True)}
    for each in views:
        for heading in each.headings:
            shown = found.get(heading.key, ("", False))[1] or heading.shown
            found[heading.key] = (heading.short, shown)
    for key, title in (("supervision", "supervision"), ("badge", "evidence"), ("year", "year"), ("source", "source")):
        found[key] = (title, True)
    return [(key, title, shown) for key, (title, shown) in found.items()]
