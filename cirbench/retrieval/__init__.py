"""Exact ranking, in memory or streamed from disk."""

from __future__ import annotations

from cirbench.retrieval.exact import rank
from cirbench.retrieval.files import RowFiles
from cirbench.retrieval.task import UNRANKED, Ranking, RankingTask, ranking_task, tie_order
from cirbench.retrieval.units import UnitRows, unit_rows

__all__ = [
    "UNRANKED",
    "Ranking",
    "RankingTask",
    "RowFiles",
    "UnitRows",
    "rank",
    "ranking_task",
    "tie_order",
    "unit_rows",
]
