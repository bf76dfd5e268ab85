"""Tables for people at a terminal."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from cirbench.errors import visible
from cirbench.support.tables.model import Number

if TYPE_CHECKING:
    from cirbench.support.tables.model import Cell, Row, Table

_WIDEST = 10_000
_LONG = 22
_NAME = 12
_STYLES = {"": "", "best": "bold", "second": "underline"}


def to_rich(table: Table) -> RichTable:
    """Lay a table out for rich; best is bold, second best underlined, and no text is taken as markup."""
    below = "\n".join(visible(text) for text in (table.caption, *table.notes) if text)
    laid_out = RichTable(
        title=Text(visible(table.title)) if table.title else None,
        caption=Text(below) if below else None,
        title_justify="left",
        caption_justify="left",
    )
    for at in range(len(table.columns)):
        laid_out.add_column(
            Text(_heading(table, at)),
            justify="right" if table.numeric(at) else "left",
            min_width=_needed(table, at),
            overflow="fold",
        )
    for row in table.rows:
        laid_out.add_row(*_texts(row))
    if table.foot:
        laid_out.add_section()
        for row in table.foot:
            laid_out.add_row(*_texts(row), style="dim")
    return laid_out


def to_text(table: Table) -> str:
    """Write a table with box lines and without colours, as wide as it needs to be."""
    laid_out = to_rich(table)
    width = Console(width=_WIDEST).measure(laid_out).maximum
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(laid_out)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _heading(table: Table, at: int) -> str:
    """The heading, on several lines where it is long and wider than what stands below it."""
    below = [len(visible(str(row[at] or ""))) for row in table.all_rows]
    heading = visible(table.columns[at].heading)
    return "\n".join(textwrap.wrap(heading, max([_LONG, *below]), break_long_words=False))


def _needed(table: Table, at: int) -> int:
    """The width below which a number, a word of the heading or a usual name would be cut.

    Intervals and long names may take a second line.
    """
    if at == 0:
        return min(_NAME, max((len(visible(str(row[0] or ""))) for row in table.all_rows), default=1))
    numbers = [cell for row in table.all_rows if isinstance(cell := row[at], Number)]
    heading = visible(table.columns[at].heading).split()
    ends = [f"[{end}," for cell in numbers for end in cell.ends_text or ()]
    return max(map(len, [*heading, *(cell.text for cell in numbers), *ends]), default=1)


def _texts(row: Row) -> list[Text]:
    return [_text(cell) for cell in row]


def _text(cell: Cell) -> Text:
    if not isinstance(cell, Number):
        return Text(visible(cell or ""))
    rest = str(cell).removeprefix(cell.text)
    return Text.assemble((cell.text, _STYLES[cell.mark]), visible(rest))
