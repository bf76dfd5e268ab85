"""The ranks inside a group: only rows that can be told apart stand in an order.

The rank of a row reaches from one more than the number of rows that are better to the number of those that are not
worse. Two rows are told apart by the best evidence that both have: their intervals, the interval of one and the printed
number of the other, or the two printed numbers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.leaderboard.model import BoardRow, Value
    from cirbench.leaderboard.rows import Candidate


def ranked(candidates: Sequence[Candidate], headline: str) -> tuple[BoardRow, ...]:
    """Order rows by their headline number, and give a rank to those that may have one."""
    in_order = sorted(candidates, key=lambda candidate: _key(candidate.row, headline))
    rivals: dict[bool, list[BoardRow]] = {}
    for candidate in in_order:
        if not candidate.unranked and headline in candidate.row.metrics:
            rivals.setdefault(_supervised(candidate.row), []).append(candidate.row)
    ranks = {row.id: rank for rows in rivals.values() for row, rank in _ranks(rows, headline)}
    return tuple(dataclasses.replace(each.row, rank=ranks.get(each.row.id)) for each in in_order)


def better(one: Value, other: Value) -> bool:
    """Whether what is known of two numbers tells that the first one is higher."""
    low = one.value if one.low is None else one.low
    high = other.value if other.high is None else other.high
    return low > high


def _ranks(rows: Sequence[BoardRow], headline: str) -> list[tuple[BoardRow, str]]:
    if len(rows) < 2:  # nothing to be first of
        return []
    values = [row.metrics[headline] for row in rows]
    found = []
    for row, value in zip(rows, values, strict=True):
        first = 1 + sum(better(other, value) for other in values)
        last = len(values) - sum(better(value, other) for other in values)
        found.append((row, str(first) if first == last else f"{first}-{last}"))
    return found


def _key(row: BoardRow, headline: str) -> tuple[bool, float, str]:
    value = row.metrics.get(headline)
    return (value is None, 0.0 if value is None else -value.value, row.id)


def _supervised(row: BoardRow) -> bool:
    return row.supervision in ("supervised", "triplets")
