"""Tables in Markdown, of the kind with pipes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cirbench.tables.model import Number
from cirbench.tables.safe import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cirbench.tables.model import Cell, Table

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_SPECIAL = re.compile(
    r"""
    [\\`*\[~$]       # code, emphasis, links, strike-through, formulas
    | (?<![^\W_])_   # an underscore at the edge of a word; inside one it does nothing
    | _(?![^\W_])
    | ^[#+=-]        # what begins a heading or a list
    """,
    re.VERBOSE,
)
_FRAMES = {"": "", "best": "**", "second": "_"}


def to_markdown(table: Table) -> str:
    """Write a table with its title above, its caption and notes below; best is bold, second best in italics."""
    lines = [f"**{escape(table.title)}**", ""] if table.title else []
    lines.append(_line(escape(column.heading) for column in table.columns))
    lines.append(_line("---:" if table.numeric(at) else ":---" for at in range(len(table.columns))))
    lines += [_line(map(_cell, row)) for row in table.all_rows]
    for text in filter(None, (table.caption, *table.notes)):
        lines += ["", escape(text)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return a text of which Markdown shows every character and acts on none."""
    entities = "".join(_ENTITIES.get(sign, sign) for sign in visible(text).strip())
    return _SPECIAL.sub(r"\\\g<0>", entities)


def _cell(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return escape(cell or "")
    frame = _FRAMES[cell.mark]
    interval = "" if cell.ends_text is None else f" [{', '.join(cell.ends_text)}]"
    return f"{frame}{cell.text}{frame}{interval}{_spaced(cell)}"


def _spaced(cell: Number) -> str:
    return escape(cell.note) if cell.note_is_sign or not cell.note else f" {escape(cell.note)}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
