"""Features of the sizes of the public benchmarks, with ground truths as near their queries as those of real methods.

A ground truth's cosine to its query is drawn from N(0.13, 0.04): for 123,403 items the median rank is then about 20,
a quarter stands below 450 and one in a hundred below 60,000, about what a good method reaches on CIRCO.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking import RankingTask, tie_order
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Sized:
    """A ranking problem of a benchmark's size, and the names that the public code compares."""

    queries_QD: NDArray[np.float32]
    gallery_ND: NDArray[np.float32]
    names: list[str]
    task: RankingTask
    groups: list[list[str]]

    @property
    def truths(self) -> list[list[str]]:
        """The names of the ground truths."""
        return [[self.names[at] for at in row] for row in self.task.relevant]

    @property
    def references(self) -> list[str]:
        """The names of the excluded references."""
        return [self.names[at] for at in self.task.excluded_Q]


SIZES = {
    "fashioniq-dress": (2017, 3817, 512),
    "fashioniq-shirt": (2038, 6346, 512),
    "cirr": (4181, 2297, 512),
    "circo": (800, 123_403, 768),
    "220 of 30k": (220, 30_000, 768),
    "1k of 10k": (1000, 10_000, 512),
    "clustered": (4000, 16_983, 768),
    "100k": (1000, 100_000, 768),
    "1m": (1000, 1_000_000, 768),
}


def sized(name: str) -> Sized:
    """Draw features of a benchmark's size."""
    queries, items, dimension = SIZES[name]
    if name == "clustered":
        return _clustered(name)
    generator = np.random.default_rng(0)
    gallery_ND = _units(generator.standard_normal((items, dimension), dtype=np.float32))
    queries_QD = _units(generator.standard_normal((queries, dimension), dtype=np.float32))
    counts_Q = generator.integers(1, 10, queries) if name == "circo" else np.ones(queries, np.int64)
    order = np.concatenate([generator.permutation(items)] * (1 + int(counts_Q.sum()) // items))
    relevant = Ragged(order[: counts_Q.sum()], np.concatenate([[0], np.cumsum(counts_Q)]))
    cosines = generator.normal(0.13, 0.04, len(relevant.values)).astype(np.float32)[:, None]
    near = queries_QD[relevant.row_of_value] * cosines
    gallery_ND[relevant.values] = _units(gallery_ND[relevant.values] * np.sqrt(1 - cosines**2) + near)
    names = [f"dev-{at}-{at % 4}-img{at % 2}" if name == "cirr" else str(7 + 4 * at) for at in range(items)]
    references = (relevant.values[relevant.offsets[:-1]] + 7) % items
    groups = None
    if name == "cirr":
        others = [(relevant[row][0] + np.array([0, 1, 2, 3, 4])) % items for row in range(queries)]
        groups = Ragged.of([row.tolist() for row in others], np.int64)
    task = RankingTask(
        gallery_size=items,
        tie_order_N=tie_order(names),
        depth=50,
        relevant=relevant,
        excluded_Q=references if name == "cirr" else np.full(queries, -1),
        groups=groups,
    )
    whole = zip(groups, references, strict=True) if groups is not None else ()
    return Sized(queries_QD, gallery_ND, names, task, [[names[at] for at in (*row, last)] for row, last in whole])


def _clustered(name: str, clusters: int = 500, truths: int = 30) -> Sized:
    """Draw queries and items around common centres; the ground truths of a query are items of its cluster."""
    queries, items, dimension = SIZES[name]
    generator = np.random.default_rng(0)
    centres_CD = _units(generator.standard_normal((clusters, dimension), dtype=np.float32))
    cluster_N, cluster_Q = np.arange(items) % clusters, generator.integers(0, clusters, queries)

    def around(cluster: NDArray[np.int64]) -> NDArray[np.float32]:
        noise = generator.standard_normal((len(cluster), dimension), dtype=np.float32)
        return _units(centres_CD[cluster] + noise / np.float32(np.sqrt(dimension)))

    members = [generator.permutation(np.flatnonzero(cluster_N == cluster))[:truths].tolist() for cluster in cluster_Q]
    names = [str(at) for at in range(items)]
    task = RankingTask(items, tie_order(names), 50, Ragged.of(members, np.int64), np.full(queries, -1))
    return Sized(around(cluster_Q), around(cluster_N), names, task, [])


def _units(rows_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return rows_ND
