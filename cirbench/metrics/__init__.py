"""Metrics: pure functions on ranks, and a table of what each one is."""

from __future__ import annotations

from cirbench.metrics.functions import Ranks, average_precision_at, recall_at
from cirbench.metrics.measure import Measurement, measure
from cirbench.metrics.table import METRICS, Measure, Metric

__all__ = ["METRICS", "Measure", "Measurement", "Metric", "Ranks", "average_precision_at", "measure", "recall_at"]
