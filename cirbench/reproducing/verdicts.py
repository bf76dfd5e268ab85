"""Whether a number that was obtained agrees with the one that was published."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.leaderboard.published import PublishedRow
    from cirbench.results.schema import Result

TOLERANCE = 0.5
"""Percentage points. A choice: papers that ran one plain baseline print numbers from 0.1 to 1.8 points apart."""

INSIDE, NEAR, DIFFERS = "within the interval", f"within {TOLERANCE} points", "differs"


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """One published number beside the one that was obtained, in percent.

    Attributes:
        label: What it is.
        expected: As published.
        obtained: Here, or by the server.
        low: Lower end of the 95 % interval; ``None`` where a server scored.
        high: Upper end.
    """

    label: str
    expected: float
    obtained: float
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """``INSIDE``, ``NEAR`` or ``DIFFERS``."""
        if self.low is not None and self.high is not None and self.low <= self.expected <= self.high:
            return INSIDE
        return NEAR if abs(self.obtained - self.expected) <= TOLERANCE else DIFFERS


def agreements(row: PublishedRow, result: Result) -> tuple[Agreement, ...]:
    """Compare every number of a published row with a run's."""
    found = {metric.label: metric for metric in result.metrics}
    return tuple(
        Agreement(label, expected, metric.value, metric.low, metric.high)
        for label, expected in row.metrics.items()
        if (metric := found.get(label)) is not None
    )


def answered(row: PublishedRow, scores: dict[str, float]) -> tuple[Agreement, ...]:
    """Compare every number of a published row with a server's answer."""
    return tuple(
        Agreement(label, expected, scores[label]) for label, expected in row.metrics.items() if label in scores
    )


def as_table(row: PublishedRow, found: Sequence[Agreement], notes: Sequence[str] = ()) -> Table:
    """Lay the comparison out."""
    columns = (
        Column("metric", "metric"),
        Column("expected", "expected"),
        Column("obtained", "obtained [95 % interval]"),
        Column("difference", "difference"),
        Column("verdict", "verdict"),
    )
    rows = tuple(
        (
            each.label,
            Number(each.expected),
            Number(each.obtained, each.low, each.high),
            Number(each.obtained - each.expected, signed=True),
            each.verdict,
        )
        for each in found
    )
    caption = f"Percent. Expected: {row.source.title}, {row.source.table} ({row.source.id})."
    return Table(f"{row.id} · {row.protocol}", columns, rows, caption=caption, notes=tuple(notes))
