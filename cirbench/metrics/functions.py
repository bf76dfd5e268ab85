"""The metrics that come with cirbench: a function on 1-based ranks and an entry in the table for each.

A function gives one value per query, NaN where a query takes no part. Most give fractions, whose mean is the number; a
metric of another unit is reported beside a protocol's own. A benchmark says that an item is a wrong answer by a soft
label below 0 (`cirbench.protocol.Labels`). It is ranked as ground truths are, and only metrics that need negatives look
at it; PinPoint (arXiv:2603.04598) reports such numbers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.table import CIRR_AVERAGE, NO_CUTOFF, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.support.arrays import Ragged


UNRANKED = np.iinfo(np.int64).max
"""The rank of a ground truth that is not among the candidates, or not in a given list."""


@dataclasses.dataclass(frozen=True)
class Ranks:
    """What a metric is made of.

    Attributes:
        relevant: Per query, the 1-based rank of each ground truth, the target first; `UNRANKED` where it has none.
        group_Q: The rank of the target inside its group; ``None`` where groups were not ranked.
        gains: The soft label of each ground truth, in the order of ``relevant.values``; ``None`` where all are 1.
    """

    relevant: Ragged[np.int64]
    group_Q: NDArray[np.int64] | None = None
    gains: NDArray[np.float64] | None = None

    @property
    def positives(self) -> Ranks:
        """The same without negatives: items whose soft label is below 0 are known to be wrong."""
        if self.gains is None or not (self.gains < 0).any():
            return self
        right = self.gains >= 0
        return dataclasses.replace(self, relevant=self.relevant.where(right), gains=self.gains[right])

    @property
    def negatives(self) -> Ragged[np.int64]:
        """Per query, the ranks of its negatives."""
        wrong = np.zeros(len(self.relevant.values), dtype=bool) if self.gains is None else self.gains < 0
        return self.relevant.where(wrong)

    @property
    def best_Q(self) -> NDArray[np.int64]:
        """The rank of each query's best ground truth; `UNRANKED` for a query without any."""
        best_Q = np.full(len(self.relevant), UNRANKED)
        np.minimum.at(best_Q, self.relevant.row_of_value, self.relevant.values)
        return best_Q

    def where_labelled(self, values_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of queries that have a ground truth, and NaN for the others."""
        return np.where(self.relevant.lengths > 0, values_Q, np.nan)


def recall_at(ranks_Q: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Say for each query whether its target is among the first ``k``: 1.0 or 0.0."""
    return (ranks_Q <= k).astype(np.float64)


def average_precision_at(ranks: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Return the average precision over the first ``k`` candidates of each query.

    AP@K = 1/min(n, K) · sum of the precision at each of the n ground truths found in the first K; the denominator
    is CIRCO's (Baldrati et al., ICCV 2023, section 5.1), not the number of all ground truths as in TREC's evaluation.

    Args:
        ranks: Per query, the ranks of all its ground truths, in any order.
        k: The cut-off.

    Returns:
        (Q,) fractions; NaN for a query without ground truths.
    """
    row = ranks.row_of_value
    ascending = ranks.values[np.lexsort((ranks.values, row))]
    found_so_far = 1 + np.arange(len(row)) - ranks.offsets[row]
    precision = np.where(ascending <= k, found_so_far / ascending, 0.0)
    total_Q = np.bincount(row, weights=precision, minlength=len(ranks))
    attainable_Q = np.minimum(ranks.lengths, k).astype(np.float64)
    values_Q = np.full(len(ranks), np.nan)
    np.divide(total_Q, attainable_Q, out=values_Q, where=attainable_Q > 0)
    return values_Q


def full_average_precision(ranks: Ragged[np.int64], *, trapezoidal: bool) -> NDArray[np.float64]:
    """Return the average precision over the whole ranking of each query.

    The plain one is the mean over all n ground truths of the precision j/r at the rank r of the j-th one found, as in
    TREC's evaluation. The trapezoidal one takes the mean of the precision at r and just before it, (j-1)/(r-1), and 1
    before the first rank, as the evaluation of Oxford buildings did (Philbin et al., CVPR 2007): one ground truth at
    rank r > 1 counts 1/r in the plain one and 1/(2r) in the other, so that the two are never compared. The public code
    of i-CIR and FREEDOM adds 1e-5 to n, which moves no value by more than its 1e-5th part, and is left out here.

    Args:
        ranks: Per query, the ranks of all its ground truths, in any order; one that is `UNRANKED` counts 0.
        trapezoidal: Which of the two.

    Returns:
        (Q,) fractions; NaN for a query without ground truths.
    """
    row = ranks.row_of_value
    ascending = ranks.values[np.lexsort((ranks.values, row))].astype(np.float64)
    found_so_far = 1.0 + np.arange(len(row)) - ranks.offsets[row]
    precision = found_so_far / ascending
    if trapezoidal:
        before = np.ones(len(row))
        np.divide(found_so_far - 1, ascending - 1, out=before, where=ascending > 1)
        precision = (precision + before) / 2
    precision[ascending >= UNRANKED] = 0.0
    total_Q = np.bincount(row, weights=precision, minlength=len(ranks))
    values_Q = np.full(len(ranks), np.nan)
    np.divide(total_Q, ranks.lengths, out=values_Q, where=ranks.lengths > 0)
    return values_Q


def fractional_recall_at(ranks: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Return the share of each query's ground truths that is among the first ``k``; 0.0 where it has none.

    Pic2Word's public evaluation (Saito et al., CVPR 2023) also counts queries without ground truths as 0. It adds 1e-5
    to the number of ground truths, which moves no value by more than its 1e-5th part, and is left out here.
    """
    found_Q = np.bincount(ranks.row_of_value, weights=ranks.values <= k, minlength=len(ranks))
    return found_Q / np.maximum(ranks.lengths, 1)


def hit_at(ranks: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Say for each query whether any of its ground truths is among the first ``k``: 1.0 or 0.0, also without any."""
    found_Q = np.bincount(ranks.row_of_value, weights=ranks.values <= k, minlength=len(ranks))
    return (found_Q > 0).astype(np.float64)


def soft_recall_at(ranks: Ragged[np.int64], gains: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the largest gain among the first ``k`` candidates of each query, and at least 0.0.

    Args:
        ranks: Per query, the ranks of all its soft targets.
        gains: The soft label of each, in the order of ``ranks.values``.
        k: The cut-off.
    """
    values_Q = np.zeros(len(ranks))
    np.maximum.at(values_Q, ranks.row_of_value, np.where(ranks.values <= k, gains, 0.0))
    return values_Q


def ndcg_at(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Return the discounted gain of the first ``k`` candidates as a share of what the best order gets.

    The gain of a ground truth is its soft label where there are any (those below 0 count as 0) and 1 otherwise, and is
    divided by log2(1 + rank), without 2^gain (Järvelin and Kekäläinen, TOIS 2002, with the base of trec_eval).

    Returns:
        (Q,) fractions; NaN for a query without any gain.
    """
    relevant, row = ranks.relevant, ranks.relevant.row_of_value
    gains = np.ones(len(relevant.values)) if ranks.gains is None else np.maximum(ranks.gains, 0.0)
    discounted = np.where(relevant.values <= k, gains / np.log2(1.0 + relevant.values.astype(np.float64)), 0.0)
    found_Q = np.bincount(row, weights=discounted, minlength=len(relevant))
    best_first = gains[np.lexsort((-gains, row))]
    place = 1 + np.arange(len(row)) - relevant.offsets[row]
    ideal_Q = np.bincount(
        row, weights=np.where(place <= k, best_first / np.log2(1.0 + place), 0), minlength=len(relevant)
    )
    values_Q = np.full(len(relevant), np.nan)
    np.divide(found_Q, ideal_Q, out=values_Q, where=ideal_Q > 0)
    return values_Q


def reciprocal_rank_at(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Return one by the rank of each query's best ground truth, 0.0 where none is among the first ``k``."""
    best_Q = ranks.best_Q
    return ranks.where_labelled(np.where(best_Q <= k, 1 / best_Q, 0.0))


def best_rank(ranks: Ranks, _k: int) -> NDArray[np.float64]:
    """Return the rank of each query's best ground truth, infinite where none is ranked."""
    best_Q = ranks.best_Q
    return ranks.where_labelled(np.where(best_Q == UNRANKED, np.inf, best_Q.astype(np.float64)))


def negative_recall_at(negatives: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Return the share of each query's negatives that is among the first ``k``; lower is better.

    Args:
        negatives: Per query, the 1-based ranks of the items that are known to be wrong, `UNRANKED` for one that is not
            ranked.
        k: The cut-off.

    Returns:
        (Q,) fractions; NaN for a query without negatives.
    """
    found_Q = np.bincount(negatives.row_of_value, weights=negatives.values <= k, minlength=len(negatives))
    values_Q = np.full(len(negatives), np.nan)
    np.divide(found_Q, negatives.lengths, out=values_Q, where=negatives.lengths > 0)
    return values_Q


def without_negatives(relevant: Ragged[np.int64], negatives: Ragged[np.int64]) -> Ragged[np.int64]:
    """Return the ranks that ground truths would have if the negatives were not in the gallery.

    Args:
        relevant: Per query, the ranks of its ground truths.
        negatives: Per query, the ranks of its negatives, none of which is a ground truth.
    """
    ranks = relevant.values.copy()
    for start, stop, wrong in zip(relevant.offsets[:-1], relevant.offsets[1:], negatives, strict=True):
        own = ranks[start:stop]
        own[own != UNRANKED] -= np.searchsorted(np.sort(wrong), own[own != UNRANKED])
    return relevant.like(ranks)


def average_precision_drop_at(relevant: Ragged[np.int64], negatives: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Return how much of a query's average precision its negatives cost: AP@K without them minus AP@K with them.

    Returns:
        (Q,) fractions from 0 on; NaN for a query without ground truths.
    """
    return average_precision_at(without_negatives(relevant, negatives), k) - average_precision_at(relevant, k)


def linguistic_sensitivity(values_Q: NDArray[np.float64], texts_of: Sequence[str]) -> float:
    """Return how much a number depends on wording: largest minus least of each group of paraphrases, averaged.

    Args:
        values_Q: A metric of each query, NaN for one that takes no part.
        texts_of: Per query, a label that paraphrases of one another share; a group of one query counts as 0.

    Raises:
        ValueError: No query takes part.
    """
    part_Q = ~np.isnan(values_Q)
    if not part_Q.any():
        raise ValueError("no query takes part")
    _, group = np.unique(np.asarray(texts_of, dtype=np.str_)[part_Q], return_inverse=True)
    most, least = np.full(group.max() + 1, -np.inf), np.full(group.max() + 1, np.inf)
    np.maximum.at(most, group, values_Q[part_Q])
    np.minimum.at(least, group, values_Q[part_Q])
    return float(np.mean(most - least))


def target_ranks(ranks: Ragged[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rank of each query's target, its first ground truth, and which queries have one."""
    labelled_Q = ranks.lengths > 0
    ranks_Q = np.zeros(len(ranks), dtype=np.int64)
    ranks_Q[labelled_Q] = ranks.values[ranks.offsets[:-1][labelled_Q]]
    return ranks_Q, labelled_Q


def _recall(ranks: Ranks, k: int) -> NDArray[np.float64]:
    return ranks.where_labelled(recall_at(target_ranks(ranks.relevant)[0], k))


def _recall_subset(ranks: Ranks, k: int) -> NDArray[np.float64]:
    assert ranks.group_Q is not None
    return ranks.where_labelled(recall_at(ranks.group_Q, k))


def _cirr_average(ranks: Ranks, _k: int) -> NDArray[np.float64]:
    return (_recall(ranks, 5) + _recall_subset(ranks, 1)) / 2


def _recall_soft(ranks: Ranks, k: int) -> NDArray[np.float64]:
    assert ranks.gains is not None
    return soft_recall_at(ranks.relevant, ranks.gains, k)


RECALL = Metric(
    "Recall",
    "How often the target is among the first K candidates.",
    "CIRR: Liu et al., ICCV 2021, section 5.1; FashionIQ: Wu et al., CVPR 2021, section 5",
    _recall,
)
RECALL_SUBSET = Metric(
    "Recall_subset",
    "How often the target is among the first K of its group, ranked by the same scores without the reference.",
    "CIRR: Liu et al., ICCV 2021, section 5.1",
    _recall_subset,
    needs="groups",
)
MEAN_AVERAGE_PRECISION = Metric(
    "mAP",
    "The mean over queries of the precision at each ground truth found in the first K, divided by "
    "min(number of ground truths, K).",
    "CIRCO: Baldrati et al., ICCV 2023, section 5.1, equation 6",
    lambda ranks, k: average_precision_at(ranks.relevant, k),
    on_all=True,
)
FULL_AVERAGE_PRECISION = Metric(
    "mAP_full",
    "The mean over queries of the precision at each ground truth, over the whole ranking.",
    "TREC: Voorhees and Harman, 2005, chapter 3",
    lambda ranks, _k: full_average_precision(ranks.relevant, trapezoidal=False),
    on_all=True,
    fixed_k=NO_CUTOFF,
)
TRAPEZOIDAL_AVERAGE_PRECISION = Metric(
    "mAP_trapezoidal",
    "The mean over queries of the area under the curve of precision over recall, by the trapezoidal rule, over the "
    "whole ranking.",
    "Public evaluations of FREEDOM, WACV 2025, and i-CIR: Psomas et al., NeurIPS 2025; first Philbin et al., CVPR 2007",
    lambda ranks, _k: full_average_precision(ranks.relevant, trapezoidal=True),
    on_all=True,
    fixed_k=NO_CUTOFF,
)
TRAPEZOIDAL_OVER_ALL_QUERIES = Metric(
    "mAP_trapezoidal_all",
    "mAP_trapezoidal over all queries: a query without ground truths counts 0, and takes no part in mAP_trapezoidal.",
    "Public evaluation of FREEDOM: Efthymiadis et al., WACV 2025",
    lambda ranks, _k: np.nan_to_num(full_average_precision(ranks.relevant, trapezoidal=True), nan=0.0),
    on_all=True,
    fixed_k=NO_CUTOFF,
)
CIRR_MEAN = Metric(
    CIRR_AVERAGE,
    "The mean of Recall@5 and Recall_subset@1.",
    "CIRR: Liu et al., ICCV 2021, section 5.1",
    _cirr_average,
    needs="groups",
    fixed_k=5,
)
RECALL_SOFT = Metric(
    "Recall_soft",
    "The largest soft label among the first K candidates, 0 where none is positive.",
    "CIRPLANT's public evaluation: Liu et al., ICCV 2021",
    _recall_soft,
    needs="gains",
)
RECALL_FRACTIONAL = Metric(
    "Recall_fractional",
    "The share of a query's ground truths that is among the first K, 0 for a query without ground truths.",
    "Pic2Word's public evaluation: Saito et al., CVPR 2023",
    lambda ranks, k: fractional_recall_at(ranks.relevant, k),
    on_all=True,
)
HIT_RATE = Metric(
    "Hit_rate",
    "How often any ground truth is among the first K, never for a query without ground truths.",
    "MagicLens' public evaluation: Zhang et al., ICML 2024",
    lambda ranks, k: hit_at(ranks.relevant, k),
    on_all=True,
)
NDCG = Metric(
    "nDCG",
    "The gain of the first K candidates, divided by log2(1 + rank), as a share of what the best order gets.",
    "Järvelin and Kekäläinen, ACM TOIS 20 (4), 2002",
    ndcg_at,
    on_all=True,
)
MEAN_RECIPROCAL_RANK = Metric(
    "MRR",
    "The mean over queries of one by the rank of the best ground truth; with K, 0 where that is behind the first K.",
    "Voorhees, TREC-8, 1999",
    reciprocal_rank_at,
    on_all=True,
    whole=True,
)
MEDIAN_RANK = Metric(
    "MedR",
    "The median over queries of the rank of the best ground truth.",
    "Usual in text-to-image retrieval",
    best_rank,
    higher_is_better=False,
    unit="rank",
    on_all=True,
    fixed_k=NO_CUTOFF,
)


NEGATIVE_RECALL = Metric(
    "NegRecall",
    "The share of a query's negatives that is among the first K.",
    "PinPoint: arXiv:2603.04598, CVPR 2026",
    lambda ranks, k: negative_recall_at(ranks.negatives, k),
    needs="negatives",
    higher_is_better=False,
)
PRECISION_DROP = Metric(
    "mAP_drop",
    "How much higher mAP is when the negatives are taken out of the ranking.",
    "PinPoint: arXiv:2603.04598, CVPR 2026, as delta mAP",
    lambda ranks, k: average_precision_drop_at(ranks.positives.relevant, ranks.negatives, k),
    needs="negatives",
    higher_is_better=False,
    on_all=True,
)
