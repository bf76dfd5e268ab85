"""Tables for people at a terminal, as wide as it is.

A table that does not fit gives way in this order: headings take more lines and texts are folded between words; columns
go, those with the highest `Column.optional` first; intervals go, from the right; texts are folded to their longest
word; the other columns go, from the right; and at last words end in an ellipsis. What went is said below the table.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from cirbench.errors import visible
from cirbench.support.tables import Number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.support.tables import Cell, Table

PROSE = 100
"""Columns of titles and notes where no terminal says how many there are."""

_HEADING, _COMFORT, _LEAST = 22, 26, 6
_STYLES = {"": "", "best": "bold", "second": "underline"}


def to_text(table: Table, width: int | None = None) -> str:
    """Write a table without colours; see `to_lines`."""
    return "\n".join(line.plain for line in to_lines(table, width)) + "\n"


def to_lines(table: Table, width: int | None = None, *, borders: bool = True) -> list[Text]:
    """Lay a table out in lines; best is bold, second best underlined, and no text is taken as markup.

    Args:
        table: The table.
        width: Columns of the terminal; as many as are needed if not given.
        borders: Whether lines separate columns; without them two spaces do.
    """
    fitted = _fit(table, width, borders)
    drawn = [*_drawn(fitted, borders)] if table.columns else []
    prose = width or PROSE
    above = fold(table.title, prose) if table.title else []
    left_out = fitted.left_out(table)
    below = [line for text in (table.caption, *table.notes, *left_out) if text for line in fold(text, prose)]
    return [*map(Text, above), *drawn, *map(Text, below)]


def fold(text: str, width: int) -> list[str]:
    """Break a text into lines between words; a longer word, such as a path, stays whole."""
    lines = [""]
    for word in visible(text).strip().split(" "):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """A table with what of it is shown, and in which widths.

    Attributes:
        table: With the columns that are shown.
        places: Their positions in the whole table.
        bare: The positions of those that are shown without their intervals.
        widths: Of the columns.
        total: Columns of the terminal that it takes.
    """

    table: Table
    places: tuple[int, ...]
    bare: frozenset[int]
    widths: tuple[int, ...]
    total: int

    def left_out(self, whole: Table) -> list[str]:
        """Say what is not shown."""
        names = [(column.group, _heading(whole, at)) for at, column in enumerate(whole.columns)]
        gone = [name for at, name in enumerate(names) if at not in self.places]
        gone += [(names[at][0], f"the interval of {names[at][1]}") for at in sorted(self.bare)]
        by_group = itertools.groupby(gone, key=lambda name: name[0])
        said = [f"{visible(group)} {', '.join(name for _, name in members)}".strip() for group, members in by_group]
        return [f"Left out for the width: {'; '.join(said)}. --wide shows all."] if gone else []


def _fit(table: Table, width: int | None, borders: bool) -> _Fitted:
    """Choose what is shown, see the module; what is still too wide at the end stays so."""
    fitted = None
    for places, bare, least in _steps(table):
        fitted = _in_widths(table, places, bare, least, width, borders)
        if width is None or fitted.total <= width:
            return fitted
    assert fitted is not None
    return fitted


def _steps(table: Table) -> Iterator[tuple[tuple[int, ...], frozenset[int], int]]:
    """What to show, less and less: columns, those without intervals, and how far texts may be folded."""
    places = tuple(range(len(table.columns)))
    bare: frozenset[int] = frozenset()
    yield places, bare, _COMFORT
    for level in sorted({column.optional for column in table.columns} - {0}, reverse=True):
        places = tuple(at for at in places if table.columns[at].optional != level)
        yield places, bare, _COMFORT
    for at in reversed(places):
        if any(isinstance(cell := row[at], Number) and cell.ends for row in table.all_rows):
            bare |= {at}
            yield places, bare, _COMFORT
    yield places, bare, 0
    while len(places) > 2:
        places, bare = places[:-1], bare - {places[-1]}
        yield places, bare, 0
    yield places, bare, -_LEAST


def _in_widths(
    table: Table, places: tuple[int, ...], bare: frozenset[int], least: int, width: int | None, borders: bool
) -> _Fitted:
    """Share the width out; texts get what numbers and headings leave them.

    Args:
        table: The whole table.
        places: The columns that are shown.
        bare: Those without intervals.
        least: Width to which a text may be folded, as far as its longest word allows; negative where words may be cut.
        width: Of the terminal.
        borders: Whether lines separate columns.
    """
    shown = _without_intervals(table, bare).only(places)
    columns = range(len(places))
    between = 3 * len(places) + 1 if borders else 2 * (len(places) - 1)
    cells = [["".join(_parts(row[at], *_rooms(shown, at))) for row in shown.all_rows] for at in columns]
    wants = [max([0, *map(cell_len, texts)]) for texts in cells]
    headings = [_heading(shown, at) for at in columns]
    widths = [
        max(want, *map(cell_len, fold(text, max(want, _HEADING)))) for want, text in zip(wants, headings, strict=True)
    ]
    _widen_for_groups(shown, widths, borders)
    if width is not None and sum(widths) + between > width:
        words = [max([1, *map(cell_len, heading.split())]) for heading in headings]
        widths = [*map(max, wants, words)]
        if least >= 0:
            _widen_for_groups(shown, widths, borders)
        floors = [
            widths[at] if shown.numeric(at) else _floor(texts, wants[at], least, words[at])
            for at, texts in zip(columns, cells, strict=True)
        ]
        for _ in range(sum(widths) + between - width):
            at = max(columns, key=lambda at: (widths[at] > floors[at], widths[at]))
            if widths[at] <= floors[at]:
                break
            widths[at] -= 1
        if sum(widths) + between < width:
            _widen_for_groups(shown, widths, borders, width - sum(widths) - between)
    return _Fitted(shown, places, bare, tuple(widths), sum(widths) + between)


def _floor(texts: Sequence[str], want: int, least: int, heading: int) -> int:
    """The width below which a column of texts is not folded."""
    if least < 0:
        return min(max(want, heading), -least)
    longest = max([heading, *(cell_len(word) for text in texts for word in text.split())])
    return max(longest, min(want, least))


def _widen_for_groups(table: Table, widths: list[int], borders: bool, most: int | None = None) -> None:
    """Widen the last column of a group whose heading is longer than its columns."""
    at = 0
    for group, count in table.spans:
        at += count
        lacking = cell_len(visible(group)) - sum(widths[at - count : at]) - (3 if borders else 2) * (count - 1)
        more = max(0, lacking if most is None else min(lacking, most))
        widths[at - 1] += more
        most = None if most is None else most - more


def _without_intervals(table: Table, bare: frozenset[int]) -> Table:
    def reduced(at: int, cell: Cell) -> Cell:
        return dataclasses.replace(cell, low=None, high=None) if at in bare and isinstance(cell, Number) else cell

    rows, foot = (
        tuple(tuple(reduced(at, cell) for at, cell in enumerate(row)) for row in part)
        for part in (table.rows, table.foot)
    )
    return dataclasses.replace(table, rows=rows, foot=foot)


def _drawn(fitted: _Fitted, borders: bool) -> Iterator[Text]:
    table, widths = fitted.table, fitted.widths
    if borders:
        yield from _top(table, widths)
    elif table.spans:
        yield Text("  ".join(_over(table, widths, 2)).rstrip())
    headings = [
        [Text(_cut(line, width), "bold") for line in fold(_heading(table, at), width)]
        for at, width in enumerate(widths)
    ]
    yield from _lines(table, headings, widths, borders, "┃", at_the_end=True)
    if borders:
        yield Text(_rule(widths, "┡━╇┩"))
    for part, rows in enumerate((*table.divided, *([table.foot] if table.foot else []))):
        if part and borders:
            yield Text(_rule(widths, "├─┼┤"))
        elif part:
            yield Text()
        for row in rows:
            cells = [_cell(cell, widths[at], *_rooms(table, at)) for at, cell in enumerate(row)]
            for line in _lines(table, cells, widths, borders, "│"):
                if table.foot and part == len(table.divided):
                    line.stylize("dim")
                yield line
    if borders:
        yield Text(_rule(widths, "└─┴┘"))


def _top(table: Table, widths: Sequence[int]) -> Iterator[Text]:
    """The upper border, with the headings over groups of columns where there are any."""
    if not table.spans:
        yield Text(_rule(widths, "┏━┳┓"))
        return
    over = [*_over(table, widths, 3)]
    yield Text(_rule([cell_len(text) for text in over], "┏━┳┓"))
    yield Text(f"┃ {' ┃ '.join(over)} ┃")
    line, at, before = "", 0, False
    for group, count in table.spans:
        corner = ("╋" if before else "┣") if group else ("┫" if before else "┃")
        line += corner + ("━" if group else " ") * (widths[at] + 2)
        line += "".join("┳" + "━" * (width + 2) for width in widths[at + 1 : at + count])
        at, before = at + count, bool(group)
    yield Text(line + ("┫" if before else "┃"))


def _over(table: Table, widths: Sequence[int], between: int) -> Iterator[str]:
    """The heading over each group, in the width of its columns."""
    at = 0
    for group, count in table.spans:
        width = sum(widths[at : at + count]) + between * (count - 1)
        text = _cut(visible(group), width)
        left = (width - cell_len(text)) // 2
        yield set_cell_size(" " * left + text, width)
        at += count


def _rule(widths: Sequence[int], signs: str) -> str:
    return signs[0] + signs[2].join(signs[1] * (width + 2) for width in widths) + signs[3]


def _lines(
    table: Table,
    cells: Sequence[list[Text]],
    widths: Sequence[int],
    borders: bool,
    bar: str,
    *,
    at_the_end: bool = False,
) -> Iterator[Text]:
    """The lines of one row; a heading with fewer lines than its neighbours is put at the end."""
    height = max(map(len, cells), default=0)
    for number in range(height):
        texts = []
        for at, (lines, width) in enumerate(zip(cells, widths, strict=True)):
            place = number - (height - len(lines) if at_the_end else 0)
            text = lines[place].copy() if 0 <= place < len(lines) else Text()
            space = " " * (width - text.cell_len)
            texts.append(Text.assemble(space, text) if table.numeric(at) else Text.assemble(text, space))
        line = Text(f" {bar} " if borders else "  ").join(texts)
        if borders:
            line = Text.assemble(f"{bar} ", line, f" {bar}")
        else:
            line.rstrip()
        yield line


def _heading(table: Table, at: int) -> str:
    return visible(table.columns[at].heading)


def _parts(cell: Cell, sign: int, sd: int) -> tuple[str, str]:
    """A number, which may be bold, and what follows it, in equal room for each part, so that numbers align."""
    if not isinstance(cell, Number):
        return visible(cell or ""), ""
    said = "" if cell.sd is None else f" ± {cell.sd_text}"
    interval = cell.spread.removeprefix(said)
    note = f" {visible(cell.note)}" if cell.note else ""
    return cell.text, f"{visible(cell.sign):<{sign}}{said:<{sd}}{interval}{note}"


def _rooms(table: Table, at: int) -> tuple[int, int]:
    """The room that signs, and standard deviations, take in a column."""
    numbers = [cell for row in table.all_rows if isinstance(cell := row[at], Number)]
    return (
        max((cell_len(visible(number.sign)) for number in numbers), default=0),
        max((len(f" ± {number.sd_text}") for number in numbers if number.sd is not None), default=0),
    )


def _cell(cell: Cell, width: int, sign: int, sd: int) -> list[Text]:
    number, rest = _parts(cell, sign, sd)
    if not isinstance(cell, Number):
        return [Text(_cut(line, width)) for line in fold(number, width)]
    return [Text.assemble((number, _STYLES[cell.mark]), rest)]


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"
