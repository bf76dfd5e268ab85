"""Intervals and paired tests."""

from __future__ import annotations

from cirbench.statistics.intervals import Comparison, Interval, compare, intervals

__all__ = ["Comparison", "Interval", "compare", "intervals"]
