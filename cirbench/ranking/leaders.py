"""Keep the candidates that may be among the first K of each query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking.filters import below, passing
from cirbench.ranking.order import NO_CANDIDATE, first_of_rows, key_scores, padded, sort_keys
from cirbench.ranking.scores import score_pairs
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.ranking.candidates import Candidates


_PARTS = 8


class Leaders:
    """The best candidates of a tile of queries so far.

    Each query has a floor: K candidates are known to score at least that. Whoever cannot reach the floor, even with
    the filter's error in its favour, is not kept.
    """

    def __init__(self, queries_TD: NDArray[np.float32], candidates: Candidates, depth: int) -> None:
        self._queries_TD = queries_TD
        self._candidates = candidates
        self._depth = depth
        self._floor_T = np.full(len(queries_TD), -np.inf)
        self._error_T = np.zeros(len(queries_TD))
        self._row = np.empty(0, dtype=np.int64)
        self._place = np.empty(0, dtype=np.int64)
        self._score = np.empty(0, dtype=np.float32)
        self._room = 2 * depth * len(queries_TD)

    def add(self, scores_TB: NDArray[np.float32], error_T: NDArray[np.float64], start: int) -> None:
        """Take in a block of filter scores; column 0 is the candidate at place ``start``."""
        self._error_T = np.maximum(self._error_T, error_T)
        if start == 0:
            # The K-th best of the maxima of disjoint parts is no better than the K-th best of all, and cheaper to find.
            self._raise_floor(scores_TB.reshape(len(scores_TB), _PARTS, -1).max(axis=1))
        row, column = passing(scores_TB > self._bound()[:, None])
        self._row = np.concatenate([self._row, row])
        self._place = np.concatenate([self._place, start + column])
        self._score = np.concatenate([self._score, scores_TB[row, column]])
        if len(self._row) > self._room:
            self._thin_out()

    def keys(self) -> NDArray[np.uint64]:
        """Return the sort keys of the first K candidates of each query, (T, K), best first."""
        self._prune()
        return first_of_rows(self._exact_keys(), self._row, len(self._queries_TD), self._depth)

    def _bound(self) -> NDArray[np.float32]:
        return below(self._floor_T - self._error_T)

    def _raise_floor(self, scores_TB: NDArray[np.float32]) -> None:
        width = scores_TB.shape[1]
        if width >= self._depth:
            kth_T = np.partition(scores_TB, width - self._depth, axis=1)[:, width - self._depth]
            self._floor_T = np.maximum(self._floor_T, kth_T - self._error_T)

    def _prune(self) -> None:
        self._sort_by_row()
        self._raise_floor(padded(self._score, self._row, len(self._queries_TD), np.float32(-np.inf)))
        self._keep(self._score > self._bound()[self._row])

    def _thin_out(self) -> None:
        self._prune()
        if len(self._row) > self._room:  # too many stand too close for the filter: exact scores and tie rule decide
            keys = self._exact_keys()
            last_T = first_of_rows(keys, self._row, len(self._queries_TD), self._depth)[:, -1]
            full_T = last_T != NO_CANDIDATE
            self._floor_T[full_T] = np.maximum(self._floor_T, key_scores(last_T))[full_T]
            self._keep(keys <= last_T[self._row])

    def _exact_keys(self) -> NDArray[np.uint64]:
        self._sort_by_row()
        offsets = np.searchsorted(self._row, np.arange(len(self._queries_TD) + 1))
        scores = score_pairs(self._queries_TD, self._candidates, Ragged(self._place, offsets))
        return sort_keys(scores, self._candidates.tie_order[self._place])

    def _sort_by_row(self) -> None:
        order = np.argsort(self._row.astype(np.int16), kind="stable")  # a radix sort, since a tile has few rows
        self._row, self._place, self._score = self._row[order], self._place[order], self._score[order]

    def _keep(self, keep: NDArray[np.bool_]) -> None:
        self._row, self._place, self._score = self._row[keep], self._place[keep], self._score[keep]
