"""Tables: one row model, and the forms that it takes.

A table is built once, from `Number`, `Column` and `Table`. Every form prints the same decimals, and text that somebody
else wrote does nothing in any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import UnknownName
from cirbench.support.tables.html import to_html
from cirbench.support.tables.latex import to_latex
from cirbench.support.tables.model import BEST, Cell, Column, Mark, Number, Row, Table
from cirbench.support.tables.plain import to_csv, to_json, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BEST", "FORMATS", "Cell", "Column", "Mark", "Number", "Row", "Table", "render"]


def _text(table: Table) -> str:
    from cirbench.support.tables.terminal import to_text  # rich takes its time to import

    return to_text(table)


_WRITERS: dict[str, Callable[[Table], str]] = {
    "rich": _text,
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "html": to_html,
}

FORMATS = tuple(_WRITERS)


def render(table: Table, format: str) -> str:
    """Write a table in one of `FORMATS`; it ends with a newline.

    Raises:
        UnknownName: There is no such format.
    """
    if format not in _WRITERS:
        raise UnknownName("table format", format, FORMATS)
    return _WRITERS[format](table)
