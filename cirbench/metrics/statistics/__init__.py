"""Intervals, paired tests, and what follows from many of them."""

from __future__ import annotations

from cirbench.metrics.statistics.intervals import Interval, intervals
from cirbench.metrics.statistics.paired import SIGNIFICANCE, Pair, RankRange, better_of, compare_all, holm, rank_ranges

__all__ = [
    "SIGNIFICANCE",
    "Interval",
    "Pair",
    "RankRange",
    "better_of",
    "compare_all",
    "holm",
    "intervals",
    "rank_ranges",
]
