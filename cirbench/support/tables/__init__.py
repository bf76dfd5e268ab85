"""Tables: one row model, and the forms that it takes.

A table is built once, from `Number`, `Column` and `Table`. Every form prints the same decimals, and text that somebody
else wrote does nothing in any of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Mark: TypeAlias = Literal["", "best", "second"]


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number as it is printed; every format prints, and every parser reads, these decimals.

    Attributes:
        value: In the unit of its column.
        low: Lower end of its interval, or ``None``.
        high: Upper end.
        digits: After the decimal point.
        signed: Whether a positive number, and its interval, carry a plus sign; for differences.
        mark: Whether it is the best, or the second best, of its column.
        sd: Standard deviation over replicates, or ``None``.
        sign: Close behind it, raised where that can be: ``"*"`` or ``"†"``.
        note: Behind it, after a space: ``"p=0.0364"``.
    """

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 2
    signed: bool = False
    mark: Mark = ""
    sd: float | None = None
    sign: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if not all(map(math.isfinite, (self.value, *(self.ends or ()), self.sd or 0.0))):
            raise ValueError("a cell without a finite number is None")

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends of the interval, if it has one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def text(self) -> str:
        """The number alone, ``"+0.96"``; nothing is ever ``-0.00``."""
        return self._decimals(self.value)

    @property
    def ends_text(self) -> tuple[str, str] | None:
        """Both ends of the interval, written like the number."""
        return None if self.ends is None else (self._decimals(self.ends[0]), self._decimals(self.ends[1]))

    @property
    def sd_text(self) -> str:
        """The standard deviation, written like the number; empty without one."""
        return "" if self.sd is None else f"{self.sd:z.{self.digits}f}"

    @property
    def spread(self) -> str:
        """Standard deviation and interval, as far as there are any, each after a space."""
        sd = "" if self.sd is None else f" ± {self.sd_text}"
        return sd if self.ends_text is None else f"{sd} [{', '.join(self.ends_text)}]"

    def __str__(self) -> str:
        return f"{self.text}{self.sign}{self.spread}{f' {self.note}' if self.note else ''}"

    def _decimals(self, value: float) -> str:
        return f"{value:{'+' if self.signed else ''}z.{self.digits}f}"


BEST = "Bold: the highest of its backbone; underlined: the second highest."
"""What `Table.with_best` marks, where backbones divide the rows."""

Cell: TypeAlias = str | Number | None
Row: TypeAlias = tuple[Cell, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: Its name in CSV and JSON.
        label: Its heading for people.
        unit: Behind the heading, in parentheses; empty where the caption says it.
        group: Heading over this column and its neighbours of the same group.
        optional: How soon a narrow terminal leaves it out: the highest first, 0 as the last resort.
        aside: Whether it says where a row comes from, such as an id: LaTeX keeps it in a comment.
    """

    key: str
    label: str
    unit: str = ""
    group: str = ""
    optional: int = 0
    aside: bool = False

    @property
    def heading(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table; see `cirbench.support.tables.formats.render` for its forms.

    Attributes:
        title: What the numbers are about; carries the protocol.
        columns: From left to right.
        rows: One cell a column each; ``None`` where there is nothing to say.
        caption: How the numbers came about: unit, intervals, tests.
        notes: What the reader should know before trusting a comparison, one sentence each.
        foot: Rows below a rule, which take no part in the comparison.
        summary: The caption on a printed page, where title, caption and notes are a comment; empty for the title.
        sections: Key of the column whose values divide the rows, such as ``"backbone"``; empty where nothing does.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    foot: tuple[Row, ...] = ()
    summary: str = ""
    sections: str = ""

    def __post_init__(self) -> None:
        keys = {column.key for column in self.columns}
        if len(keys) < len(self.columns):
            raise ValueError("two columns have the same key")
        if self.sections and self.sections not in keys:
            raise ValueError("rows are divided by a column that is not there")
        if any(len(row) != len(self.columns) for row in self.all_rows):
            raise ValueError("a row needs one cell for each column")

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """The rows, then the foot."""
        return (*self.rows, *self.foot)

    def numeric(self, at: int) -> bool:
        """Whether column ``at`` holds numbers, and so is aligned to the right."""
        return any(isinstance(row[at], Number) for row in self.all_rows)

    @property
    def divided(self) -> tuple[tuple[Row, ...], ...]:
        """The rows by section, each section saying its value once; all rows together where nothing divides them."""
        if not self.sections:
            return (self.rows,) if self.rows else ()
        at = [column.key for column in self.columns].index(self.sections)
        parts = []
        for _, found in itertools.groupby(self.rows, key=lambda row: row[at]):
            first, *others = found
            parts.append((first, *((*row[:at], "", *row[at + 1 :]) for row in others)))
        return tuple(parts)

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """The headings over columns with the number of columns of each; one without a group is alone, under ``""``."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if column.group and found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return tuple(found) if any(group for group, _ in found) else ()

    def only(self, places: Sequence[int]) -> Table:
        """Return the table with some of its columns."""
        return dataclasses.replace(
            self,
            columns=tuple(self.columns[at] for at in places),
            rows=tuple(tuple(row[at] for at in places) for row in self.rows),
            foot=tuple(tuple(row[at] for at in places) for row in self.foot),
            sections=self.sections if any(self.columns[at].key == self.sections for at in places) else "",
        )

    def with_best(self, keys: Collection[str]) -> Table:
        """Mark, within each section, the highest printed number of each of these columns, and the second highest."""
        at = [column.key for column in self.columns].index(self.sections) if self.sections else None
        rows: list[Row] = []
        for _, found in itertools.groupby(self.rows, key=lambda row: None if at is None else row[at]):
            section = [list(row) for row in found]
            for place, column in enumerate(self.columns):
                numbers = [cell for row in section if isinstance(cell := row[place], Number)]
                if column.key not in keys or len(numbers) < 2:
                    continue
                highest = sorted({float(number.text) for number in numbers}, reverse=True)
                marks: dict[float, Mark] = dict(zip(highest[:2], ("best", "second"), strict=False))
                for row in section:
                    if isinstance(cell := row[place], Number):
                        row[place] = dataclasses.replace(cell, mark=marks.get(float(cell.text), ""))
            rows += map(tuple, section)
        return dataclasses.replace(self, rows=tuple(rows))
