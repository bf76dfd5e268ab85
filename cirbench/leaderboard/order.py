"""The ranks inside a group: only rows that can be told apart stand in an order.

The rank of a row reaches from one more than the number of rows that are better to the number of those that are not
worse. Two rows are told apart by the best evidence that both have: their ranks, query by query, with a correction over
all such pairs; else their intervals, the interval of one and the printed number of the other, or both printed numbers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.statistics import RankRange, compare_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.leaderboard.evidence import Evidence
    from cirbench.leaderboard.model import BoardRow, Value
    from cirbench.leaderboard.rows import Candidate
    from cirbench.metrics.measure import Measurement


def ranked(candidates: Sequence[Candidate], headline: str) -> tuple[BoardRow, ...]:
    """Order rows by their headline number, and give a rank to those that may have one."""
    in_order = sorted(candidates, key=lambda candidate: _key(candidate.row, headline))
    rivals: dict[bool, list[Candidate]] = {}
    for candidate in in_order:
        if not candidate.unranked and headline in candidate.row.metrics:
            rivals.setdefault(_supervised(candidate.row), []).append(candidate)
    ranks = {id: str(rank) for group in rivals.values() if len(group) > 1 for id, rank in _ranks(group, headline)}
    return tuple(dataclasses.replace(each.row, rank=ranks.get(each.row.id)) for each in in_order)


def _ranks(group: Sequence[Candidate], headline: str) -> Iterator[tuple[str, RankRange]]:
    values = [candidate.row.metrics[headline] for candidate in group]
    tested = _tested(group, headline)
    above, below = [0] * len(group), [0] * len(group)
    for one, value in enumerate(values):
        for other, rival in enumerate(values):
            if one != other and tested.get((one, other), _higher(value, rival)):
                below[one] += 1
                above[other] += 1
    for place, candidate in enumerate(group):
        yield candidate.row.id, RankRange(1 + above[place], len(group) - below[place])


def _higher(one: Value, other: Value) -> bool:
    """Whether intervals, and printed numbers where there are none, tell that the first one is higher."""
    low = one.value if one.low is None else one.low
    high = other.value if other.high is None else other.high
    return low > high


def _tested(group: Sequence[Candidate], headline: str) -> dict[tuple[int, int], bool]:
    """Whether one row is better than another, for every two rows with ranks of the same queries."""
    places = [place for place, candidate in enumerate(group) if candidate.evidence is not None]
    evidence = [each for candidate in group if (each := candidate.evidence) is not None]
    if len({each.query_ids for each in evidence}) != 1:
        return {}
    pairs = compare_all([_measured(each, headline) for each in evidence], evidence[0].clusters)
    tested: dict[tuple[int, int], bool] = {}
    for pair in pairs:
        one, other = places[pair.first], places[pair.second]
        tested[one, other] = pair.apart and pair.difference > 0
        tested[other, one] = pair.apart and pair.difference < 0
    return tested


def _measured(evidence: Evidence, headline: str) -> list[Measurement]:
    """The headline number, and after it what it is the mean of."""
    labels = [headline]
    if "[mean over " in headline:
        family, _, rest = headline.partition("[mean over ")
        by = rest.removesuffix("]")
        parts = sorted({label for labels_of_query in evidence.slices.get(by, ()) for label in labels_of_query})
        labels += [f"{family}[{by}={part}]" for part in parts]
    return list(evidence.measured(labels))


def _key(row: BoardRow, headline: str) -> tuple[bool, float, str]:
    value = row.metrics.get(headline)
    return (value is None, 0.0 if value is None else -value.value, row.id)


def _supervised(row: BoardRow) -> bool:
    return row.supervision in ("supervised", "triplets")
