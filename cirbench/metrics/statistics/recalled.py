"""Tests and intervals of numbers that were looked at before: recalled, not resampled, and without loading scipy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cirbench.metrics.statistics.intervals import Interval, intervals
from cirbench.metrics.statistics.paired import Pair, better_of, compare_all
from cirbench.support import memo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.metrics.statistics.intervals import Measured

T = TypeVar("T")


def pairs_of(
    methods: Sequence[Sequence[Measured]], clusters: Sequence[str] | None, *, seed: int, one: int | None = None
) -> tuple[Pair, ...]:
    """Compare every two of several methods; see `cirbench.metrics.statistics.compare_all`."""
    return _recalled(
        lambda: compare_all(methods, clusters, seed=seed, one=one),
        tuple[Pair, ...],
        methods,
        ("pairs", clusters, seed, one),
    )


def better_of_two(
    methods: Sequence[Sequence[Measured]], clusters: Sequence[str] | None, *, level: float
) -> list[list[int]]:
    """Say which of every two methods is better; see `cirbench.metrics.statistics.better_of`."""
    return _recalled(
        lambda: better_of(methods, clusters, level=level).tolist(),
        list[list[int]],
        methods,
        ("better", clusters, level),
    )


def intervals_of(measurements: Sequence[Measured], clusters: Sequence[str] | None) -> tuple[Interval, ...]:
    """Return the interval of each number; see `cirbench.metrics.statistics.intervals`."""
    return _recalled(
        lambda: intervals(measurements, clusters), tuple[Interval, ...], [measurements], ("intervals", clusters)
    )


def _recalled(
    find: Callable[[], T], form: Any, methods: Sequence[Sequence[Measured]], settings: tuple[object, ...]
) -> T:
    """Recall what follows from numbers of queries, from settings and from the code of the statistics, or find it."""
    code = [memo.sha256(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    numbers = [[(each.label, each.value, each.mean_of, each.by_seed) for each in measured] for measured in methods]
    digest = hashlib.sha256(repr((code, numbers, settings)).encode())
    for measured in methods:
        for each in measured:
            digest.update(each.values_Q.astype("<f8").tobytes())
    key = f"statistics {digest.hexdigest()}"
    if (known := memo.recall(key)) is None:
        known = msgspec.to_builtins(find())
        memo.keep(key, known, {})
    found: T = msgspec.convert(known, form)
    return found
