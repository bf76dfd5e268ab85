"""Seeded resampling of queries: bootstrap means and sign flips, for many measures at once.

Queries that share an image or a group are not independent of each other; they carry the same cluster label and are
drawn, or flipped, together.

Sums are exact: values are first rounded to multiples of 2^-32, so that a float64 holds any sum of up to a million of
them without error. The result therefore does not depend on the order of summation, on block sizes or on the
linear algebra library, at the price of 10^-10 in a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BLOCK = 1 << 20


def cluster_sums(
    values_QM: NDArray[np.float64], clusters: Sequence[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add up the values of each cluster and count them, both (C, M); a NaN is a query that does not take part.

    Args:
        values_QM: One column per measure, between -1 and 1.
        clusters: Per query its cluster; ``None`` where each query stands for itself.
    """
    takes_part_QM = ~np.isnan(values_QM)
    fixed_QM = np.where(takes_part_QM, np.rint(values_QM * 2.0**32) * 2.0**-32, 0.0)
    if clusters is None:
        return fixed_QM, takes_part_QM.astype(np.float64)
    names, cluster_Q = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    sums_CM = np.zeros((len(names), values_QM.shape[1]))
    counts_CM = np.zeros_like(sums_CM)
    np.add.at(sums_CM, cluster_Q, fixed_QM)
    np.add.at(counts_CM, cluster_Q, takes_part_QM)
    return sums_CM, counts_CM


def bootstrap_means(
    values_QM: NDArray[np.float64],
    *,
    clusters: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    block: int = _BLOCK,
) -> NDArray[np.float64]:
    """Return the mean of each measure in each bootstrap resample of the clusters, (R, M).

    A mean is a ratio of sums: the sum over the drawn clusters over how many of their queries take part; NaN where none
    does. All measures share the resamples. ``block`` bounds the memory and changes nothing else.
    """
    sums_CM, counts_CM = cluster_sums(values_QM, clusters)
    size = len(sums_CM)
    generator = np.random.default_rng(seed)
    totals = []
    both = np.concatenate([sums_CM, counts_CM], axis=1)
    for rows in _row_blocks(resamples, size, block):
        drawn = generator.integers(size, size=(rows, size), dtype=np.int64)
        drawn += np.arange(rows)[:, None] * size
        times_RC = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        totals.append(times_RC.astype(np.float64) @ both)
    sums_RM, counts_RM = np.split(np.concatenate(totals), 2, axis=1)
    means_RM = np.full_like(sums_RM, np.nan)
    np.divide(sums_RM, counts_RM, out=means_RM, where=counts_RM > 0)
    return means_RM


def sign_flipped_means(
    differences_QM: NDArray[np.float64],
    *,
    clusters: Sequence[str] | None = None,
    permutations: int = 10_000,
    seed: int = 0,
    block: int = _BLOCK,
) -> NDArray[np.float64]:
    """Return the mean difference of each measure as observed, then under random sign flips of clusters, (1 + P, M)."""
    sums_CM, counts_CM = cluster_sums(differences_QM, clusters)
    size = len(sums_CM)
    generator = np.random.default_rng(seed)
    totals = [sums_CM.sum(axis=0, keepdims=True)]
    for rows in _row_blocks(permutations, size, block):
        signs_PC = 2.0 * generator.integers(2, size=(rows, size), dtype=np.int64) - 1.0
        totals.append(signs_PC @ sums_CM)
    counts_M = counts_CM.sum(axis=0)
    means: NDArray[np.float64] = np.concatenate(totals) / np.where(counts_M > 0, counts_M, np.nan)
    return means


def _row_blocks(rows: int, width: int, block: int) -> list[int]:
    step = max(1, block // max(width, 1))
    return [min(step, rows - start) for start in range(0, rows, step)]
