"""Tables as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

from cirbench.errors import hidden, visible
from cirbench.support.tables.model import Number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cirbench.support.tables.model import Cell, Row, Table

SCHEMA_VERSION = 1

_FORMULA = tuple("=+-@＝＋－＠")
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def to_csv(table: Table) -> str:
    """Write one line a row; what belongs to a number has columns of its own.

    These are ``KEY_sd``, ``KEY_low``, ``KEY_high``, ``KEY_sign`` and ``KEY_note``, where a number has one. A text that
    a spreadsheet would run as a formula gets a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = [_parts(table, at) for at in range(len(table.columns))]
    writer.writerow(
        inert(f"{column.key}{part}") for column, parts_of in zip(table.columns, parts, strict=True) for part in parts_of
    )
    for row in table.all_rows:
        writer.writerow(_fields(row, parts))
    return out.getvalue()


def to_json(table: Table) -> str:
    """Write an object with ``columns`` and ``rows``; a cell is a text, null, or an object with a ``value``."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "title": table.title,
        "caption": table.caption,
        "notes": list(table.notes),
        "columns": [
            {
                "key": column.key,
                "label": column.label,
                "unit": column.unit,
                **({"group": column.group} if column.group else {}),
            }
            for column in table.columns
        ],
        "rows": [_object(row, table) for row in table.rows],
        "foot": [_object(row, table) for row in table.foot],
    }
    return inert_json(content) + "\n"


def inert_json(content: Any) -> str:
    """Write JSON for people and programs: indented, in UTF-8, with what would act on a terminal as escapes."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return "".join(_json_escape(sign) if hidden(sign) and sign != "\n" else sign for sign in text)


def inert(text: str) -> str:
    """Return a text that no spreadsheet runs."""
    shown = visible(text)
    if shown.lstrip().startswith(_FORMULA) and not _PLAIN_NUMBER.fullmatch(shown):
        return f"'{shown}"
    return shown


def _parts(table: Table, at: int) -> list[str]:
    numbers = [cell for row in table.all_rows if isinstance(cell := row[at], Number)]
    parts = [""]
    if any(number.sd is not None for number in numbers):
        parts.append("_sd")
    if any(number.ends for number in numbers):
        parts += ["_low", "_high"]
    for name in ("sign", "note"):
        if any(getattr(number, name) for number in numbers):
            parts.append(f"_{name}")
    return parts


def _fields(row: Row, parts: list[list[str]]) -> Iterator[str]:
    for cell, names in zip(row, parts, strict=True):
        content = _texts(cell)
        for name in names:
            yield content.get(name, "")


def _texts(cell: Cell) -> dict[str, str]:
    if not isinstance(cell, Number):
        return {"": inert(cell or "")}
    low, high = cell.ends_text or ("", "")
    notes = {"_sign": inert(cell.sign), "_note": inert(cell.note)}
    return {"": cell.text, "_sd": cell.sd_text, "_low": low, "_high": high, **notes}


def _object(row: Row, table: Table) -> dict[str, Any]:
    return {column.key: _value(cell) for column, cell in zip(table.columns, row, strict=True)}


def _value(cell: Cell) -> Any:
    if not isinstance(cell, Number):
        return cell
    content: dict[str, Any] = {"value": float(cell.text) if cell.digits else int(cell.text)}
    if cell.ends_text is not None:
        content |= {"low": float(cell.ends_text[0]), "high": float(cell.ends_text[1])}
    if cell.mark:
        content["mark"] = cell.mark
    if cell.sd is not None:
        content["sd"] = float(cell.sd_text)
    return content | {name: text for name in ("sign", "note") if (text := getattr(cell, name))}


def _json_escape(sign: str) -> str:
    return json.dumps(sign)[1:-1]


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
    lines.append(_line(escape(" ".join(filter(None, (column.group, column.heading)))) for column in table.columns))
    lines.append(_line("---:" if table.numeric(at) else ":---" for at in range(len(table.columns))))
    lines += [_line(map(_cell, row)) for rows in (*table.divided, table.foot) for row in rows]
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
    note = f" {escape(cell.note)}" if cell.note else ""
    return f"{frame}{cell.text}{frame}{escape(cell.sign)}{cell.spread}{note}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
