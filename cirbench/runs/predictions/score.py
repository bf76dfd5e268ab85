"""From somebody's lists or features to the numbers of a protocol: checked, ranked, measured, with intervals.

Features are ranked as every method's are: checked by id and by row, and streamed from files.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import InvalidPredictions, MissingData, UsageError, quoted, some
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.intervals import intervals_of
from cirbench.metrics.measure import ceilings, measure
from cirbench.metrics.table import NO_CUTOFF, parse_label
from cirbench.protocol import Gallery
from cirbench.ranking import UnitRows, rank, unit_rows
from cirbench.ranking.task import Ranking, ranking_task, scatter_to_full
from cirbench.runs.predictions.features import Features, OrderedRows
from cirbench.runs.predictions.rules import (
    Speller,
    check,
    check_form,
    check_ids,
    example,
    item_ids,
    spelled_as,
    with_groups_of_lists,
)
from cirbench.support.arrays import Ragged
from cirbench.support.needs import data_frame
from cirbench.support.tables import Column, Number, Table
from cirbench.support.tables.formats import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas
    from numpy.typing import NDArray

    from cirbench.metrics.intervals import Interval
    from cirbench.metrics.measure import Measurement
    from cirbench.metrics.table import Measure
    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.scores import RowSource
    from cirbench.runs.folder import Run
    from cirbench.runs.predictions.lists import RankedLists


@dataclasses.dataclass(frozen=True, repr=False)
class Score:
    """The measurements of given rankings under a protocol; displays as a table, and becomes a data frame.

    Attributes:
        protocol: As scored; from features, with the gallery that was ranked.
        measurements: Every measure that could be taken.
        intervals: The 95 % interval of each.
        tied_relevant: Ground truths that share their exact score with another candidate; ``None`` for lists without
            scores, which do not tell.
        ranking: What was measured, in positions; ``None`` where the gallery is not available.
        notes: How the files were understood, and what was done to them.
        run: Where it is kept, or ``None``.
    """

    protocol: EvaluationProtocol
    measurements: tuple[Measurement, ...]
    intervals: tuple[Interval, ...]
    tied_relevant: int | None = None
    ranking: Ranking | None = None
    notes: tuple[str, ...] = ()
    run: Run | None = None

    def kept_as(self, run: Run) -> Score:
        """Return the same with the run that keeps it."""
        return dataclasses.replace(self, run=run)

    @property
    def not_measured(self) -> tuple[Measure, ...]:
        """The measures of the protocol that these predictions do not allow.

        Those on groups, where these are not ranked, and those of the whole ranking, where lists end before it does.
        """
        if self.protocol.labels is None:
            return ()
        taken = {(each.label.partition("[")[0], parse_label(each.label).by) for each in self.measurements}
        return tuple(asked for asked in self.protocol.measures if (asked.label, asked.by) not in taken)

    @property
    def ceilings(self) -> dict[str, float]:
        """What the best ranking would get, by label."""
        return {best.label: best.value for best in ceilings(self.protocol)}

    def to_frame(self) -> pandas.DataFrame:
        """Return one row for each metric, in percent, with its interval and the number of queries.

        Raises:
            MissingData: pandas is not installed.
        """
        best = self.ceilings
        columns = {
            "label": [measured.label for measured in self.measurements],
            "value": [100 * measured.value for measured in self.measurements],
            "low": [100 * interval.low for interval in self.intervals],
            "high": [100 * interval.high for interval in self.intervals],
            "n": [measured.count for measured in self.measurements],
            "at_most": [100 * best[measured.label] for measured in self.measurements],
        }
        return data_frame(columns).set_index("label")

    @property
    def table(self) -> Table:
        """The numbers with their intervals, for people."""
        columns = (Column("metric", "metric"), Column("value", "%  [95 % interval]"), Column("n", "queries"))
        rows = tuple(
            (
                measured.label,
                Number(100 * measured.value, 100 * interval.low, 100 * interval.high),
                Number(measured.count, digits=0),
            )
            for measured, interval in zip(self.measurements, self.intervals, strict=True)
        )
        return Table(f"{self.protocol.name}, queries {len(self.protocol.queries)}", columns, rows)

    def __repr__(self) -> str:
        return render(self.table, "rich")

    def _repr_html_(self) -> str:
        return render(self.table, "html")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was made elsewhere, checked against a protocol and ranked by it.

    Attributes:
        protocol: From features, with the gallery that was ranked.
        ranks: The ranks of the ground truths.
        ranking: The same with the first items, in positions; ``None`` where the gallery is not available.
        tied_relevant: See `Score`.
        notes: See `Score`.
    """

    protocol: EvaluationProtocol
    ranks: ListRanks | Ranking
    ranking: Ranking | None
    tied_relevant: int | None
    notes: tuple[str, ...]

    def measured(self) -> Score:
        """Measure it; nothing where the labels are hidden.

        Raises:
            InvalidPredictions: The protocol measures the whole ranking alone, and lists end before it does.
        """
        taken = measure(self.ranks, self._measured_by) if self.protocol.labels is not None else ()
        found = intervals_of(taken, self.protocol.clusters) if taken else ()
        return Score(self.protocol, taken, tuple(found), self.tied_relevant, self.ranking, self.notes)

    @property
    def _measured_by(self) -> EvaluationProtocol:
        """The protocol, without measures of the whole ranking where lists end before it does."""
        if not isinstance(self.ranks, ListRanks) or self.ranks.whole:
            return self.protocol
        rest = tuple(asked for asked in self.protocol.measures if asked.k != NO_CUTOFF)
        if not rest:
            raise InvalidPredictions(
                f"{self.protocol.measures[0].label} of {self.protocol.name} needs the full ranking; ground truths are "
                f"missing from these lists, the shortest of which has {self.ranks.depth} ids.",
                hint="Give lists of all candidates, or features, which are ranked whole.",
            )
        return dataclasses.replace(self.protocol, measures=rest)


def require_labels(protocol: EvaluationProtocol) -> None:
    """Refuse a protocol whose ground truths a test server keeps.

    Raises:
        UsageError: It is one.
    """
    if protocol.labels is None:
        raise UsageError(
            f"{protocol.name} cannot be scored here: its ground truths are not available.",
            hint="Where a test server keeps them, score the val split, or upload to the server. Your own data need a "
            "column targets.",
        )


def answer_of_lists(lists: RankedLists, protocol: EvaluationProtocol) -> Answer:
    """Check ranked lists against a protocol; see `cirbench.runs.predictions.rules`.

    Raises:
        InvalidPredictions: The lists break a rule of the protocol.
    """
    lists = _in_order_of_ties(spelled_as(protocol, lists))
    check(lists, protocol)
    lists = with_groups_of_lists(lists, protocol)
    ranks = list_ranks(lists, protocol)
    ranking = None if protocol.gallery is None else _ranking_of(lists, ranks, protocol)
    tied = int(np.count_nonzero(_ties(lists, protocol).values)) if lists.scores else None
    return Answer(protocol, ranks, ranking, tied, lists.notes)


def _in_order_of_ties(lists: RankedLists) -> RankedLists:
    """Order equal scores by the sha256 of the id, as every ranking here; only where scores alone order the lists."""
    rankings = {**lists.rankings}
    for query, scores in lists.scores.items():
        if len(set(scores)) < len(scores):
            pairs = zip(scores, rankings[query], strict=True)
            order = sorted(pairs, key=lambda pair: (-pair[0], hashlib.sha256(pair[1].encode()).digest()))
            rankings[query] = tuple(name for _, name in order)
    return dataclasses.replace(lists, rankings=rankings)


@dataclasses.dataclass(frozen=True)
class ListRanks:
    """The ranks of the ground truths in given lists.

    Attributes:
        relevant_ranks: Per query, the 1-based rank of each ground truth, `UNRANKED` for one that is not in the list.
        group_ranks_Q: The same of the target in the ranking of its group; ``None`` where groups were not ranked.
        depth: How many ids the shortest list holds.
        whole: Whether every ground truth that is a candidate is in its list, so that the rank of each is known.
    """

    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None
    depth: int
    whole: bool


def list_ranks(lists: RankedLists, protocol: EvaluationProtocol) -> ListRanks:
    """Look up each ground truth, where labels are public, in lists that keep the rules of the protocol (`check`)."""
    hidden: tuple[tuple[str, ...], ...] = ((),) * len(protocol.queries)
    rows = list(zip(protocol.queries, hidden if protocol.labels is None else protocol.labels.relevant, strict=True))
    relevant = [_ranks_of(wanted, lists.rankings[query.id]) for query, wanted in rows]
    groups = None
    if lists.group_rankings:
        targets = [_ranks_of(wanted[:1], lists.group_rankings[query.id]) for query, wanted in rows]
        groups = np.array([row[0] if row else UNRANKED for row in targets], dtype=np.int64)
    depth = min((len(lists.rankings[query.id]) for query, _ in rows), default=0)
    unlisted = (
        name
        for (query, wanted), found in zip(rows, relevant, strict=True)
        for name, rank in zip(wanted, found, strict=True)
        if rank == UNRANKED and not (protocol.exclude_reference and name == query.reference.id)
    )
    return ListRanks(Ragged.of(relevant, np.int64), groups, depth, next(unlisted, None) is None)


def _ranks_of(wanted: Iterable[str], ranking: Sequence[str]) -> list[int]:
    rank = {name: place for place, name in enumerate(ranking, start=1)}
    return [rank.get(name, UNRANKED) for name in wanted]


def _ties(lists: RankedLists, protocol: EvaluationProtocol) -> Ragged[np.int64]:
    """Per query and ground truth, how many other items of its list have exactly its score."""
    relevant = ((),) * len(protocol.queries) if protocol.labels is None else protocol.labels.relevant
    rows = []
    for query, wanted in zip(protocol.queries, relevant, strict=True):
        scores = lists.scores.get(query.id, ())
        of = dict(zip(lists.rankings[query.id], scores, strict=False))
        rows.append([scores.count(of[name]) - 1 if name in of else 0 for name in wanted])
    return Ragged.of(rows, np.int64)


def _ranking_of(lists: RankedLists, ranks: ListRanks, protocol: EvaluationProtocol) -> Ranking:
    """Lists as a ranking; those without scores have minus the rank of an item as its score."""
    assert protocol.gallery is not None
    at = protocol.gallery.positions
    top_QK = np.full((len(protocol.queries), protocol.depth), -1, dtype=np.int64)
    scores_QK = np.full(top_QK.shape, np.nan, dtype=np.float32)
    for place, query in enumerate(protocol.queries):
        names = lists.rankings[query.id][: protocol.depth]
        top_QK[place, : len(names)] = [at[name] for name in names]
        scores_QK[place, : len(names)] = lists.scores.get(query.id, -np.arange(1.0, len(names) + 1))[: len(names)]
    group_top_QK = None
    if lists.group_rankings:
        ranked = [lists.group_rankings[query.id] for query in protocol.queries]
        group_top_QK = np.full((len(ranked), max(map(len, ranked), default=0)), -1, dtype=np.int64)
        for place, names in enumerate(ranked):
            group_top_QK[place, : len(names)] = [at[name] for name in names]
    return Ranking(top_QK, scores_QK, ranks.relevant_ranks, _ties(lists, protocol), ranks.group_ranks_Q, group_top_QK)


def answer_of_features(pairs: Sequence[tuple[Features, Features]], protocol: EvaluationProtocol) -> Answer:
    """Rank features; see `rank_features`, and for several pairs `_rank_parts`."""
    notes: list[str] = []
    if len(pairs) == 1:
        protocol, ranking = rank_features(*pairs[0], protocol, notes)
    else:
        ranking = _rank_parts(pairs, protocol, notes)
    return Answer(protocol, ranking, ranking, ranking.tied_relevant, tuple(dict.fromkeys(notes)))


_COPIED = 128 << 20
"""Features up to this many bytes are normalised into a copy; larger ones as they are read."""
_BLOCK = 4096


def rank_features(
    queries: Features, gallery: Features, protocol: EvaluationProtocol, notes: list[str] | None = None
) -> tuple[EvaluationProtocol, Ranking]:
    """Rank the gallery for each query by the dot product of the L2-normalised rows, in float32.

    Rows may be in any order. Where the protocol's gallery is not available, the gallery's ids are taken for it.

    Args:
        queries: The features of the queries.
        gallery: The features of the gallery.
        protocol: The protocol.
        notes: Takes what is worth saying: how files were understood, and what was done to them.

    Returns:
        The protocol, with the gallery that was ranked, and the ranking.

    Raises:
        MissingData: A file is not there or cannot be read.
        InvalidPredictions: A file does not fit the protocol; the message names the file and the rows or ids.
    """
    said: list[str] = [] if notes is None else notes
    wanted = tuple(query.id for query in protocol.queries)
    # Ids first: whatever is wrong with them is known before large files are read, or torch is imported for them.
    query_ids = _spelled(queries, Speller(wanted), protocol, said)
    gallery_ids = _spelled(gallery, Speller(item_ids(protocol), files=protocol.gallery is not None), protocol, said)
    _refuse_swapped(queries, query_ids, protocol)
    check_ids(query_ids, wanted, "query", queries.ids_source, protocol)
    if protocol.gallery is None:
        _check_new_gallery(gallery_ids, gallery.ids_source, protocol)
        protocol = dataclasses.replace(protocol, gallery=Gallery(gallery_ids))
    else:
        check_ids(gallery_ids, protocol.gallery.ids, "gallery", gallery.ids_source, protocol)
    assert protocol.gallery is not None
    return protocol, _ranked(queries, query_ids, gallery, gallery_ids, protocol, said)


def _rank_parts(pairs: Sequence[tuple[Features, Features]], protocol: EvaluationProtocol, notes: list[str]) -> Ranking:
    """Rank pairs of features, each by itself, as of the categories of a benchmark, which may be of several models.

    Each query is in one pair, whose gallery holds every candidate of the query. See `rank_features`.

    Raises:
        MissingData: A file is not there or cannot be read, or the protocol's gallery is not available.
        InvalidPredictions: A file does not fit the protocol; the message names the file and the rows or ids.
    """
    if protocol.gallery is None:
        raise MissingData(
            f"The gallery of {protocol.name} is not available, so features cannot be given in parts.",
            hint="Give the features of all queries and of the whole gallery as one pair.",
        )
    at = {query.id: place for place, query in enumerate(protocol.queries)}
    spellers = Speller(at), Speller(protocol.gallery.ids, files=True)
    ids = [
        (_spelled(one, spellers[0], protocol, notes), _spelled(two, spellers[1], protocol, notes)) for one, two in pairs
    ]
    for (queries, _), (query_ids, _) in zip(pairs, ids, strict=True):
        _refuse_swapped(queries, query_ids, protocol)
    check_ids(
        [name for mine, _ in ids for name in mine], at, "query", some([one.ids_source for one, _ in pairs]), protocol
    )
    whole, found = ranking_task(protocol), []
    for (queries, gallery), (query_ids, gallery_ids) in zip(pairs, ids, strict=True):
        places = sorted(at[name] for name in query_ids)
        part = _cut_to(protocol, places, gallery_ids, gallery.ids_source)
        assert part.gallery is not None
        ranking = _ranked(queries, query_ids, gallery, gallery_ids, part, notes)
        items = [protocol.gallery.positions[name] for name in part.gallery.ids]
        found.append((places, scatter_to_full(ranking, whole, places, items)))
    return _joined(found, whole.relevant)


def _cut_to(
    protocol: EvaluationProtocol, places: Sequence[int], gallery_ids: Sequence[str], source: str
) -> EvaluationProtocol:
    """The protocol of some queries over a part of the gallery, which must hold every candidate of theirs."""
    assert protocol.gallery is not None
    part = protocol.only(places)
    if protocol.pools is None or part.pool_of_query is None:
        check_ids(gallery_ids, protocol.gallery.ids, "gallery", source, protocol)
        return part
    used = sorted(set(part.pool_of_query))
    pools = tuple(protocol.pools[pool] for pool in used)
    needed = {name for pool in pools for name in pool}
    if unknown := [name for name in gallery_ids if name not in protocol.gallery.positions]:
        raise InvalidPredictions(f"{source}: {len(unknown)} unknown gallery ids ({some(unknown, 5, quoted)}).")
    if missing := sorted(needed - {*gallery_ids}):
        raise InvalidPredictions(
            f"{source}: {len(missing)} candidates of its queries are missing: {some(missing, 5, quoted)}.",
            hint="Each pair of files is ranked by itself: its gallery holds every candidate of its queries.",
        )
    chosen = {*gallery_ids}
    return dataclasses.replace(
        part,
        gallery=Gallery(tuple(name for name in protocol.gallery.ids if name in chosen)),
        pools=pools,
        pool_of_query=tuple(used.index(pool) for pool in part.pool_of_query),
    )


def _joined(found: Sequence[tuple[Sequence[int], Ranking]], relevant: Ragged[np.int64]) -> Ranking:
    """Put rankings together, each of which has its own queries."""
    whole = found[0][1]
    for places, part in found[1:]:
        rows = np.asarray(places, dtype=np.int64)
        values = relevant.places(rows)
        whole.top_QK[rows], whole.scores_QK[rows] = part.top_QK[rows], part.scores_QK[rows]
        whole.relevant_ranks.values[values] = part.relevant_ranks.values[values]
        whole.relevant_ties.values[values] = part.relevant_ties.values[values]
        for mine, theirs in ((whole.group_ranks_Q, part.group_ranks_Q), (whole.group_top_QK, part.group_top_QK)):
            if mine is not None and theirs is not None:
                mine[rows] = theirs[rows]
    return whole


def _spelled(side: Features, speller: Speller, protocol: EvaluationProtocol, notes: list[str]) -> tuple[str, ...]:
    """The ids of a side as the protocol writes them."""
    ids = tuple(map(speller, side.ids(protocol.queries)))
    notes += speller.notes(side.ids_source)
    return ids


def _refuse_swapped(queries: Features, query_ids: Sequence[str], protocol: EvaluationProtocol) -> None:
    known = {query.id for query in protocol.queries}
    if query_ids and {*item_ids(protocol)}.issuperset(query_ids) and known.isdisjoint(query_ids):
        raise InvalidPredictions(
            f"{queries.ids_source}: the ids of the queries are ids of the gallery.",
            hint="The queries come first: --features QUERIES GALLERY.",
        )


def _check_new_gallery(names: Sequence[str], source: str, protocol: EvaluationProtocol) -> None:
    """Refuse ids that cannot be the whole gallery of ``protocol``."""
    if (odd := check_form(names, protocol)) is not None:
        raise InvalidPredictions(
            f"{source}: {quoted(odd)} cannot be a gallery id of {protocol.name}; "
            f"{example([protocol.queries[0].reference.id])}."
        )
    needed = {query.reference.id: "references" for query in protocol.queries}
    if protocol.labels is not None:
        needed |= {name: "ground truths" for row in protocol.labels.relevant for name in row}
    given = set(names)
    for kind in ("ground truths", "references"):
        if missing := sorted(name for name, role in needed.items() if role == kind and name not in given):
            raise InvalidPredictions(
                f"{source}: {len(missing)} {kind} of {protocol.name} are not in the gallery: "
                f"{some(missing, 5, quoted)}.",
                hint="Give the features of every image of the gallery.",
            )


@np.errstate(over="ignore")  # too large for float32 becomes infinite, and that is refused by name
def _ranked(
    queries: Features,
    query_ids: tuple[str, ...],
    gallery: Features,
    gallery_ids: tuple[str, ...],
    protocol: EvaluationProtocol,
    notes: list[str],
) -> Ranking:
    """Rank features whose ids were checked."""
    assert protocol.gallery is not None
    for side, ids in ((queries, query_ids), (gallery, gallery_ids)):
        _refuse_transposed(side, ids)
    widths = queries.stored.rows_ND.shape[1], gallery.stored.rows_ND.shape[1]
    if widths[0] != widths[1]:
        raise InvalidPredictions(
            f"{queries.rows_source} has {widths[0]} columns and {gallery.rows_source} {widths[1]}.",
            hint="Queries and gallery need features of the same width, from one model.",
        )
    for side, ids in ((queries, query_ids), (gallery, gallery_ids)):
        if (rows := side.stored.rows_ND.shape[0]) != len(ids):
            raise InvalidPredictions(f"{side.rows_source} holds {rows} rows, and {side.ids_source} {len(ids)} ids.")
    wanted = tuple(query.id for query in protocol.queries)
    queries_QD = _units(queries, query_ids, wanted, "query", notes)
    gallery_ND = _units(gallery, gallery_ids, protocol.gallery.ids, "gallery item", notes)
    return rank(queries_QD[:], gallery_ND, ranking_task(protocol))


def _refuse_transposed(side: Features, ids: Sequence[str]) -> None:
    rows, columns = side.stored.rows_ND.shape
    if rows != len(ids) == columns:
        raise InvalidPredictions(
            f"{side.rows_source} holds {rows} rows, and {side.ids_source} {len(ids)} ids.",
            hint="It has one column for each id: save it transposed, array.T.",
        )


def _units(
    side: Features, ids: tuple[str, ...], order: tuple[str, ...], kind: str, notes: list[str]
) -> UnitRows | NDArray[np.float32]:
    """Bring rows into ``order`` and to unit length; large ones block by block, as they are read."""
    rows_ND: RowSource = side.stored.rows_ND
    lengths_N = _lengths(rows_ND, ids, kind, side.rows_source)
    notes += [*side.stored.notes, *_oddities(lengths_N, ids, kind, side)]
    if ids != order:
        row_of = {name: row for row, name in enumerate(ids)}
        rows_ND = OrderedRows(rows_ND, np.array([row_of[name] for name in order], dtype=np.int64))
    names = [f"{kind} {name}" for name in order]
    small = rows_ND.shape[0] * rows_ND.shape[1] * 4 <= _COPIED
    return unit_rows(np.asarray(rows_ND[:]), names) if small else UnitRows(rows_ND, names)


def _lengths(rows_ND: RowSource, ids: Sequence[str], kind: str, source: str) -> NDArray[np.float64]:
    """The length of each row, in float64.

    Raises:
        InvalidPredictions: A row holds NaN or infinite values, or only zeros; the message names the first such item.
    """
    lengths_N = np.empty(len(ids), dtype=np.float64)
    for start in range(0, len(ids), _BLOCK):
        block_BD = np.asarray(rows_ND[start : start + _BLOCK], dtype=np.float32).astype(np.float64)
        lengths_N[start : start + _BLOCK] = np.sqrt(np.einsum("bd,bd->b", block_BD, block_BD))
    broken = np.flatnonzero(~(np.isfinite(lengths_N) & (lengths_N > 0)))
    if len(broken):
        what = "only zeros" if lengths_N[broken[0]] == 0 else "NaN or infinite values"
        more = f" (and of {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InvalidPredictions(
            f"{source}: the features of {kind} {ids[broken[0]]}{more} hold {what}, so they have no direction.",
            hint="float16 overflows above 65504, and an image that failed to load often becomes zeros.",
        )
    return lengths_N


_UNEQUAL = 1000.0
_SMALLEST_HALF = 6.1e-5  # below it, a float16 has fewer than eleven binary digits


def _oddities(lengths_N: NDArray[np.float64], ids: Sequence[str], kind: str, side: Features) -> Iterator[str]:
    """What to say of the lengths of rows: that they are made one, and where they look like a mistake."""
    shortest, longest, middle = lengths_N.min(), lengths_N.max(), float(np.median(lengths_N))
    if shortest < 0.99 or longest > 1.01:
        yield (
            f"{side.rows_source}: rows have lengths from {shortest:.3g} to {longest:.3g}; each is divided by its own, "
            "so that the dot product is the cosine"
        )
    far = np.flatnonzero((lengths_N > _UNEQUAL * middle) | (lengths_N * _UNEQUAL < middle))
    if len(far):
        more = f" and {len(far) - 1} more" if len(far) > 1 else ""
        yield (
            f"warning: {side.rows_source}: the row of {kind} {quoted(ids[far[0]])}{more} has the length "
            f"{lengths_N[far[0]]:.3g}, and the median is {middle:.3g}: was it encoded like the others?"
        )
    usual = middle / side.stored.rows_ND.shape[1] ** 0.5
    if side.stored.half and usual < _SMALLEST_HALF:
        yield (
            f"warning: {side.rows_source} holds float16 values of about {usual:.1e}, which float16 rounds coarsely "
            f"(below {_SMALLEST_HALF}): save float32, or normalise before saving"
        )
