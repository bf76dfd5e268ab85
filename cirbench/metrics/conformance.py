"""Check a metric by properties, on random ranks."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.functions import UNRANKED, Ranks
from cirbench.support.arrays import Ragged
from cirbench.support.plugins import Finding, rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.metrics.table import Metric

QUERIES, CANDIDATES, GROUP = 200, 40, 5
_CUTOFFS = (1, 3, 10, 50)


def check_metric(metric: Metric) -> list[Finding]:
    """Hold a metric to what is true of every metric on ranks."""
    ranks = _drawn((1.0, 0.5, 0.2, -1.0) if metric.needs == "negatives" else (1.0, 0.5, 0.2))
    cutoffs = _CUTOFFS if metric.fixed_k is None else (metric.fixed_k,)

    def values(given: Ranks, k: int) -> NDArray[np.float64]:
        return np.asarray(metric.function(given, k), dtype=np.float64)

    def shape() -> str | None:
        found = [values(ranks, k).shape for k in cutoffs]
        return next((f"{each} instead of ({QUERIES},)" for each in found if each != (QUERIES,)), None)

    def spread() -> str | None:
        most = 1.0 if metric.unit == "%" else np.inf
        for k in cutoffs:
            counted = (found := values(ranks, k))[~np.isnan(found)]
            if ((counted < 0) | (counted > most)).any():
                return f"at {k} from {counted.min():g} to {counted.max():g}, and fractions are from 0 to 1"
        return None

    def repeatable() -> str | None:
        same = all(np.array_equal(values(ranks, k), values(ranks, k), equal_nan=True) for k in cutoffs)
        return None if same else "two calls differ"

    def alone() -> str | None:
        for k in cutoffs:
            together = values(ranks, k)
            for query in range(0, QUERIES, 7):
                (single,) = values(_part(ranks, query), k)
                if not np.isclose(single, together[query], equal_nan=True):
                    return f"at {k}, query {query} has {together[query]:g} among others and {single:g} alone"
        return None

    def order() -> str | None:
        shuffled = _shuffled(ranks)
        for k in cutoffs:
            if not np.allclose(values(ranks, k), values(shuffled, k), equal_nan=True):
                return f"at {k} values change with the order in which further ground truths are listed"
        return None

    def better() -> str | None:
        if metric.needs == "negatives":
            return None  # here ground truths and negatives rise together
        sign = 1 if metric.higher_is_better else -1
        improved = dataclasses.replace(
            ranks,
            relevant=ranks.relevant.like(_risen(ranks.relevant)),
            group_Q=None if ranks.group_Q is None else np.maximum(ranks.group_Q - 1, 1),
        )
        for k in cutoffs:
            worse = sign * (values(improved, k) - values(ranks, k)) < -1e-9
            if worse.any():
                return f"at {k} it gets worse for query {int(np.flatnonzero(worse)[0])} when its ground truths rise"
        return None

    def empty() -> str | None:
        none = Ranks(Ragged.of([[]], np.int64), np.array([UNRANKED]), np.zeros(0))
        found = values(none, cutoffs[0])
        return None if found.shape == (1,) and (np.isnan(found[0]) or found[0] == 0) else f"{found}, not NaN or 0"

    return [
        Finding(
            "it says what it is and where it comes from", None if metric.title and metric.source else "it does not"
        ),
        rule("it gives one number for each query", shape),
        rule("fractions are from 0 to 1, other values from 0 on", spread),
        rule("the same ranks give the same values", repeatable),
        rule("a query's value does not depend on other queries", alone),
        rule("the order of further ground truths does not matter", order),
        rule("it does not get worse when every ground truth rises", better),
        rule("a query without ground truths has no value, or 0", empty),
    ]


def _drawn(labels: tuple[float, ...]) -> Ranks:
    draw = np.random.default_rng(0)
    rows = [list(1 + draw.permutation(CANDIDATES)[: draw.integers(1, 6)]) for _ in range(QUERIES)]
    gains = draw.choice(labels, sum(map(len, rows)))
    return Ranks(Ragged.of(rows, np.int64), draw.integers(1, GROUP + 1, QUERIES), gains)


def _part(ranks: Ranks, query: int) -> Ranks:
    low, high = ranks.relevant.offsets[query : query + 2]
    assert ranks.group_Q is not None and ranks.gains is not None
    row = Ragged.of([list(ranks.relevant.values[low:high])], np.int64)
    return Ranks(row, ranks.group_Q[query : query + 1], ranks.gains[low:high])


def _shuffled(ranks: Ranks) -> Ranks:
    """The same with the ground truths behind the target in the other order."""
    offsets = ranks.relevant.offsets
    order = [at for low, high in itertools.pairwise(offsets) for at in (low, *range(high - 1, low, -1))]
    assert ranks.gains is not None
    return dataclasses.replace(
        ranks, relevant=ranks.relevant.like(ranks.relevant.values[order]), gains=ranks.gains[order]
    )


def _risen(relevant: Ragged[np.int64]) -> NDArray[np.int64]:
    """Ranks in which every ground truth of a query has moved up as far as it can without meeting another."""
    risen = relevant.values.copy()
    for low, high in itertools.pairwise(relevant.offsets):
        taken = 0
        for at in low + np.argsort(relevant.values[low:high]):
            risen[at] = taken = max(taken + 1, int(relevant.values[at]) - 1)
    return risen
