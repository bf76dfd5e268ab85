"""Metrics as functions on 1-based ranks, a ranking measured under a protocol, and the best that any ranking reaches.

The functions give one fraction per query, NaN where a query has no answer.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cirbench.metrics.table import CIRR_AVERAGE
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from cirbench.metrics.table import Measure
    from cirbench.protocol import EvaluationProtocol


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


def target_ranks(ranks: Ragged[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rank of each query's target, its first ground truth, and which queries have one."""
    labelled_Q = ranks.lengths > 0
    ranks_Q = np.zeros(len(ranks), dtype=np.int64)
    ranks_Q[labelled_Q] = ranks.values[ranks.offsets[:-1][labelled_Q]]
    return ranks_Q, labelled_Q


ON_ALL_GROUND_TRUTHS: Mapping[str, Callable[[Ragged[np.int64], int], NDArray[np.float64]]] = {
    "mAP": average_precision_at,
    "Recall_fractional": fractional_recall_at,
    "Hit_rate": hit_at,
}
ON_GROUPS = ("Recall_subset", CIRR_AVERAGE)


class Ranked(Protocol):
    """What a number is made of: a `Ranking`, or the ranks read from somebody's list."""

    @property
    def relevant_ranks(self) -> Ragged[np.int64]:
        """Per query, the 1-based rank of each ground truth, the target first; a huge number where it is not ranked."""
        ...

    @property
    def group_ranks_Q(self) -> NDArray[np.int64] | None:
        """The 1-based rank of the target inside its group, or ``None`` where groups were not ranked."""
        ...


class Measured(Protocol):
    """The part of a protocol that says what to report."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is reported."""
        ...

    @property
    def slices(self) -> Mapping[str, tuple[tuple[str, ...], ...]]:
        """Per kind, the labels that each query carries."""
        ...

    @property
    def labels(self) -> Graded | None:
        """The ground truths, of which only the soft labels are needed here."""
        ...


class Graded(Protocol):
    """Ground truths that may carry soft labels."""

    @property
    def gains(self) -> tuple[tuple[float, ...], ...] | None:
        """Per query the soft label of each ground truth."""
        ...


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One reported number and the queries it is made of.

    Attributes:
        label: ``"mAP@5"``, ``"mAP@10[aspect=negation]"`` or, for the unweighted mean over slices,
            ``"Recall@10[mean over category]"``.
        values_Q: Per query a fraction, NaN for a query that does not take part.
        value: The mean over the queries that take part; for a mean over slices, the mean of their means.
        mean_of: The labels of the slices that a mean over slices averages; empty otherwise.
        by_seed: Where values are means over seeds, the number of each seed; empty otherwise.
    """

    label: str
    values_Q: NDArray[np.float64]
    value: float
    mean_of: tuple[str, ...] = ()
    by_seed: tuple[float, ...] = ()

    @property
    def count(self) -> int:
        """How many queries take part."""
        return int(np.count_nonzero(~np.isnan(self.values_Q)))


def measure(ranked: Ranked, protocol: Measured) -> tuple[Measurement, ...]:
    """Compute every measure of ``protocol`` from ranks.

    A query without ground truths takes part in nothing, unless the metric says that it counts as 0; a slice in which no
    query takes part is not reported, nor is a measure on groups where groups were not ranked. A mean over slices comes
    before its parts.
    """
    return tuple(
        measurement
        for asked in protocol.measures
        if (values_Q := per_query(ranked, asked, protocol.labels)) is not None
        for measurement in _measurements(asked, values_Q, protocol)
    )


def per_query(ranked: Ranked, asked: Measure, labels: Graded | None = None) -> NDArray[np.float64] | None:
    """Return the value of each query, NaN where it has none; ``None`` where groups are asked for and not ranked."""
    ranks = ranked.relevant_ranks
    if asked.metric in ON_ALL_GROUND_TRUTHS:
        return ON_ALL_GROUND_TRUTHS[asked.metric](ranks, asked.k)
    if asked.metric == "Recall_soft":
        if labels is None or labels.gains is None:
            raise ValueError("Recall_soft needs soft labels")
        return soft_recall_at(ranks, np.array([gain for row in labels.gains for gain in row]), asked.k)
    ranks_Q, labelled_Q = target_ranks(ranks)
    values_Q = recall_at(ranks_Q, asked.k)
    if asked.metric in ON_GROUPS:
        if ranked.group_ranks_Q is None:
            return None
        if asked.metric == CIRR_AVERAGE:
            values_Q = (recall_at(ranks_Q, 5) + recall_at(ranked.group_ranks_Q, 1)) / 2
        else:
            values_Q = recall_at(ranked.group_ranks_Q, asked.k)
    return np.where(labelled_Q, values_Q, np.nan)


def _measurements(asked: Measure, values_Q: NDArray[np.float64], protocol: Measured) -> Iterator[Measurement]:
    name = asked.label
    if asked.by is None:
        if not np.isnan(values_Q).all():
            yield Measurement(name, values_Q, float(np.nanmean(values_Q)))
        return
    labels_Q = protocol.slices[asked.by]
    parts = []
    for label in asked.labels or sorted({label for labels in labels_Q for label in labels}):
        inside_Q = np.fromiter((label in labels for labels in labels_Q), dtype=bool, count=len(labels_Q))
        part_Q = np.where(inside_Q, values_Q, np.nan)
        if not np.isnan(part_Q).all():
            parts.append(Measurement(f"{name}[{asked.by}={label}]", part_Q, float(np.nanmean(part_Q))))
    if asked.macro and parts:
        sliced_Q = np.fromiter((bool(labels) for labels in labels_Q), dtype=bool, count=len(labels_Q))
        yield Measurement(
            f"{name}[mean over {asked.by}]",
            np.where(sliced_Q, values_Q, np.nan),
            float(np.mean([part.value for part in parts])),
            tuple(part.label for part in parts),
        )
    yield from parts


_OUT_OF_REACH = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class _Perfect:
    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None


def ceilings(protocol: EvaluationProtocol) -> tuple[Measurement, ...]:
    """Measure a perfect ranking: every ground truth before everything else, those of larger soft labels first.

    Domain conversion on ImageNet-R has queries without any ground truth and queries with more than K, CIRR's soft
    labels have queries whose only positive image is the excluded reference.
    """
    if protocol.labels is None:
        return ()
    groups = None if protocol.groups is None else np.ones(len(protocol.queries), dtype=np.int64)
    return measure(_Perfect(Ragged.of(list(_perfect_ranks(protocol)), np.int64), groups), protocol)


def _perfect_ranks(protocol: EvaluationProtocol) -> Iterator[list[int]]:
    assert protocol.labels is not None
    gains = protocol.labels.gains or [(1.0,) * len(row) for row in protocol.labels.relevant]
    for query, relevant, row in zip(protocol.queries, protocol.labels.relevant, gains, strict=True):
        excluded = query.reference.id if protocol.exclude_reference else None
        ranks = [_OUT_OF_REACH] * len(relevant)
        best_first = sorted(range(len(relevant)), key=lambda place: -row[place])
        for rank, place in enumerate((place for place in best_first if relevant[place] != excluded), start=1):
            ranks[place] = rank
        yield ranks
