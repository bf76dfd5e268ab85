"""From somebody's lists or features to the numbers of a protocol: checked, ranked, measured, with intervals."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import InvalidPredictions, MethodFailed, UsageError, quoted, some
from cirbench.metrics.measure import ceilings, measure
from cirbench.metrics.statistics.intervals import intervals
from cirbench.metrics.table import parse_label
from cirbench.protocol import Gallery
from cirbench.ranking import rank, unit_rows
from cirbench.ranking.task import UNRANKED, ranking_task
from cirbench.runs.predictions.lists import features_of, ids_of, read_features, read_ids
from cirbench.support.arrays import Ragged
from cirbench.support.extras import data_frame
from cirbench.support.tables import Column, Number, Table, render
from cirbench.support.textfiles import nfc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    import pandas
    from numpy.typing import ArrayLike, NDArray

    from cirbench.metrics.measure import Measurement, Ranked
    from cirbench.metrics.statistics.intervals import Interval
    from cirbench.metrics.table import Measure
    from cirbench.protocol import EvaluationProtocol, Query
    from cirbench.ranking.task import Ranking
    from cirbench.runs.predictions.lists import RankedLists


@dataclasses.dataclass(frozen=True, repr=False)
class Score:
    """The measurements of given rankings under a protocol; displays as a table, and becomes a data frame.

    Attributes:
        protocol: As scored; from features, with the gallery that was ranked.
        measurements: Every measure that could be taken.
        intervals: The 95 % interval of each.
        tied_relevant: Ground truths that share their exact score with another candidate; ``None`` for lists, which
            do not tell.
    """

    protocol: EvaluationProtocol
    measurements: tuple[Measurement, ...]
    intervals: tuple[Interval, ...]
    tied_relevant: int | None = None

    @property
    def not_measured(self) -> tuple[Measure, ...]:
        """The measures of the protocol that these predictions do not allow: those on groups that are not ranked."""
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


def score_lists(lists: RankedLists, protocol: EvaluationProtocol) -> Score:
    """Check ranked lists against a protocol and measure them; a ground truth that is not listed counts as not found.

    Raises:
        UsageError: The protocol's labels are not public.
        InvalidPredictions: The lists break a rule of the protocol.
    """
    require_labels(protocol)
    lists = spelled_as(protocol, lists)
    check(lists, protocol)
    return _score(list_ranks(lists, protocol), protocol)


def score_features(
    queries: FeatureFiles | Features, gallery: FeatureFiles | Features, protocol: EvaluationProtocol
) -> Score:
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


@dataclasses.dataclass(frozen=True)
class ListRanks:
    """The ranks of the ground truths in given lists.

    Attributes:
        relevant_ranks: Per query, the 1-based rank of each ground truth, `UNRANKED` for one that is not in the list.
        group_ranks_Q: The same of the target in the ranking of its group; ``None`` where groups were not ranked.
    """

    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None


def list_ranks(lists: RankedLists, protocol: EvaluationProtocol) -> ListRanks:
    """Look up each ground truth of a labelled protocol in lists that keep its rules (`check`)."""
    assert protocol.labels is not None
    rows = list(zip(protocol.queries, protocol.labels.relevant, strict=True))
    relevant = [_ranks_of(wanted, lists.rankings[query.id]) for query, wanted in rows]
    groups = None
    if lists.group_rankings:
        targets = [_ranks_of(wanted[:1], lists.group_rankings[query.id]) for query, wanted in rows]
        groups = np.array([row[0] if row else UNRANKED for row in targets], dtype=np.int64)
    return ListRanks(Ragged.of(relevant, np.int64), groups)


def _ranks_of(wanted: Iterable[str], ranking: Sequence[str]) -> list[int]:
    rank = {name: place for place, name in enumerate(ranking, start=1)}
    return [rank.get(name, UNRANKED) for name in wanted]


def spelled_as(protocol: EvaluationProtocol, lists: RankedLists) -> RankedLists:
    """Write the ids of lists as the protocol does, where they differ in the Unicode form of their letters only."""
    if all(map(str.isascii, (*lists.rankings, *(name for ids in lists.rankings.values() for name in ids)))):
        return lists
    queries, items = _speller([query.id for query in protocol.queries]), _speller(_item_ids(protocol))

    def respelled(rankings: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {queries(name): tuple(map(items, ids)) for name, ids in rankings.items()}

    return dataclasses.replace(
        lists, rankings=respelled(lists.rankings), group_rankings=respelled(lists.group_rankings)
    )


def _item_ids(protocol: EvaluationProtocol) -> Collection[str]:
    """The ids of the gallery; where it is not available, those that queries and labels name."""
    if protocol.gallery is not None:
        return protocol.gallery.ids
    labelled = () if protocol.labels is None else protocol.labels.relevant
    return {query.reference.id for query in protocol.queries} | {name for row in labelled for name in row}


def _speller(known: Collection[str]) -> Callable[[str], str]:
    """Make a function that writes a name as the one of ``known`` that equals it after NFC."""
    exact = set(known)
    by_form = {nfc(name): name for name in exact}
    return lambda name: name if name.isascii() or name in exact else by_form.get(nfc(name), name)


def check(lists: RankedLists, protocol: EvaluationProtocol) -> None:
    """Refuse lists that break a rule of ``protocol``.

    There is one list for each query. A list holds no id twice, only candidates of its query, and at least as many as
    the deepest measure looks at (or every candidate, where there are fewer); it may be longer. Where the gallery is
    not available, ids are checked for their form only.

    Raises:
        InvalidPredictions: The message names the file, the query and the rule.
    """
    asked = {query.id for query in protocol.queries}
    check_ids(lists.rankings, asked, "query", lists.source, protocol)
    needed = max((measure.k for measure in protocol.measures if measure.metric != "Recall_subset"), default=0)
    _refuse(lists.source, _broken_lists(lists, protocol, needed))
    if lists.group_rankings:
        check_ids(lists.group_rankings, asked, "group ranking of query", lists.source, protocol)
        _refuse(lists.source, _broken_groups(lists, protocol))


def check_ids(
    given: Collection[str], expected: Collection[str], what: str, source: str, protocol: EvaluationProtocol
) -> None:
    """Refuse ids that are not exactly the expected ones, in any order.

    Raises:
        InvalidPredictions: The message names the file and the ids.
    """
    expected, given = set(expected), set(given)
    hint = f"{protocol.name} has {len(expected)} of them; {example(sorted(expected))}"
    if unknown := sorted(given - expected):
        raise InvalidPredictions(
            f"{source}: {len(unknown)} unknown {what} ids ({some(unknown, 5, quoted)}): not in {protocol.name}.",
            hint=hint,
        )
    if missing := sorted(expected - given):
        raise InvalidPredictions(
            f"{source}: {len(missing)} {what} ids are missing: {some(missing, 5, quoted)}.", hint=hint
        )


def check_form(names: Iterable[str], protocol: EvaluationProtocol) -> str | None:
    """Name the first id that cannot be one of the gallery's, judged by its form alone.

    Zero padding and file suffixes are the usual slips; without a gallery to check against, each would be a miss.
    """
    known = [query.reference.id for query in protocol.queries]
    if not all(_is_number(name) for name in known):
        return None
    return next((name for name in names if not _is_number(name)), None)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and (name == "0" or name[0] != "0")


def _broken_lists(lists: RankedLists, protocol: EvaluationProtocol, needed: int) -> Iterator[tuple[str, str]]:
    """Yield each query whose list breaks a rule, with the rule."""
    pools = [frozenset(pool) for pool in protocol.pools or ()]
    gallery = protocol.gallery.positions if protocol.gallery is not None else None
    for place, query in enumerate(protocol.queries):
        candidates: Collection[str] | None = gallery
        if protocol.pool_of_query is not None:
            candidates = pools[protocol.pool_of_query[place]]
        rule = _broken_rule(lists.rankings[query.id], query, candidates, protocol, needed, lists.exact_length)
        if rule is not None:
            yield query.id, rule


def _broken_rule(
    ranking: tuple[str, ...],
    query: Query,
    candidates: Collection[str] | None,
    protocol: EvaluationProtocol,
    needed: int,
    exact: int | None,
) -> str | None:
    if (twice := _first_repeated(ranking)) is not None:
        return f"the id {quoted(twice)} occurs twice in its list"
    if protocol.exclude_reference and query.reference.id in ranking:
        return f"its list holds its own reference image {quoted(query.reference.id)}, which this protocol excludes"
    if candidates is None:
        if (odd := check_form(ranking, protocol)) is not None:
            return f"{quoted(odd)} cannot be a gallery id; {example([query.reference.id])}"
    elif outside := [name for name in ranking if name not in candidates]:
        return f"{len(outside)} ids are not in the gallery ({some(outside, 5, quoted)}); {example(candidates)}"
    if candidates is not None:
        excluded = protocol.exclude_reference and query.reference.id in candidates
        available = len(candidates) - excluded
        needed, exact = min(needed, available), None if exact is None else min(exact, available)
    if exact is not None and len(ranking) != exact:
        return f"its list holds {len(ranking)} ids, and this format takes exactly {exact}"
    if len(ranking) < needed:
        return f"its list holds {len(ranking)} ids, and the deepest measure needs {needed}"
    return None


def _broken_groups(lists: RankedLists, protocol: EvaluationProtocol) -> Iterator[tuple[str, str]]:
    if protocol.groups is None:
        yield protocol.queries[0].id, f"it has a group ranking, and {protocol.name} has no groups"
        return
    needed = max((measure.k for measure in protocol.measures if measure.metric == "Recall_subset"), default=0)
    for query, group in zip(protocol.queries, protocol.groups, strict=True):
        ranking, members = lists.group_rankings[query.id], set(group) - {query.reference.id}
        if (twice := _first_repeated(ranking)) is not None:
            yield query.id, f"the id {quoted(twice)} occurs twice in its group ranking"
        elif outside := [name for name in ranking if name not in members]:
            yield query.id, f"its group ranking holds ids that are not in the group: {some(outside, 5, quoted)}"
        elif len(ranking) < min(needed, len(members)):
            yield query.id, f"its group ranking holds {len(ranking)} ids, and {min(needed, len(members))} are needed"


def _first_repeated(ranking: Sequence[str]) -> str | None:
    if len(set(ranking)) == len(ranking):
        return None
    return next(name for name, count in Counter(ranking).items() if count > 1)


def _refuse(source: str, broken: Iterable[tuple[str, str]]) -> None:
    if not (found := list(broken)):
        return
    query, rule = found[0]
    others = f" {len(found) - 1} other queries break a rule as well." if len(found) > 1 else ""
    raise InvalidPredictions(
        f"{source}: query {quoted(query)}: {rule}.{others}", hint="docs/predictions.md has the formats and their rules."
    )


def example(names: Iterable[str]) -> str:
    """Show what an id looks like."""
    return f"an id looks like {quoted(next(iter(names), ''))}"


@dataclasses.dataclass(frozen=True)
class FeatureFiles:
    """The files of one side's features and of their ids.

    Attributes:
        rows: An ``.npy`` file, (N, D), of float16, float32 or float64.
        ids: A file with one id per row; see `read_ids`.
    """

    rows: Path
    ids: Path


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """One side's features and their ids, as they were given.

    Attributes:
        rows_ND: Of float16, float32 or float64.
        ids: The id of each row.
        rows_source: What messages call the rows: their file, or a name.
        ids_source: What messages call the ids.
    """

    rows_ND: NDArray[np.floating]
    ids: tuple[str, ...]
    rows_source: str
    ids_source: str

    @classmethod
    def of(
        cls, rows: Path | ArrayLike, ids: Path | Iterable[str | int], rows_name: str = "", ids_name: str = ""
    ) -> Features:
        """Read files, or take what is in memory under the given names.

        Raises:
            MissingData: A file is not there or cannot be read.
            InvalidPredictions: The rows or ids have not the right form.
        """
        names, ids_source = (read_ids(ids), str(ids)) if isinstance(ids, Path) else (ids_of(ids_name, ids), ids_name)
        if isinstance(rows, Path):
            return cls(read_features(rows), names, str(rows), ids_source)
        return cls(features_of(rows_name, rows), names, rows_name, ids_source)


def rank_features(
    queries: FeatureFiles | Features, gallery: FeatureFiles | Features, protocol: EvaluationProtocol
) -> tuple[EvaluationProtocol, Ranking]:
    """Rank the gallery for each query by the dot product of the L2-normalised rows, in float32.

    Rows may be in any order. Where the protocol's gallery is not available, the gallery's ids are taken for it.

    Returns:
        The protocol, with the gallery that was ranked, and the ranking.

    Raises:
        MissingData: A file is not there or cannot be read.
        InvalidPredictions: A file does not fit the protocol; the message names the file and the rows or ids.
    """
    wanted = tuple(query.id for query in protocol.queries)
    queries, gallery = _spelled(queries, wanted), _spelled(gallery, _item_ids(protocol))
    check_ids(queries.ids, wanted, "query", queries.ids_source, protocol)
    if protocol.gallery is None:
        _check_new_gallery(gallery, protocol)
        protocol = dataclasses.replace(protocol, gallery=Gallery(gallery.ids))
    else:
        check_ids(gallery.ids, protocol.gallery.ids, "gallery", gallery.ids_source, protocol)
    assert protocol.gallery is not None
    widths = queries.rows_ND.shape[1], gallery.rows_ND.shape[1]
    if widths[0] != widths[1]:
        raise InvalidPredictions(
            f"{queries.rows_source} has {widths[0]} columns and {gallery.rows_source} {widths[1]}.",
            hint="Queries and gallery need features of the same width.",
        )
    queries_QD = _unit(queries, wanted, "query")
    gallery_ND = _unit(gallery, protocol.gallery.ids, "gallery item")
    return protocol, rank(queries_QD, gallery_ND, ranking_task(protocol))


def _spelled(features: FeatureFiles | Features, known: Collection[str]) -> Features:
    """Read features whose ids are written as the protocol writes them."""
    opened = features if isinstance(features, Features) else Features.of(features.rows, features.ids)
    return dataclasses.replace(opened, ids=tuple(map(_speller(known), opened.ids)))


def _check_new_gallery(features: Features, protocol: EvaluationProtocol) -> None:
    """Refuse ids that cannot be the whole gallery of ``protocol``."""
    names, source = features.ids, features.ids_source
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


def _unit(features: Features, order: tuple[str, ...], kind: str) -> NDArray[np.float32]:
    """Bring rows into ``order`` and to unit length."""
    rows_ND, names = features.rows_ND, features.ids
    if len(rows_ND) != len(names):
        raise InvalidPredictions(
            f"{features.rows_source} holds {len(rows_ND)} rows, and {features.ids_source} {len(names)} ids."
        )
    if names != order:
        row_of = {name: row for row, name in enumerate(names)}
        rows_ND = rows_ND[[row_of[name] for name in order]]
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and that is refused by name
            return unit_rows(rows_ND, [f"{kind} {name}" for name in order])
    except MethodFailed as error:
        raise InvalidPredictions(f"{features.rows_source}: {error.message}") from error
