"""The best that any ranking can get under a protocol; below 100 % where the labels themselves forbid more."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.arrays import Ragged
from cirbench.metrics.measure import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cirbench.datasets.protocol import EvaluationProtocol
    from cirbench.metrics.measure import Measurement

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
