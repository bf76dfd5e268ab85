"""The tables of the site as files for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.tables import Column, Number, Table, render

if TYPE_CHECKING:
    from cirbench.site.views import BoardView
    from cirbench.tables import Row

_SUFFIXES = {"csv": "csv", "json": "json", "md": "md", "latex": "tex"}


def downloads(view: BoardView) -> dict[str, str]:
    """Write a board in every form but a page, by path."""
    table = board_table(view)
    return {f"data/{view.anchor}.{suffix}": render(table, form) for form, suffix in _SUFFIXES.items()}


def board_table(view: BoardView) -> Table:
    """Lay a board out as a table."""
    columns = (
        Column("backbone", "backbone"),
        Column("method", "method"),
        Column("rank", "rank"),
        *(Column(heading.label, heading.short) for heading in view.headings),
        Column("supervision", "supervision"),
        Column("evidence", "evidence"),
        Column("year", "year"),
        Column("source", "source"),
        Column("id", "id"),
    )
    rows: list[Row] = []
    for group in view.board.groups:
        for row in group.rows:
            values = [row.metrics.get(label) for label in view.board.metrics]
            numbers = [None if value is None else Number(value.value, value.low, value.high) for value in values]
            told = (row.supervision, row.badge, str(row.year or ""), row.source, row.id)
            rows.append((group.backbone, row.title, row.rank or "", *numbers, *told))
    return Table(
        f"{view.board.title} ({view.board.id})", columns, tuple(rows), caption="Percent.", notes=view.board.notes
    )
