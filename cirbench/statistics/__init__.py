"""Intervals and paired tests."""

from __future__ import annotations

from cirbench.statistics.family import SIGNIFICANCE, Pair, RankRange, compare_all, holm, rank_ranges
from cirbench.statistics.intervals import Comparison, Interval, compare, intervals

__all__ = [
    "SIGNIFICANCE",
    "Comparison",
    "Interval",
    "Pair",
    "RankRange",
    "compare",
    "compare_all",
    "holm",
    "intervals",
    "rank_ranges",
]
