"""What a benchmark can find: the smallest difference that its queries are enough for."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from cirbench.statistics.resampling import cluster_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIGNIFICANCE = 0.05
"""A corrected p-value below it tells two methods apart."""

POWER = 0.8


def resolvable(differences_QM: NDArray[np.float64], clusters: Sequence[str] | None = None) -> float:
    """Return the true difference that this pair's test would find in 80 % of repetitions, at the 5 % level.

    It is (z(0.975) + z(0.8)) · se, with the standard error of the mean paired difference, by linearisation over
    clusters: se² = C/(C-1) · Σ_c (mean over measures of Σ_{q in c} (d_q - mean d) / n)². No correction for several
    pairs is in it. Source: Card et al., With Little Power Comes Great Responsibility, EMNLP 2020, for the notion.

    Args:
        differences_QM: Per query the paired difference, NaN where it does not take part; several columns are slices of
            which the number is the unweighted mean.
        clusters: Per query its cluster, or ``None``.
    """
    sums_CM, counts_CM = cluster_sums(differences_QM, clusters)
    clusters_count = len(sums_CM)
    if clusters_count < 2:
        return float("nan")
    totals_M = counts_CM.sum(axis=0)
    residuals_C = ((sums_CM - counts_CM * (sums_CM.sum(axis=0) / totals_M)) / totals_M).mean(axis=1)
    error = np.sqrt(clusters_count / (clusters_count - 1) * np.sum(residuals_C**2))
    normal = NormalDist()
    return float((normal.inv_cdf(1 - SIGNIFICANCE / 2) + normal.inv_cdf(POWER)) * error)
