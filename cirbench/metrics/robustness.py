"""What explicit negatives and paraphrases say of a ranking; PinPoint (arXiv:2603.04598) reports such numbers.

A benchmark says that an item is a wrong answer by a soft label below 0 (`cirbench.protocol.Labels`). It is ranked as
ground truths are, and only the metrics here look at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.functions import UNRANKED, average_precision_at
from cirbench.metrics.table import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.support.arrays import Ragged


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
