"""Count exactly how many candidates stand before each wanted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking.filters import above, below, passing, row_counts
from cirbench.ranking.order import padded, sort_keys
from cirbench.ranking.scores import score_pairs
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.ranking.candidates import Candidates

_PENDING = 1 << 18


class Targets:
    """The wanted candidates of a tile of queries and how many others stand before them so far.

    A candidate whose filter score is further from the target's exact score than the filter's error is counted at
    once; a nearer one waits for its own exact score.
    """

    def __init__(self, queries_TD: NDArray[np.float32], candidates: Candidates, wanted: Ragged[np.int64]) -> None:
        self._queries_TD = queries_TD
        self._candidates = candidates
        self._wanted = wanted
        self._scores = score_pairs(queries_TD, candidates, wanted)
        # A query with fewer targets than W has targets at +inf in their place, before which nobody stands.
        self._scores_TW = padded(self._scores.astype(np.float64), wanted.row_of_value, len(wanted), np.float64(np.inf))
        self._before_TW = np.zeros(self._scores_TW.shape, dtype=np.int64)
        self._near: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        self._pending = 0
        self._settled_before = np.zeros(len(wanted.values), dtype=np.int64)
        self._ties = np.zeros(len(wanted.values), dtype=np.int64)

    def count(self, scores_TB: NDArray[np.float32], error_T: NDArray[np.float64], start: int) -> None:
        """Take in a block of filter scores; column 0 is the candidate at place ``start``."""
        low_TW = below(self._scores_TW - error_T[:, None])
        high_TW = above(self._scores_TW + error_T[:, None])
        for nth in range(low_TW.shape[1]):
            rows = 1 + int(np.flatnonzero(self._wanted.lengths > nth)[-1])
            low_R1, high_R1 = low_TW[:rows, nth, None], high_TW[:rows, nth, None]
            better_R = row_counts(scores_TB[:rows] > high_R1)
            near_R = np.flatnonzero(row_counts(scores_TB[:rows] >= low_R1) - better_R)
            self._before_TW[:rows, nth] += better_R
            if len(near_R):
                near_RB = scores_TB[near_R]
                row, column = passing((near_RB >= low_R1[near_R]) & (near_RB <= high_R1[near_R]))
                self._near.append((near_R[row], np.full(len(row), nth), start + column))
                self._pending += len(row)
        if self._pending > _PENDING:
            self._settle()

    def ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the 1-based rank of each wanted candidate and how many others have exactly its score."""
        self._settle()
        row = self._wanted.row_of_value
        nth = np.arange(len(row)) - self._wanted.offsets[row]
        return 1 + self._before_TW[row, nth] + self._settled_before, self._ties

    def _settle(self) -> None:
        if not self._near:
            return
        row, nth, place = (np.concatenate(parts) for parts in zip(*self._near, strict=True))
        order = np.argsort(row, kind="stable")
        row, place = row[order], place[order]
        target = self._wanted.offsets[row] + nth[order]
        offsets = np.searchsorted(row, np.arange(len(self._queries_TD) + 1))
        scores = score_pairs(self._queries_TD, self._candidates, Ragged(place, offsets))
        tie_order, own_place = self._candidates.tie_order, self._wanted.values[target]
        keys, own_keys = sort_keys(scores, tie_order[place]), sort_keys(self._scores[target], tie_order[own_place])
        tied = (scores == self._scores[target]) & (place != own_place)
        self._settled_before += np.bincount(target[keys < own_keys], minlength=len(self._ties))
        self._ties += np.bincount(target[tied], minlength=len(self._ties))
        self._near, self._pending = [], 0
