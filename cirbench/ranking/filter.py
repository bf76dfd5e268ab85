"""A float32 filter, for blocks of which few candidates matter.

A float32 matrix product takes half the time of a float64 one. Its error is at most gamma_D · ‖q‖ · ‖g‖ with u = 2^-24,
4.6e-5 for unit rows of 768 numbers. That leaves few pairs open, and those get float64 sums of their own, so the scores,
and with them the ranking, are the same. It ranks CIRCO's size 1.8 times as fast as `product_scores`, which can stand
in for it (docs/performance.md).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking.scores import BlockScores, product_sums, rounded_sums, score_error, score_pairs
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.ranking.scores import Workspace

_WORTH_A_PRODUCT = 16
"""A sum of its own takes a pair as long as so many pairs take in a float64 product."""


def filtered_scores(
    queries_TD: NDArray[np.float32],
    items_BD: NDArray[np.float32],
    lengths_T: NDArray[np.float64],
    workspace: Workspace,
) -> BlockScores:
    """Score a block as `cirbench.ranking.scores.product_scores` does, with approximations from a float32 product."""
    approximate_TB = workspace.array("scores", (len(queries_TD), len(items_BD)), np.float32)
    np.matmul(queries_TD, items_BD.T, out=approximate_TB)

    @functools.cache
    def sums_TB() -> NDArray[np.float64]:
        return product_sums(queries_TD, items_BD, workspace)

    def exact(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(row) * _WORTH_A_PRODUCT > approximate_TB.size:
            return rounded_sums(sums_TB()[row, column], lengths_T[row], queries_TD, row, items_BD, column)
        offsets = np.searchsorted(row, np.arange(len(queries_TD) + 1))
        return score_pairs(queries_TD, items_BD, Ragged(column, offsets), workspace)

    return BlockScores(approximate_TB, score_error(queries_TD.shape[1], np.float32, lengths_T), exact, precise=False)
