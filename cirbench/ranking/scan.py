"""Rank a large set of candidates block by block, without ever holding all scores.

A float32 matrix product is only a filter: whatever library, order of summation or number of threads computes it, its
error is at most gamma_D · ‖q‖ · ‖g‖ (Higham, section 3.1). Candidates that the filter cannot decide, because they stand
that close to a target's score or to the last place kept, get their score by definition (`cirbench.ranking.scores`).
So the ranking is the one by exact scores, and nothing about the computation can change it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking.leaders import Leaders
from cirbench.ranking.scores import check_finite_rows, dot_error, norms
from cirbench.ranking.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cirbench.ranking.candidates import Candidates
    from cirbench.support.arrays import Ragged

CHUNK = 2048
"""Candidates per block."""

TILE = 512
"""Queries per block, at most; a block of scores then takes 4 MB at most."""


def scan(
    queries_TD: NDArray[np.float32],
    candidates: Candidates,
    excluded_T: NDArray[np.int64],
    wanted: Ragged[np.int64],
    depth: int,
    *,
    chunk: int = CHUNK,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Rank the candidates for a tile of queries.

    Args:
        queries_TD: One row per query.
        candidates: What to rank.
        excluded_T: The place of one candidate to leave out for each query, or -1.
        wanted: Per query, the places of candidates whose exact rank is asked for; never the excluded one.
        depth: How many to keep.
        chunk: Candidates per block; changes speed and memory, never the result.

    Returns:
        The sort keys of the best candidates (T, depth), best first; the ranks of the wanted ones; and how many other
        candidates tie with each, both flat in the order of ``wanted``.

    Raises:
        MethodFailed: A candidate's row holds NaN or infinite values.
    """
    targets = Targets(queries_TD, candidates, wanted)
    leaders = Leaders(queries_TD, candidates, depth)
    for scores_TB, error_T, start in _filter_scores(queries_TD, candidates, excluded_T, chunk):
        targets.count(scores_TB, error_T, start)
        leaders.add(scores_TB, error_T, start)
        del scores_TB  # the largest array by far; the last one need not live on while ranks are settled
    return leaders.keys(), *targets.ranks()


def _filter_scores(
    queries_TD: NDArray[np.float32], candidates: Candidates, excluded_T: NDArray[np.int64], chunk: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64], int]]:
    """Give blocks of inexact scores, each query's bound on their error, and the place of the first candidate.

    The bound covers the filter and the rounding of the exact score, and the underflow of a library that flushes
    denormals. An excluded candidate scores -inf. A block is valid until the next one is asked for.
    """
    query_norms_T = norms(queries_TD)
    unit_error = dot_error(queries_TD.shape[1], np.float32) + float(np.finfo(np.float32).eps)
    underflow = queries_TD.shape[1] * float(np.finfo(np.float32).tiny)
    room = np.empty(len(queries_TD) * _whole_words(min(chunk, len(candidates))), dtype=np.float32)
    for start in range(0, len(candidates), chunk):
        block_BD = candidates.rows(start, start + chunk)
        numbers_B = candidates.positions(np.arange(start, start + len(block_BD)))
        largest_norm = check_finite_rows(block_BD, "gallery item", numbers_B).max()
        scores_TB = _product(queries_TD, block_BD, room)
        here = np.flatnonzero((excluded_T >= start) & (excluded_T < start + len(block_BD)))
        scores_TB[here, excluded_T[here] - start] = -np.inf
        yield scores_TB, unit_error * query_norms_T * largest_norm + underflow, start


def _product(
    queries_TD: NDArray[np.float32], block_BD: NDArray[np.float32], room: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply in float32, by torch where it is loaded anyway; columns of -inf fill up the last word of the filters."""
    rows, width = len(queries_TD), _whole_words(len(block_BD))
    scores_TB = room[: rows * width].reshape(rows, width)
    scores_TB[:, len(block_BD) :] = -np.inf
    part_TB = scores_TB[:, : len(block_BD)]
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_float32_matmul_precision() == "highest":
        with torch.inference_mode():
            torch.mm(torch.from_numpy(queries_TD), torch.from_numpy(block_BD).T, out=torch.from_numpy(part_TB))
    else:
        np.matmul(queries_TD, block_BD.T, out=part_TB)
    return scores_TB


def _whole_words(width: int) -> int:
    return -(-width // 1024) * 1024
