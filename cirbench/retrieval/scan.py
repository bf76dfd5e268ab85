"""Rank a large set of candidates block by block, without ever holding all scores.

A float32 matrix product is only a filter: whatever library, order of summation or number of threads computes it, its
error is at most gamma_D · ‖q‖ · ‖g‖ (Higham, section 3.1). Candidates that the filter cannot decide, because they stand
that close to a target's score or to the last place kept, get their score by definition (`cirbench.retrieval.scores`).
So the ranking is the one by exact scores, and nothing about the computation can change it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import MethodFailed
from cirbench.retrieval.leaders import Leaders
from cirbench.retrieval.scores import dot_error, norms
from cirbench.retrieval.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.arrays import Ragged
    from cirbench.retrieval.candidates import Candidates

CHUNK = 2048
"""Candidates per block."""

TILE = 1024
"""Queries per block; a block of scores then takes 8 MB."""


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
        MethodFailed: A row holds NaN or infinite values.
    """
    query_norms_T = _finite(norms(queries_TD), "query", 0)
    # Of the filter, and of rounding the exact score; the underflow of a library that flushes denormals comes on top.
    unit_error = dot_error(queries_TD.shape[1], np.float32) + float(np.finfo(np.float32).eps)
    underflow = queries_TD.shape[1] * float(np.finfo(np.float32).tiny)
    targets = Targets(queries_TD, candidates, wanted)
    leaders = Leaders(queries_TD, candidates, depth)
    room = np.empty(len(queries_TD) * _whole_words(min(chunk, len(candidates))), dtype=np.float32)
    for start in range(0, len(candidates), chunk):
        block_BD = candidates.rows(start, start + chunk)
        error_T = unit_error * query_norms_T * _finite(norms(block_BD), "gallery item", start).max() + underflow
        scores_TB = _product(queries_TD, block_BD, room)
        here = np.flatnonzero((excluded_T >= start) & (excluded_T < start + len(block_BD)))
        scores_TB[here, excluded_T[here] - start] = -np.inf
        targets.count(scores_TB, error_T, start)
        leaders.add(scores_TB, error_T, start)
    return leaders.keys(), *targets.ranks()


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


def _finite(norms_N: NDArray[np.float64], what: str, start: int) -> NDArray[np.float64]:
    if not np.isfinite(norms_N).all():
        row = start + int(np.flatnonzero(~np.isfinite(norms_N))[0])
        raise MethodFailed(
            f"The features of {what} number {row} (from 0) hold NaN, infinite or enormous values.",
            hint="Check the image or text of this item, and the method's arithmetic.",
        )
    return norms_N
