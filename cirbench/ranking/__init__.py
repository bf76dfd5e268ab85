"""Exact ranking, in memory or streamed from disk."""

from __future__ import annotations

from cirbench.metrics.functions import UNRANKED
from cirbench.ranking.ranking import rank
from cirbench.ranking.scores import RowSource, UnitRows, unit_rows
from cirbench.ranking.task import Ranking, RankingTask, ranking_task, tie_order

__all__ = [
    "UNRANKED",
    "Ranking",
    "RankingTask",
    "RowSource",
    "UnitRows",
    "rank",
    "ranking_task",
    "tie_order",
    "unit_rows",
]
