"""Scorers whose results are known beforehand, for any protocol with a gallery and labels.

Each gives unit features of the queries and of the gallery, as a method would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol

    Features = tuple[NDArray[np.float32], NDArray[np.float32]]


def constant(protocol: EvaluationProtocol) -> Features:
    """Every score is the same, so that only the tie rule ranks."""
    queries, items = _sizes(protocol)
    return np.full((queries, 4), 0.5, np.float32), np.full((items, 4), 0.5, np.float32)


def random(protocol: EvaluationProtocol, seed: int = 0) -> Features:
    """Queries and items have nothing to do with each other."""
    queries, items = _sizes(protocol)
    generator = np.random.default_rng(seed)
    return _units(generator.standard_normal((queries, 32))), _units(generator.standard_normal((items, 32)))


def oracle(protocol: EvaluationProtocol) -> Features:
    """Every ground truth scores above everything else."""
    assert protocol.gallery is not None and protocol.labels is not None
    queries, items = _sizes(protocol)
    query_features = np.zeros((queries, items))
    for row, truths in enumerate(protocol.labels.relevant):
        query_features[row, [protocol.gallery.positions[name] for name in truths]] = 1
    return _units(query_features), np.eye(items, dtype=np.float32)


def copy_of_reference(protocol: EvaluationProtocol, seed: int = 0) -> Features:
    """A query is its reference image, as if there were no text."""
    assert protocol.gallery is not None
    _, items = _sizes(protocol)
    gallery_ND = _units(np.random.default_rng(seed).standard_normal((items, 32)))
    references = [protocol.gallery.positions[query.reference.id] for query in protocol.queries]
    return gallery_ND[references], gallery_ND


def _sizes(protocol: EvaluationProtocol) -> tuple[int, int]:
    assert protocol.gallery is not None
    return len(protocol.queries), len(protocol.gallery)


def _units(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return unit_rows(rows, [f"row {number}" for number in range(len(rows))])
