"""What a table is, before it takes any form: columns, rows, cells."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, TypeAlias

Mark: TypeAlias = Literal["", "best", "second"]

_ATTACHED = "*†‡§"


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
        note: Stands behind it: ``"p=0.0364"``, or a sign such as ``"*"``.
    """

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 2
    signed: bool = False
    mark: Mark = ""
    note: str = ""

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if not all(map(math.isfinite, self.ends or (self.value,))) or not math.isfinite(self.value):
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
    def note_text(self) -> str:
        """The note with the space before it that it needs; a sign stands close."""
        return self.note if not self.note or self.note_is_sign else f" {self.note}"

    @property
    def note_is_sign(self) -> bool:
        """Whether the note is made of signs only, as those of significance are."""
        return bool(self.note) and not self.note.strip(_ATTACHED)

    def __str__(self) -> str:
        interval = "" if self.ends_text is None else f" [{', '.join(self.ends_text)}]"
        return f"{self.text}{interval}{self.note_text}"

    def _decimals(self, value: float) -> str:
        return f"{value:{'+' if self.signed else ''}z.{self.digits}f}"


Cell: TypeAlias = str | Number | None
Row: TypeAlias = tuple[Cell, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: Its name in CSV and JSON.
        label: Its heading for people.
        unit: Behind the heading, in parentheses; empty where the caption says it.
    """

    key: str
    label: str
    unit: str = ""

    @property
    def heading(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table; see `cirbench.support.tables.render` for its forms.

    Attributes:
        title: What the numbers are about; carries the protocol.
        columns: From left to right.
        rows: One cell a column each; ``None`` where there is nothing to say.
        caption: How the numbers came about: unit, intervals, tests.
        notes: What the reader should know before trusting a comparison, one sentence each.
        foot: Rows below a rule, which take no part in the comparison.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    foot: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        if len({column.key for column in self.columns}) < len(self.columns):
            raise ValueError("two columns have the same key")
        if any(len(row) != len(self.columns) for row in self.all_rows):
            raise ValueError("a row needs one cell for each column")

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """The rows, then the foot."""
        return (*self.rows, *self.foot)

    def numeric(self, at: int) -> bool:
        """Whether column ``at`` holds numbers, and so stands to the right."""
        return any(isinstance(row[at], Number) for row in self.all_rows)
