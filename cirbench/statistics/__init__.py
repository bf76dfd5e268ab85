"""Intervals, paired tests, and what follows from many of them."""

from __future__ import annotations

from cirbench.statistics.family import Pair, compare_all, holm
from cirbench.statistics.intervals import Interval, intervals
from cirbench.statistics.places import RankRange, rank_ranges
from cirbench.statistics.power import SIGNIFICANCE, resolvable

__all__ = [
    "SIGNIFICANCE",
    "Interval",
    "Pair",
    "RankRange",
    "compare_all",
    "holm",
    "intervals",
    "rank_ranges",
    "resolvable",
]
