"""A ranking measured under a protocol, and the best that any ranking reaches."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cirbench.metrics.functions import UNRANKED, Ranks
from cirbench.metrics.table import METRICS
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.table import Measure
    from cirbench.protocol import EvaluationProtocol


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
class KnownRanks:
    """Ranks without the rest of a ranking, with soft labels where there are any; see `Ranked` and `Graded`."""

    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None = None
    gains: tuple[tuple[float, ...], ...] | None = None


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is reported, without the rest of a protocol; see `Measured`."""

    measures: tuple[Measure, ...]
    slices: Mapping[str, tuple[tuple[str, ...], ...]]
    labels: Graded | None


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
        for measurement in measurements_of(asked, values_Q, protocol.slices)
    )


def per_query(ranked: Ranked, asked: Measure, labels: Graded | None = None) -> NDArray[np.float64] | None:
    """Return the value of each query, NaN where it has none; ``None`` where groups are asked for and not ranked."""
    metric = METRICS.find(asked.metric)
    ranks = ranks_of(ranked, labels)
    if metric.needs in ("gains", "negatives") and ranks.gains is None:
        raise ValueError(f"{metric.name} needs soft labels")
    if metric.needs == "groups" and ranked.group_ranks_Q is None:
        return None
    return metric.function(ranks if metric.needs in ("gains", "negatives") else ranks.positives, asked.k)


def ranks_of(ranked: Ranked, labels: Graded | None) -> Ranks:
    """Return what metrics are made of: the ranks with the soft labels of their ground truths."""
    return Ranks(ranked.relevant_ranks, ranked.group_ranks_Q, soft_labels(labels))


def soft_labels(labels: Graded | None) -> NDArray[np.float64] | None:
    """Return the soft labels of all ground truths, query after query; ``None`` where all are equally right."""
    if labels is None or labels.gains is None:
        return None
    return np.array([gain for row in labels.gains for gain in row], dtype=np.float64)


def measurements_of(
    asked: Measure, values_Q: NDArray[np.float64], slices: Mapping[str, tuple[tuple[str, ...], ...]]
) -> Iterator[Measurement]:
    """Yield the number of all queries, or that of each slice, the mean over slices first where it is asked for."""
    name = asked.label
    if asked.by is None:
        if not np.isnan(values_Q).all():
            yield Measurement(name, values_Q, float(np.nanmean(values_Q)))
        return
    labels_Q = slices[asked.by]
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


def ceilings(protocol: EvaluationProtocol) -> tuple[Measurement, ...]:
    """Measure a perfect ranking: every ground truth first, those of larger soft labels before others, negatives last.

    Domain conversion on ImageNet-R has queries without any ground truth and queries with more than K, CIRR's soft
    labels have queries whose only positive image is the excluded reference.
    """
    if protocol.labels is None:
        return ()
    groups = None if protocol.groups is None else np.ones(len(protocol.queries), dtype=np.int64)
    return measure(KnownRanks(Ragged.of(list(_perfect_ranks(protocol)), np.int64), groups), protocol)


def _perfect_ranks(protocol: EvaluationProtocol) -> Iterator[Sequence[int]]:
    assert protocol.labels is not None
    if protocol.labels.gains is None and not protocol.exclude_reference:
        yield from (range(1, 1 + len(relevant)) for relevant in protocol.labels.relevant)
        return
    gains = protocol.labels.gains or [(1.0,) * len(row) for row in protocol.labels.relevant]
    for query, relevant, row in zip(protocol.queries, protocol.labels.relevant, gains, strict=True):
        excluded = query.reference.id if protocol.exclude_reference else None
        ranks = [UNRANKED] * len(relevant)
        best_first = sorted(range(len(relevant)), key=lambda place: -row[place])
        right = (place for place in best_first if relevant[place] != excluded and row[place] >= 0)
        for rank, place in enumerate(right, start=1):
            ranks[place] = rank
        yield ranks
