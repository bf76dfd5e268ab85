"""What an evaluation is: encode the gallery, encode the queries, rank, measure.

The harness never asks which method it has, and the method never sees a label.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from cirbench.methods.interface import GalleryFitted, Scorer, UsesArtefacts
from cirbench.metrics.measure import measure
from cirbench.ranking import UnitRows, rank, unit_rows
from cirbench.ranking.task import ranking_task, scatter_to_full
from cirbench.ranking.vectors import rank_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.artefacts import ArtefactRecord
    from cirbench.benchmarks.missing import Lost
    from cirbench.methods.interface import Method
    from cirbench.metrics.measure import Measurement
    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.scores import RowSource
    from cirbench.ranking.task import Ranking

_COPIED = 128 << 20
"""Features up to this many bytes are normalised into a copy."""
_SEVERAL = 3
"""Dimensions of an array with several vectors for each query or item."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A method's answer to a protocol, measured.

    Attributes:
        ranking: The first items of each query and the exact rank of each ground truth.
        measurements: Every measure of the protocol with its per-query values; empty where labels are hidden.
        seconds: Wall time by phase.
        artefacts: What was used of the recorded answers of models.
    """

    ranking: Ranking
    measurements: tuple[Measurement, ...]
    seconds: Mapping[str, float]
    artefacts: tuple[ArtefactRecord, ...] = ()


def evaluate(method: Method, protocol: EvaluationProtocol) -> Evaluation:
    """Rank the protocol's gallery for each of its queries by ``method``, and measure the ranking.

    Raises:
        MissingData: The gallery's images are not available.
        MethodFailed: The method returned something that cannot be ranked; the message names the item.
    """
    assert protocol.gallery is not None
    items, queries = protocol.gallery.items, protocol.queries
    clock = Stopwatch()
    if isinstance(method, GalleryFitted):
        method.fit_gallery(items)
    gallery = method.encode_gallery(items)
    clock.lap("gallery")
    encoded = method.encode_queries(queries)
    clock.lap("queries")
    task = ranking_task(protocol)
    if isinstance(method, Scorer) and len(gallery.shape) == len(encoded.shape) == _SEVERAL:
        ranking = rank_vectors(encoded, gallery, task, method.score)
    else:
        gallery_ND = _units(gallery, [f"gallery item {item.id}" for item in items])
        queries_QD = unit_rows(encoded, [f"query {query.id}" for query in queries])
        ranking = rank(queries_QD, gallery_ND, task, score=method.score if isinstance(method, Scorer) else None)
    clock.lap("ranking")
    measurements = measure(ranking, protocol) if protocol.labels is not None else ()
    clock.lap("measuring")
    used = method.artefacts if isinstance(method, UsesArtefacts) else ()
    return Evaluation(ranking, measurements, clock.laps, tuple(artefact.record() for artefact in used))


def _units(features_ND: NDArray[np.float32], names: Sequence[str]) -> RowSource:
    """Rows of unit length: in an array of their own, or where that is large, as they are read, to hold them once."""
    return unit_rows(features_ND, names) if features_ND.nbytes <= _COPIED else UnitRows(features_ND, names)


def count_missing_as_zero(evaluation: Evaluation, lost: Lost) -> Evaluation:
    """Return an evaluation of what is left of a protocol as one of the whole, with the lost queries as misses."""
    whole = lost.protocol
    ranking = scatter_to_full(evaluation.ranking, ranking_task(whole), lost.kept_queries, lost.kept_items)
    measurements = measure(ranking, whole) if whole.labels is not None else ()
    return dataclasses.replace(evaluation, ranking=ranking, measurements=measurements)


class Stopwatch:
    """Wall time between laps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap under ``name``."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
