"""Count exactly how many candidates stand before each wanted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.arrays import Ragged
from cirbench.retrieval.filters import above, below, row_counts
from cirbench.retrieval.order import sort_keys
from cirbench.retrieval.scores import score_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.retrieval.candidates import Candidates

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
        self._row = wanted.row_of_value
        self._scores = score_pairs(queries_TD, candidates, wanted)
        self._before = np.zeros(len(wanted.values), dtype=np.int64)
        self._ties = np.zeros(len(wanted.values), dtype=np.int64)
        self._near: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._pending = 0

    def count(self, scores_TB: NDArray[np.float32], error_T: NDArray[np.float64], start: int) -> None:
        """Take in a block of filter scores; column 0 is the candidate at place ``start``."""
        error = error_T[self._row]
        low, high = below(self._scores - error), above(self._scores + error)
        lengths_T = self._wanted.lengths
        for nth in range(int(lengths_T.max(initial=0))):
            rows = np.flatnonzero(lengths_T > nth)
            target = self._wanted.offsets[rows] + nth
            some_TB = scores_TB if len(rows) == len(scores_TB) else scores_TB[rows]
            better = row_counts(some_TB > high[target, None])
            near = np.flatnonzero(row_counts(some_TB >= low[target, None]) - better)
            self._before[target] += better
            if len(near):
                near_TB = some_TB[near]
                which, column = np.nonzero((near_TB >= low[target[near], None]) & (near_TB <= high[target[near], None]))
                self._near.append((target[near[which]], start + column))
                self._pending += len(column)
        if self._pending > _PENDING:
            self._settle()

    def ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the 1-based rank of each wanted candidate and how many others have exactly its score."""
        self._settle()
        return 1 + self._before, self._ties

    def _settle(self) -> None:
        if not self._near:
            return
        target, place = (np.concatenate(parts) for parts in zip(*self._near, strict=True))
        order = np.argsort(target, kind="stable")
        target, place = target[order], place[order]
        offsets = np.searchsorted(self._row[target], np.arange(len(self._queries_TD) + 1))
        scores = score_pairs(self._queries_TD, self._candidates, Ragged(place, offsets))
        tie_order = self._candidates.tie_order
        before = sort_keys(scores, tie_order[place]) < sort_keys(
            self._scores[target], tie_order[self._wanted.values[target]]
        )
        tied = (scores == self._scores[target]) & (place != self._wanted.values[target])
        self._before += np.bincount(target[before], minlength=len(self._before))
        self._ties += np.bincount(target[tied], minlength=len(self._ties))
        self._near, self._pending = [], 0
