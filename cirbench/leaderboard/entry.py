"""An entry on disk: what it says, its seal, and the ranks that its numbers follow from, its evidence.

The archive of ranks holds, per query, its id, its cluster, its slices, the rank of each ground truth and, where the
protocol has them, the rank inside the group and the soft labels. Clusters and slices are bound to the protocol by its
digests. For a few queries at even distances it also holds the first items, so that a page can show what was retrieved,
and, where a protocol keeps the reference image among the candidates, its place in the list of every query, for audits.
"""

from __future__ import annotations

import dataclasses
import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.comparison.audit import NO_CANDIDATE, ReferencePlaces, reference_places
from cirbench.errors import CorruptFile
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.intervals import intervals
from cirbench.metrics.measure import Asked, measure, soft_labels
from cirbench.metrics.table import measures_of
from cirbench.runs.schema import (
    BackboneRecord,
    Counts,
    Environment,
    MethodRecord,
    ProtocolRecord,
    Record,
    Reranking,
    Scored,
    in_percent,
    rename_training,
)
from cirbench.support.arrays import Ragged, read_archive, to_archive
from cirbench.support.files import digest, read_versioned, slug

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.metrics.measure import Measurement
    from cirbench.protocol import EvaluationProtocol
    from cirbench.support.files import Migration


SCHEMA_VERSION = 5
ENTRY, RANKS = "entry.json", "ranks.npz"
RECEIPTS = re.compile(r"receipt-[a-z_]+\.json")
LISTS = re.compile(r"lists-[a-z_]+\.json\.gz")

_LIMIT = 256 << 10


class EntryMetric(Record, frozen=True):
    """One number of an entry, in percent.

    Attributes:
        label: As in a result.
        value: The number.
        low: Lower end of the 95 % interval; ``None`` where a server scored, and in entries from before the present
            method; see `read_scores`.
        high: Upper end.
        n: How many queries it averages; ``None`` where a server scored.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Entry(Record, frozen=True, kw_only=True):
    """A row of a leaderboard that cirbench made, with what is needed to check it and to make it again.

    Attributes:
        schema_version: Of this form.
        id: Name of its folder; see `entry_id`.
        seal: Sha256 over everything else, so that a change is noticed; see `sealed`.
        run: Digest of the run's configuration.
        method: With the disclosures: trained on, selected on, triplets, language model, shared concept, transductive.
        protocol: With a digest of each part.
        backbone: By content.
        counts: How much of the benchmark was scored.
        metrics: The numbers; the first one is the headline.
        seed: Of training where the run trained, and of the paired tests that compare it.
        commands: What to type to make the run again, one command a line.
        environment: Where the numbers were made.
        created: When the run was made, UTC, ISO 8601.
        lost: Ids of images that were missing or broken, where that was allowed.
        ranks: Sha256 of the ranks that the numbers follow from; ``None`` where a server scored.
        ranks_stored: Whether the ranks lie beside the entry; they do unless they are too large.
        receipts: Sha256 of each receipt of a test server, by file name.
        lists: Sha256 of each submitted file that a receipt is about, compressed, by file name.
        scored: From what, where the ranking was made elsewhere, so that the rest is what its author declares.
        reranking: Of what, where it is another run's ranking in a new order; ``None`` for a first stage.
        note: What its author wants to say.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    seal: str = ""
    run: str
    method: MethodRecord
    protocol: ProtocolRecord
    backbone: BackboneRecord
    counts: Counts
    metrics: tuple[EntryMetric, ...]
    seed: int
    commands: tuple[str, ...]
    environment: Environment
    created: str
    lost: tuple[str, ...] = ()
    ranks: str | None = None
    ranks_stored: bool = False
    receipts: dict[str, str] = msgspec.field(default_factory=dict)
    lists: dict[str, str] | None = None
    scored: Scored | None = None
    reranking: Reranking | None = None
    note: str = ""

    def __getitem__(self, label: str) -> EntryMetric:
        """Return one number by its label.

        Raises:
            KeyError: The entry does not report it.
        """
        for score in self.metrics:
            if score.label == label:
                return score
        raise KeyError(label)

    @property
    def partial(self) -> bool:
        """Whether anything of the protocol is missing."""
        return self.counts.partial or bool(self.lost)

    @property
    def server_scored(self) -> bool:
        """Whether the numbers are those of a test server."""
        return bool(self.receipts)


def entry_id(protocol: str, method: str, run: str) -> str:
    """Name an entry after its protocol, method and run: ``scenes-val--pli--45ec5ced``."""
    return f"{slug(protocol.partition('@')[0])}--{slug(method)}--{run[:8]}"


def seal_of(entry: Entry) -> str:
    """The sha256 over everything in an entry but the seal.

    What is null is left out, so that a later version of cirbench, which may record more, comes to the same.
    """
    return _seal(msgspec.to_builtins(entry))


def _seal(values: Mapping[str, Any]) -> str:
    return digest(_without_nulls({key: value for key, value in values.items() if key != "seal"}))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


def sealed(entry: Entry) -> Entry:
    """Return the entry with its seal."""
    return msgspec.structs.replace(entry, seal=seal_of(entry))


def read_entry(folder: Path) -> Entry:
    """Read an entry, whatever it claims; `cirbench.leaderboard.check` says whether the claims hold.

    Raises:
        MissingData: There is none.
        CorruptFile: It is damaged, too large, or no file of its own.
    """
    path = folder / ENTRY
    if path.is_symlink() or folder.is_symlink():
        raise CorruptFile(f"{path} is a link, and an entry must lie in its own folder.")
    return read_versioned(path, Entry, version=SCHEMA_VERSION, migrations=MIGRATIONS, limit=_LIMIT)


def _names_of_training_parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """1 to 2: training parameters and options have the names that trainings use today."""
    commands = [command.replace(" --select ", " --monitor ") for command in entry["commands"]]
    renamed = {**entry, "schema_version": 2, "method": rename_training(entry["method"]), "commands": commands}
    return _sealed_again(entry, renamed)


def _without_intervals(entry: dict[str, Any]) -> dict[str, Any]:
    """2 to 3: intervals are computed by another method, so those that were written are left out."""
    metrics = [{**score, "low": None, "high": None} for score in entry["metrics"]]
    return _sealed_again(entry, {**entry, "schema_version": 3, "metrics": metrics})


def _scored_elsewhere(entry: dict[str, Any]) -> dict[str, Any]:
    """3 to 4: an entry says whether its ranking was made elsewhere; up to then none was."""
    return _sealed_again(entry, {**entry, "schema_version": 4, "scored": None})


def _one_stage(entry: dict[str, Any]) -> dict[str, Any]:
    """4 to 5: an entry says whether it is another run's ranking in a new order; up to then none was."""
    return _sealed_again(entry, {**entry, "schema_version": 5, "reranking": None})


def _sealed_again(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """A seal that was right covers the new form; one that was wrong is left, so that it is wrong now as well."""
    return {**after, "seal": _seal(after)} if before.get("seal") == _seal(before) else after


MIGRATIONS: Mapping[int, Migration] = {
    1: _names_of_training_parameters,
    2: _without_intervals,
    3: _scored_elsewhere,
    4: _one_stage,
}
"""By version, the way to the next one."""


def entry_folders(entries: Path) -> list[Path]:
    """The folders of entries, by name; hidden ones and files aside."""
    if not entries.is_dir():
        return []
    return sorted(path for path in entries.iterdir() if path.is_dir() and not path.name.startswith("."))


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
        clusters: Queries of one cluster are not independent; ``None`` where each is its own.
        slices: Per kind, the labels that each query carries.
        relevant_ranks: The 1-based rank of each ground truth, the target first.
        group_ranks_Q: Of the target inside its group, or ``None``.
        gains: Soft labels per ground truth, or ``None``.
        shown_SK: Gallery positions of the first items of the queries at `spread` places, -1 where there are fewer.
        references: The rank of each query's reference in its list; ``None`` in entries from before it was kept, and
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
        return tuple(EntryMetric(**in_percent(each, interval)) for each, interval in zip(measured, found, strict=True))

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
    """Choose so many of ``total`` places at even distances, whatever is there."""
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
