"""What an evaluation is: encode the gallery, encode the queries, rank, measure; and its second stage.

The harness never asks which method it has, and the method never sees a label. A re-ranker is handed pixels and texts of
what was found, without ids and names of files, so that nothing but the images and the texts can decide.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from cirbench.benchmarks.images import require_files
from cirbench.errors import MethodFailed, MissingData
from cirbench.methods.interface import Calls, ComposedQuery, GalleryFitted, Picture, Scorer, UsesArtefacts
from cirbench.metrics.measure import measure
from cirbench.ranking import UnitRows, rank, unit_rows
from cirbench.ranking.reranking import first_items, group_items, rerank
from cirbench.ranking.scores import product_here, product_on
from cirbench.ranking.task import ranking_task, scatter_to_full
from cirbench.ranking.vectors import rank_vectors
from cirbench.support import console
from cirbench.support.device import on_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cirbench.artefacts import ArtefactRecord
    from cirbench.benchmarks.images import Lost
    from cirbench.methods.interface import Method
    from cirbench.methods.loading import CheckedReranker
    from cirbench.metrics.measure import Measurement
    from cirbench.protocol import EvaluationProtocol, ImageSource
    from cirbench.ranking.scores import RowSource
    from cirbench.ranking.task import Ranking, RankingTask

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


def evaluate(method: Method, protocol: EvaluationProtocol, device: torch.device | None = None) -> Evaluation:
    """Rank the protocol's gallery for each of its queries by ``method``, and measure the ranking.

    On a GPU, the matrix products of dot products run there; the ranking is the same to the last bit.

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
        score = method.score if isinstance(method, Scorer) else None
        product = product_on(device) if device is not None and on_gpu(device) else product_here
        ranking = rank(queries_QD, gallery_ND, task, score=score, product=product)
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


@dataclasses.dataclass(frozen=True)
class Reranked:
    """What a second stage made of a ranking, and what it took.

    Attributes:
        evaluation: The new order, measured.
        queries: For how many queries something was judged.
        calls: How often a model was asked.
        seconds: The time that the re-ranker took.
        undecided: For how many queries all of the first items, where there are several, got one judgement.
        artefacts: What was used of the recorded answers of models.
    """

    evaluation: Evaluation
    queries: int
    calls: Calls
    seconds: float
    undecided: int
    artefacts: tuple[ArtefactRecord, ...] = ()


class SecondStage:
    """The first ``k`` items of each query of a ranking, and the query's group, ready to be judged.

    Args:
        ranking: Of the first stage, over the whole protocol.
        protocol: With the images of its gallery.
        k: How many items of each query are judged.
    """

    def __init__(self, ranking: Ranking, protocol: EvaluationProtocol, k: int) -> None:
        self._ranking = ranking
        self._protocol = protocol
        self._k = k
        self._task: RankingTask = ranking_task(protocol)
        self._own = [first_items(ranking, k, query) for query in range(len(protocol.queries))]

    @property
    def queries(self) -> int:
        """For how many queries there is something to judge."""
        return sum(len(items) > 0 for items in self._own)

    def require_images(self) -> None:
        """Refuse to begin unless the file of every image that is looked at is there; no others are needed.

        Raises:
            MissingData: Some are not; the message lists them.
        """
        images, lists = self._images, self._lists()
        looked_at = {int(item): None for _, items in lists for item in items}
        references = {query: self._protocol.queries[query].reference.image for query, _ in lists}
        require_files([*references.values(), *(images[at] for at in looked_at)])

    def count_calls(self, reranker: CheckedReranker) -> Calls:
        """Count the calls of a model; of a pair that is in two lists, both."""
        total = Calls(0)
        for query, items in self._lists():
            total += reranker.count_calls(self._query(query), self._pictures(items))
        return total

    def judged(self, reranker: CheckedReranker) -> Reranked:
        """Judge everything, and measure the new order.

        Raises:
            MethodFailed: The re-ranker failed, or tells no two items of any query apart.
            MissingData: An image cannot be read.
        """
        calls, seconds = Calls(0), 0.0
        comparable = undecided = 0
        pool = {query: len(items) for query, items in enumerate(self._own)}
        with console.progress("Re-ranking", self.queries, unit="queries") as advance:

            def judge(query: int, items: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
                nonlocal calls, seconds, comparable, undecided
                composed, pictures = self._query(query), self._pictures(items)
                calls += reranker.count_calls(composed, pictures)
                begun = time.perf_counter()
                judged = reranker.rerank(composed, pictures, scores)
                seconds += time.perf_counter() - begun
                if pool.pop(query, 0):  # the first list of a query; its group comes behind
                    comparable += len(items) > 1
                    undecided += len(items) > 1 and bool((judged == judged[0]).all())
                    advance(1)
                return judged

            ranking = rerank(self._ranking, self._task, self._k, judge)
        if comparable and undecided == comparable:
            raise MethodFailed(
                f"The re-ranker gave all of the first {self._k} items of each query the same judgement, on all "
                f"{comparable} queries, so nothing was re-ranked.",
                hint="Look at what its model answers: scores may be saturated or rounded, or the prompt not followed.",
            )
        measurements = measure(ranking, self._protocol) if self._protocol.labels is not None else ()
        evaluation = Evaluation(ranking, measurements, {"re-ranking": seconds})
        return Reranked(evaluation, self.queries, calls, seconds, undecided, tuple(reranker.artefacts))

    def _lists(self) -> list[tuple[int, NDArray[np.int64]]]:
        """Every list that is judged, with the number of its query."""
        found = []
        for query, items in enumerate(self._own):
            if len(items):
                found.append((query, items))
                if self._task.groups is not None:
                    found.append((query, group_items(self._ranking, self._task, query)))
        return found

    @property
    def _images(self) -> Sequence[ImageSource]:
        gallery = self._protocol.gallery
        if gallery is None or gallery.images is None:
            raise MissingData(
                f"The images of {self._protocol.name} are not available, and a re-ranker looks at them.",
                hint=f"What is missing: cirbench data plan {self._protocol.id.partition('/')[0]}",
            )
        return gallery.images

    def _query(self, query: int) -> ComposedQuery:
        return ComposedQuery.of(self._protocol.queries[query])

    def _pictures(self, items: NDArray[np.int64]) -> list[Picture]:
        images = self._images
        return [Picture(images[at]) for at in items]
