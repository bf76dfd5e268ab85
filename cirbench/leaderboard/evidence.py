"""The evidence of an entry: the ranks that its numbers follow from, and what a protocol adds to them.

An archive holds, per query, its id, its cluster, its slices, the rank of each ground truth and, where the protocol has
them, the rank inside the group and the soft labels. Clusters and slices are bound to the protocol by its digests. For a
few queries at even distances it also holds the first items, so that a page can show what was retrieved, and, where a
protocol keeps the reference image among the candidates, its place in the list of every query, for audits.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.comparison.audit import NO_CANDIDATE, ReferencePlaces, reference_places
from cirbench.errors import CorruptFile
from cirbench.leaderboard.entry import RANKS, EntryMetric
from cirbench.metrics.measure import Asked, measure, soft_labels
from cirbench.metrics.statistics import intervals
from cirbench.metrics.table import measures_of
from cirbench.ranking.task import UNRANKED
from cirbench.support.arrays import Ragged, read_archive, to_archive
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.leaderboard.entry import Entry
    from cirbench.metrics.measure import Measurement
    from cirbench.protocol import EvaluationProtocol

MOST_STORED = 1 << 20
"""Bytes of ranks that are stored with an entry; of larger ones the digest is."""

SHOWN_QUERIES, SHOWN_ITEMS = 48, 10
"""Of how many queries how many of the first items are kept."""

_EARLIER = 8
"""Of how many queries entries kept them before; every one of those is among the present ones."""

_UNPACKED = 64 << 20
_ARRAYS = frozenset(
    (
        *("query_ids", "clusters", "slices", "relevant_ranks", "relevant_offsets", "group_ranks_Q", "gains"),
        *("shown_SK", "reference_places_Q", "list_depth"),
    )
)

Slices = dict[str, tuple[tuple[str, ...], ...]]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Per query, what its numbers are made of.

    Attributes:
        query_ids: In the order of everything else.
        clusters: Queries of one cluster are not independent; ``None`` where each stands for itself.
        slices: Per kind, the labels that each query carries.
        relevant_ranks: The 1-based rank of each ground truth, the target first.
        group_ranks_Q: Of the target inside its group, or ``None``.
        gains: Soft labels per ground truth, or ``None``.
        shown_SK: Gallery positions of the first items of the queries at `spread` places, -1 where there are fewer.
        references: Where each query's reference stands in its list; ``None`` in entries from before it was kept, and
            where the protocol removes it.
    """

    query_ids: tuple[str, ...]
    clusters: tuple[str, ...] | None
    slices: Slices
    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None
    gains: tuple[tuple[float, ...], ...] | None
    shown_SK: NDArray[np.int64]
    references: ReferencePlaces | None = None

    @cached_property
    def digest(self) -> str:
        """Sha256 over the ranks of every query; equal for copies, whatever else they say."""
        groups = None if self.group_ranks_Q is None else self.group_ranks_Q.tolist()
        return digest([self.query_ids, [row.tolist() for row in self.relevant_ranks], groups])

    def scores(self, labels: Sequence[str]) -> tuple[EntryMetric, ...]:
        """Compute the numbers of these labels again, with their intervals; see `measured` for what it raises."""
        measured = self.measured(labels)
        found = intervals(measured, self.clusters)
        return tuple(
            EntryMetric(
                label=each.label,
                value=100 * each.value,
                low=100 * interval.low,
                high=100 * interval.high,
                n=each.count,
            )
            for each, interval in zip(measured, found, strict=True)
        )

    def measured(self, labels: Sequence[str]) -> tuple[Measurement, ...]:
        """Measure the ranks again.

        Raises:
            ValueError: A label is not valid, or asks for what the evidence does not hold.
        """
        return measure(self, self.asked(labels))

    def asked(self, labels: Sequence[str]) -> Asked:
        """Return what `measure` wants to know to compute these labels.

        Raises:
            ValueError: A label is not valid.
        """
        asked = Asked(measures_of(labels), self.slices, self)
        if missing := {each.by for each in asked.measures} - {None, *self.slices}:
            raise ValueError(f"there are no slices called {missing.pop()!r}")
        return asked

    def only(self, places: Sequence[int]) -> Evidence:
        """Return the evidence of the queries at ``places``, without items to show and places of references."""
        at = np.asarray(places, dtype=np.int64)
        return Evidence(
            tuple(self.query_ids[place] for place in places),
            None if self.clusters is None else tuple(self.clusters[place] for place in places),
            {kind: tuple(labels[place] for place in places) for kind, labels in self.slices.items()},
            self.relevant_ranks.take(at),
            None if self.group_ranks_Q is None else self.group_ranks_Q[at],
            None if self.gains is None else tuple(self.gains[place] for place in places),
            self.shown_SK[:0],
        )

    @property
    def shown_places(self) -> list[int]:
        """Which queries the first items are kept of."""
        return spread(len(self.query_ids), len(self.shown_SK))

    def all_labels(self, labels: Sequence[str]) -> frozenset[str]:
        """Every label that measures with these labels report, so that no slice is left out."""
        whole = tuple(dataclasses.replace(each, labels=()) for each in measures_of(labels))
        return frozenset(each.label for each in measure(self, Asked(whole, self.slices, self)))

    def belongs_to(self, fields: Mapping[str, str]) -> bool:
        """Whether clusters and slices are those of a protocol with these fields."""
        return fields.get("slices") == digest(self.slices) and fields.get("clusters") == digest(self.clusters)


def spread(total: int, count: int) -> list[int]:
    """Choose so many of ``total`` places at even distances, whatever stands there."""
    count = min(count, total)
    return [place * total // count for place in range(count)]


def pack(per_query: Mapping[str, NDArray[Any]], protocol: EvaluationProtocol) -> bytes:
    """Make the archive from what a run keeps and the protocol that it was evaluated on."""
    arrays = {name: per_query[name] for name in ("query_ids", "relevant_ranks", "relevant_offsets")}
    if protocol.clusters is not None:
        arrays["clusters"] = per_query["clusters"]
    if "group_ranks_Q" in per_query:
        arrays["group_ranks_Q"] = per_query["group_ranks_Q"]
    if (gains := soft_labels(protocol.labels)) is not None:
        arrays["gains"] = gains
    shown_QK = per_query["top_QK"][:, :SHOWN_ITEMS].astype(np.int64)
    arrays["shown_SK"] = shown_QK[spread(len(shown_QK), SHOWN_QUERIES)]
    if not protocol.exclude_reference:
        found = reference_places(per_query["top_QK"], protocol)
        arrays |= {"reference_places_Q": found.places_Q, "list_depth": np.array(found.depth)}
    arrays["slices"] = np.array(json.dumps(dict(protocol.slices), ensure_ascii=False))
    return to_archive(arrays)


def read_evidence(path: Path) -> Evidence:
    """Read an archive, whoever made it.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged, too large, or does not fit together.
    """
    if path.stat().st_size > MOST_STORED:
        raise CorruptFile(f"{path} is larger than {MOST_STORED:,} bytes.")
    arrays = read_archive(path, limit=_UNPACKED)
    try:
        return _unpacked(arrays)
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise CorruptFile(f"{path} does not fit together: {error}.") from error


def read_scores(entry: Entry, folder: Path) -> tuple[EntryMetric, ...]:
    """Return the numbers of a valid entry, with intervals by the present method where its ranks are stored."""
    if not entry.ranks_stored or all(score.low is not None for score in entry.metrics):
        return entry.metrics
    return read_evidence(folder / RANKS).scores([score.label for score in entry.metrics])


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> Evidence:
    if foreign := arrays.keys() - _ARRAYS:
        raise ValueError(f"nobody knows an array called {min(foreign)!r}")
    ids = _texts(arrays["query_ids"], "query_ids")
    clusters = _texts(arrays["clusters"], "clusters") if "clusters" in arrays else None
    ranks = Ragged(_ranks(arrays["relevant_ranks"], "ranks"), _whole(arrays["relevant_offsets"], "offsets"))
    steps = np.diff(ranks.offsets)
    if ranks.offsets[:1].tolist() != [0] or (steps < 0).any() or ranks.offsets[-1] != len(ranks.values):
        raise ValueError("the offsets do not divide the ranks")
    slices = msgspec.json.decode(str(arrays["slices"][()]), type=Slices)
    groups = arrays.get("group_ranks_Q")
    groups_Q = None if groups is None else _ranks(groups, "ranks inside groups")
    counts = {len(ids), len(ranks), *map(len, slices.values())}
    counts |= {len(each) for each in (clusters, groups_Q) if each is not None}
    if len(counts) > 1 or len(set(ids)) < len(ids) or not ids:
        raise ValueError("it does not say each thing once for each query")
    gains = None
    if "gains" in arrays:
        flat = arrays["gains"]
        if flat.dtype != np.float64 or flat.shape != ranks.values.shape or not np.isfinite(flat).all():
            raise ValueError("there is not one soft label for each ground truth")
        gains = tuple(tuple(row.tolist()) for row in ranks.like(flat))
    shown_SK = arrays["shown_SK"]
    sizes = {min(count, len(ids)) for count in (_EARLIER, SHOWN_QUERIES)}
    if (
        shown_SK.dtype != np.int64
        or shown_SK.ndim != 2
        or len(shown_SK) not in sizes
        or shown_SK.shape[1] > SHOWN_ITEMS
    ):
        raise ValueError("the items to show are not those of a few queries")
    return Evidence(ids, clusters, slices, ranks, groups_Q, gains, shown_SK, _references(arrays, len(ids)))


def _references(arrays: Mapping[str, NDArray[Any]], queries: int) -> ReferencePlaces | None:
    if not {"reference_places_Q", "list_depth"} & arrays.keys():
        return None
    places_Q, depth = _whole(arrays["reference_places_Q"], "places of references"), arrays["list_depth"]
    if places_Q.shape != (queries,) or depth.dtype != np.int64 or depth.shape != () or depth < 0:
        raise ValueError("there is not one place of the reference for each query")
    if ((places_Q < NO_CANDIDATE) | ((places_Q > depth) & (places_Q != UNRANKED))).any():
        raise ValueError("the place of a reference is not one in a list")
    return ReferencePlaces(places_Q, int(depth))


def _texts(array: NDArray[Any], name: str) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise ValueError(f"{name} are not texts")
    return tuple(array.tolist())


def _whole(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    if array.dtype != np.int64 or array.ndim != 1:
        raise ValueError(f"{name} are not whole numbers")
    return array


def _ranks(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    ranks = _whole(array, name)
    if (ranks < 1).any():
        raise ValueError(f"{name} start at 1")
    return ranks
