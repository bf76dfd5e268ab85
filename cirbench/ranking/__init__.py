"""Exact ranking, in memory or streamed from disk."""

from __future__ import annotations

from cirbench.ranking.exact import rank
from cirbench.ranking.files import RowFiles
from cirbench.ranking.task import UNRANKED, Ranking, RankingTask, ranking_task, tie_order
from cirbench.ranking.units import UnitRows, unit_rows

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
