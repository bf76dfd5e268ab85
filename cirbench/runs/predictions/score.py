"""From somebody's lists or features to the numbers of a protocol, with intervals."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.metrics.measure import measure
from cirbench.runs.predictions.features import rank_features
from cirbench.runs.predictions.lists import check, list_ranks
from cirbench.metrics.statistics.intervals import intervals

if TYPE_CHECKING:
    from cirbench.protocol import EvaluationProtocol
    from cirbench.metrics.measure import Measurement, Ranked
    from cirbench.metrics.table import Measure
    from cirbench.runs.predictions.features import FeatureFiles
    from cirbench.runs.predictions.lists import RankedLists
    from cirbench.metrics.statistics.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Score:
    """What given rankings are worth under a protocol.

    Attributes:
        protocol: As scored; from features, with the gallery that was ranked.
        measurements: Every measure that could be taken.
        intervals: The 95 % bootstrap interval of each.
        tied_relevant: Ground truths that share their exact score with another candidate; ``None`` for lists, which
            do not tell.
    """

    protocol: EvaluationProtocol
    measurements: tuple[Measurement, ...]
    intervals: tuple[Interval, ...]
    tied_relevant: int | None = None

    @property
    def not_measured(self) -> tuple[Measure, ...]:
        """The measures of the protocol that these predictions say nothing about: those on groups, not ranked."""
        taken = {measurement.measure for measurement in self.measurements}
        return tuple(asked for asked in self.protocol.measures if asked not in taken)


def score_lists(lists: RankedLists, protocol: EvaluationProtocol) -> Score:
    """Check ranked lists against a protocol and measure them; a ground truth that is not listed counts as not found.

    Raises:
        UsageError: The protocol's labels are not public.
        InvalidPredictions: The lists break a rule of the protocol.
    """
    require_labels(protocol)
    check(lists, protocol)
    return _score(list_ranks(lists, protocol), protocol)


def score_features(queries: FeatureFiles, gallery: FeatureFiles, protocol: EvaluationProtocol) -> Score:
    """Rank features (`rank_features`) and measure the ranking.

    Raises:
        UsageError: The protocol's labels are not public.
        MissingData: A file is not there or cannot be read.
        InvalidPredictions: A file does not fit the protocol.
    """
    require_labels(protocol)
    protocol, ranking = rank_features(queries, gallery, protocol)
    return dataclasses.replace(_score(ranking, protocol), tied_relevant=ranking.tied_relevant)


def _score(ranked: Ranked, protocol: EvaluationProtocol) -> Score:
    measurements = measure(ranked, protocol)
    return Score(protocol, measurements, intervals(measurements, protocol.clusters))


def require_labels(protocol: EvaluationProtocol) -> None:
    """Refuse a protocol without ground truths.

    Raises:
        UsageError: It is one.
    """
    if protocol.labels is None:
        raise UsageError(
            f"{protocol.name} cannot be scored here: its ground truths are not available.",
            hint="Where a test server keeps them, score the val split, or upload to the server. Your own data need a "
            "column targets.",
        )
