"""Small protocols in memory, to hold predictions against."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.benchmarks.circo import UNLABELED2017
from cirbench.benchmarks.images import ImageFiles
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.runs.predictions.score import answer_of_features, answer_of_lists, require_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.runs.predictions.features import Features
    from cirbench.runs.predictions.lists import RankedLists
    from cirbench.runs.predictions.score import Score


def small_protocol(queries: int = 3, images: int = 9, *, depth: int = 5) -> EvaluationProtocol:
    """Query i starts from image i and looks for images i + 1 and i + 2, whose ids are ``"100"`` and up."""
    ids = [str(100 + number) for number in range(images)]
    return custom_protocol(ids, [str(number) for number in range(queries)], depth=depth)


def custom_protocol(gallery: Sequence[str], queries: Sequence[str], *, depth: int = 5) -> EvaluationProtocol:
    """Make the same of given ids."""

    def at(number: int) -> str:
        return gallery[number % len(gallery)]

    images = ImageFiles(UNLABELED2017, tuple(gallery), Path("nowhere"), "cirbench data check circo")
    return EvaluationProtocol(
        id="small/val",
        version=1,
        title="A small protocol",
        queries=tuple(
            Query(name, Item(at(place), images[at(place)]), ("is red",)) for place, name in enumerate(queries)
        ),
        gallery=Gallery(tuple(gallery)),
        labels=Labels(tuple((at(place + 1), at(place + 2)) for place in range(len(queries)))),
        measures=(Measure("mAP", depth), Measure("Recall", 1), Measure("Recall", depth)),
    )


def with_groups(protocol: EvaluationProtocol, size: int = 4) -> EvaluationProtocol:
    """Give each query the group of its reference and the next images, and a measure on it."""
    assert protocol.gallery is not None
    ids = protocol.gallery.ids
    start = [protocol.gallery.positions[query.reference.id] for query in protocol.queries]
    return dataclasses.replace(
        protocol,
        groups=tuple(tuple(ids[(first + step) % len(ids)] for step in range(size)) for first in start),
        measures=(*protocol.measures, Measure("Recall_subset", 2)),
    )


def score_lists(lists: RankedLists, protocol: EvaluationProtocol) -> Score:
    """Check lists against a protocol and measure them, as ``cirbench score`` does."""
    require_labels(protocol)
    return answer_of_lists(lists, protocol).measured()


def score_features(queries: Features, gallery: Features, protocol: EvaluationProtocol) -> Score:
    """Rank features and measure the ranking, as ``cirbench score`` does."""
    require_labels(protocol)
    return answer_of_features([(queries, gallery)], protocol).measured()
