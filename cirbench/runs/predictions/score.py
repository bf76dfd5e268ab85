"""From somebody's lists or features to the numbers of a protocol: checked, ranked, measured, with intervals."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import InvalidPredictions, UsageError
from cirbench.metrics.measure import ceilings, measure
from cirbench.metrics.statistics.recalled import intervals_of
from cirbench.metrics.table import NO_CUTOFF, parse_label
from cirbench.ranking.task import UNRANKED, Ranking
from cirbench.runs.predictions.ranked_features import rank_features, rank_parts
from cirbench.runs.predictions.rules import check, spelled_as, with_groups_of_lists
from cirbench.support.arrays import Ragged
from cirbench.support.extras import data_frame
from cirbench.support.tables import Column, Number, Table
from cirbench.support.tables.formats import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas
    from numpy.typing import NDArray

    from cirbench.metrics.measure import Measurement
    from cirbench.metrics.statistics.intervals import Interval
    from cirbench.metrics.table import Measure
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run
    from cirbench.runs.predictions.features import Features
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


def score_lists(lists: RankedLists, protocol: EvaluationProtocol) -> Score:
    """Check ranked lists against a protocol and measure them; a ground truth that is not listed counts as not found.

    Raises:
        UsageError: The protocol's labels are not public.
        InvalidPredictions: The lists break a rule of the protocol.
    """
    require_labels(protocol)
    return answer_of_lists(lists, protocol).measured()


def score_features(queries: Features, gallery: Features, protocol: EvaluationProtocol) -> Score:
    """Rank features (`rank_features`) and measure the ranking.

    Raises:
        UsageError: The protocol's labels are not public.
        MissingData: A file is not there or cannot be read.
        InvalidPredictions: A file does not fit the protocol.
    """
    require_labels(protocol)
    return answer_of_features([(queries, gallery)], protocol).measured()


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


# Ranked lists.


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


# Features.


def answer_of_features(pairs: Sequence[tuple[Features, Features]], protocol: EvaluationProtocol) -> Answer:
    """Rank features; see `rank_features`, and for several pairs `rank_parts`."""
    notes: list[str] = []
    if len(pairs) == 1:
        protocol, ranking = rank_features(*pairs[0], protocol, notes)
    else:
        ranking = rank_parts(pairs, protocol, notes)
    return Answer(protocol, ranking, ranking, ranking.tied_relevant, tuple(dict.fromkeys(notes)))
