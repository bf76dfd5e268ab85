"""Tables in HTML: a fragment to stand in any page, readable by people, screen readers and scripts."""

from __future__ import annotations

from html import escape as escape_html
from typing import TYPE_CHECKING

from cirbench.errors import visible
from cirbench.support.tables.model import Number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.support.tables.model import Cell, Row, Table

_FRAMES = {"": "{}", "best": "<strong>{}</strong>", "second": "<u>{}</u>"}


def to_html(table: Table) -> str:
    """Write a ``figure`` with the table and its notes.

    A number carries ``data-value``, its interval ``data-low`` and ``data-high``; the first column heads its rows.
    Classes are ``number``, ``sd``, ``interval`` and ``note``.
    """
    return "\n".join(_lines(table)) + "\n"


def escape(text: str) -> str:
    """Return a text that HTML shows as it stands, in content and in quoted attributes."""
    return escape_html(visible(text), quote=True)


def _lines(table: Table) -> Iterator[str]:
    yield '<figure class="cirbench-table">'
    yield "<table>"
    if table.title:
        yield f"<caption>{escape(table.title)}</caption>"
    if table.spans:
        over = (f'<th scope="colgroup" colspan="{count}">{escape(group)}</th>' for group, count in table.spans)
        yield f"<thead><tr>{''.join(over)}</tr>"
    headings = (
        f'<th scope="col"{_class(table, at)}>{escape(column.heading)}</th>' for at, column in enumerate(table.columns)
    )
    yield f"{'' if table.spans else '<thead>'}<tr>{''.join(headings)}</tr></thead>"
    for rows in table.divided or ((),):
        yield "<tbody>"
        yield from (_row(row, table) for row in rows)
        yield "</tbody>"
    if table.foot:
        yield "<tfoot>"
        yield from (_row(row, table) for row in table.foot)
        yield "</tfoot>"
    yield "</table>"
    if texts := [*filter(None, (table.caption, *table.notes))]:
        yield f"<figcaption>{''.join(f'<p>{escape(text)}</p>' for text in texts)}</figcaption>"
    yield "</figure>"


def _row(row: Row, table: Table) -> str:
    cells = [
        f'<th scope="row"{_class(table, at)}>{_content(cell)}</th>'
        if at == 0
        else f"<td{_class(table, at)}{_data(cell)}>{_content(cell)}</td>"
        for at, cell in enumerate(row)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _class(table: Table, at: int) -> str:
    return ' class="number"' if table.numeric(at) else ""


def _data(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return ""
    ends = "" if cell.ends_text is None else f' data-low="{cell.ends_text[0]}" data-high="{cell.ends_text[1]}"'
    return f' data-value="{cell.text}"{ends}'


def _content(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return escape(cell or "")
    sign = f"<sup>{escape(cell.sign)}</sup>" if cell.sign else ""
    sd = "" if cell.sd is None else f' <span class="sd">± {cell.sd_text}</span>'
    interval = "" if cell.ends_text is None else f' <span class="interval">[{", ".join(cell.ends_text)}]</span>'
    note = f' <span class="note">{escape(cell.note)}</span>' if cell.note else ""
    return f"{_FRAMES[cell.mark].format(cell.text)}{sign}{sd}{interval}{note}"
