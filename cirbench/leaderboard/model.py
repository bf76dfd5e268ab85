"""What a leaderboard shows: boards, groups of one backbone, and rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REPRODUCED, SERVER, PUBLISHED, ELSEWHERE = (
    "reproduced here",
    "server-scored",
    "as published",
    "as published in another paper",
)
BADGES = (REPRODUCED, SERVER, PUBLISHED, ELSEWHERE)


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A number in percent, with its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """One row.

    Attributes:
        id: Of the entry or published row; unique over all boards.
        method: Name of the method of cirbench that it is, or its printed name as a slug.
        title: What to print.
        backbone: In the spelling of the literature where it has one.
        supervision: What it is trained with.
        year: Of the source, or of the run.
        badge: One of `BADGES`.
        protocol: Id, or ``None``.
        metrics: By label.
        rank: ``"1"``, ``"1-2"``, or ``None`` where it is not ranked.
        partial: Whether a part of the benchmark is missing.
        caveats: Sentences to be read with the numbers.
        source: Where the row comes from, in words.
        link: Where to read more, or ``None``.
        disclosures: What it was trained and selected on and what helped it: yes, no, unknown or a name.
        again: The commands that make the row again, one a line.
        ranks: The folder of the entry whose ranks are stored, or ``None``.
    """

    id: str
    method: str
    title: str
    backbone: str
    supervision: str
    year: int | None
    badge: str
    protocol: str | None
    metrics: Mapping[str, Value]
    rank: str | None
    partial: bool
    caveats: tuple[str, ...]
    source: str
    link: str | None
    disclosures: Mapping[str, str]
    again: str
    ranks: Path | None = None

    @property
    def ranked(self) -> bool:
        """Whether it takes part in an order."""
        return self.rank is not None


@dataclasses.dataclass(frozen=True)
class Group:
    """The rows of one backbone, the best first; rows that are not ranked stand where their numbers put them."""

    backbone: str
    rows: tuple[BoardRow, ...]


@dataclasses.dataclass(frozen=True)
class Board:
    """One table.

    Attributes:
        id: The protocol's id, or ``benchmark/other`` for rows under protocols of their own.
        benchmark: Name of the data set.
        protocol: Id, or ``None`` where the rows share none.
        title: What to print above it.
        metrics: Labels of the columns; the first one is what rows are ranked by.
        groups: By backbone.
        notes: What a reader must know, one sentence each.
    """

    id: str
    benchmark: str
    protocol: str | None
    title: str
    metrics: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def rows(self) -> tuple[BoardRow, ...]:
        """All rows."""
        return tuple(row for group in self.groups for row in group.rows)
