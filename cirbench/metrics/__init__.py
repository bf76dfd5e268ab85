"""Metrics: pure functions on ranks, and a table of what each one is."""

from __future__ import annotations

from cirbench.metrics.measure import Measurement, average_precision_at, measure, recall_at
from cirbench.metrics.table import METRICS, Measure, Metric

__all__ = ["METRICS", "Measure", "Measurement", "Metric", "average_precision_at", "measure", "recall_at"]
