"""Audits of a ranking: what its number hides.

Under a protocol that keeps the reference among the candidates, a method that returns it first loses a place on every
query, and one that drops it by hand gains one. A number alone does not tell which was done; the share of queries with
the reference in the top k, and the same number with the reference removed, do. An audit also says how many queries one
modality solves, how often images like the reference are returned, and how far the number depends on how many right
images were labelled. People read an audit as lines, or several as a table.
"""

from __future__ import annotations

import dataclasses
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np

from cirbench.comparison.baselines import baselines_beside, diagnose, hit_cutoff, same_ground, unimodal_of
from cirbench.errors import MissingData, UsageError, quoted
from cirbench.methods.interface import unimodal_baselines
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.measure import Asked, KnownRanks, measure, ranks_of, soft_labels
from cirbench.metrics.table import NO_CUTOFF
from cirbench.protocol import Gallery
from cirbench.runs.folder import load_ranking
from cirbench.runs.predictions.rules import spelled_as
from cirbench.runs.predictions.score import ListRanks, answer_of_lists
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.measure import Graded, Measured, Ranked
    from cirbench.protocol import EvaluationProtocol, Labels
    from cirbench.ranking.task import Ranking
    from cirbench.runs.folder import Run
    from cirbench.runs.predictions.lists import RankedLists
    from cirbench.support.arrays import Ragged


TOPS = (1, 5, 10, 50)
"""The cut-offs within which the reference is looked for."""

COPIES_IN = 10
"""The cut-off within which copies of the reference are looked for."""

NEAR = 0.95
"""The cosine from which an image counts as a near-duplicate of the reference, by the features of image-only."""

NO_CANDIDATE = 0
"""The place of a reference that its query does not rank."""

State: TypeAlias = Literal["candidate", "removed", "no candidate", "unknown"]
"""What is known of the reference: it is ranked, the protocol removes it, no query ranks it, or lists are not kept."""


@dataclasses.dataclass(frozen=True)
class ReferencePlaces:
    """The rank of each query's reference in its list.

    Attributes:
        places_Q: 1-based; `NO_CANDIDATE` where the query does not rank it, `UNRANKED` where it is behind ``depth``.
        depth: How far down every list is known.
    """

    places_Q: NDArray[np.int64]
    depth: int

    @property
    def candidates_Q(self) -> NDArray[np.bool_]:
        """Which queries rank their reference."""
        ranked_Q: NDArray[np.bool_] = self.places_Q != NO_CANDIDATE
        return ranked_Q

    def in_top(self) -> dict[int, float | None]:
        """Per cut-off, the share of the queries that rank their reference with it so far up; ``None`` if not known."""
        places = self.places_Q[self.candidates_Q]
        return {k: 100 * float(np.mean(places <= k)) if k <= self.depth else None for k in TOPS}

    def removed_from(self, ranks: Ragged[np.int64], labels: Graded | None = None) -> Ragged[np.int64]:
        """Return ranks with every labelled image behind the reference one rank higher.

        Exact for ranks up to ``depth``. A query whose reference is itself a ground truth stays as it is; a reference
        that is labelled as wrong is not ranked any more.
        """
        places = np.where(self.candidates_Q, self.places_Q, UNRANKED)
        of_value = places[ranks.row_of_value]
        itself = (ranks.values == of_value) & (of_value != UNRANKED)
        gains = soft_labels(labels)
        wrong = itself & (False if gains is None else gains < 0)
        truths_Q = np.zeros(len(places), dtype=bool)
        truths_Q[ranks.row_of_value[itself & ~wrong]] = True
        moved = (ranks.values > of_value) & (ranks.values != UNRANKED) & ~truths_Q[ranks.row_of_value]
        return ranks.like(np.where(wrong, UNRANKED, ranks.values - moved))


def _right(labels: Labels) -> list[tuple[str, ...]]:
    """The images of each query that are labelled as right: those whose soft label is above 0."""
    if labels.gains is None:
        return [*labels.relevant]
    rows = zip(labels.relevant, labels.gains, strict=True)
    return [tuple(id for id, gain in zip(*row, strict=True) if gain > 0) for row in rows]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How far a hit in the top k depends on how many right images are labelled.

    Attributes:
        by: What adds right images: the other ground truths of the protocol, or a relabelling.
        queries: How many both cover.
        k: The cut-off.
        low: The share of queries with a hit, in percent, where only the narrow labels are right.
        high: The same where the added images are right as well.
    """

    by: str
    queries: int
    k: int
    low: float
    high: float


class NearCopies(msgspec.Struct, frozen=True, kw_only=True):
    """How many queries get images that are like the reference by features, and neither it nor a ground truth.

    Attributes:
        cosine: From which an image counts.
        in_gallery: The share of queries for which there is one, in percent.
        in_top: The share of queries with one among the first ten.
    """

    cosine: float
    in_gallery: float
    in_top: float


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What a ranking does with the reference image, and what one side of the query finds; shares in percent.

    Attributes:
        name: The run, the file or the entry.
        protocol: Id and version.
        queries: How many there are.
        label: The headline metric; ``None`` where a server keeps the ground truths.
        value: The number as the protocol has it, in percent.
        reference: Whether queries rank their reference; see `State`.
        listed: How many queries the figures about the reference are of.
        listed_value: The headline over these, in percent; ``value`` where they are all queries.
        reference_in_top: By cut-off, the share of queries with the reference among the first; ``None`` where no query
            ranks it, and at a cut-off behind the end of the shortest list.
        without_reference: The headline over the listed queries with the reference removed from every list, in
            percent. ``None`` where no query ranks it, and where the lists are too short to say what follows it.
        copies_in_top: The share of queries with another image of the same content as the reference among the first
            ten; ``None`` where images are not available.
        copies_listed: How many queries that share is of.
        near_copies: How many queries get images that are like the reference; ``None`` where no image-only run on the
            same backbone lies beside it.
        shared_concept: Whether the method reads CIRCO's shared concepts; ``None`` for a file, which does not say.
        one_modality: The share of queries with a hit in the top k by image-only or text-only retrieval on the same
            backbone; ``None`` where these runs do not lie beside it.
        composition_gap: The headline minus that of the better of the two, in points.
        bounds: How far a hit depends on the labels; ``None`` where each query has one ground truth and nothing else
            labels it.
    """

    name: str
    protocol: str
    queries: int
    label: str | None
    value: float | None
    reference: State
    listed: int = 0
    listed_value: float | None = None
    reference_in_top: dict[int, float | None] | None = None
    without_reference: float | None = None
    copies_in_top: float | None = None
    copies_listed: int = 0
    near_copies: NearCopies | None = None
    shared_concept: str | None = None
    one_modality: float | None = None
    composition_gap: float | None = None
    bounds: Bounds | None = None


def audit(
    name: str,
    ranking: Ranking,
    protocol: EvaluationProtocol,
    *,
    depth: int | None = None,
    relabelling: EvaluationProtocol | None = None,
) -> Audit:
    """Audit one ranking; where the ground truths are hidden, only what it does with the reference.

    Args:
        name: What to call it.
        ranking: Of all queries of the protocol.
        protocol: With its gallery.
        depth: How many ids the shortest list holds; ``None`` where the whole gallery was ranked.
        relabelling: Another protocol over the same queries, whose ground truths are counted as right as well.

    Raises:
        UsageError: The ground truths are hidden and a relabelling is given, or it does not fit; see
            `bounds_of_relabelling`.
    """
    places = reference_places(ranking.top_QK, protocol)
    if depth is not None:
        places = dataclasses.replace(places, depth=min(depth, places.depth))
    found = Audit(
        name=name,
        protocol=protocol.name,
        queries=len(protocol.queries),
        label=None,
        value=None,
        reference="removed" if protocol.exclude_reference else "no candidate",
        copies_in_top=copies_in_top(ranking.top_QK, protocol),
        copies_listed=len(protocol.queries),
        listed=len(protocol.queries),
    )
    found = with_reference(found, ranking, places, protocol, lists=depth is not None)
    if protocol.labels is None or not protocol.measures:
        if relabelling is not None:
            raise UsageError(
                f"{relabelling.name} cannot relabel {protocol.name}: its own ground truths are not available.",
                hint="Audit the val split.",
            )
        return found
    bounds = bounds_of_truths(ranking, protocol.labels, protocol.measures[0].k)
    if relabelling is not None:
        bounds = bounds_of_relabelling(ranking, protocol, relabelling)
    return msgspec.structs.replace(found, bounds=bounds)


def with_reference(found: Audit, ranked: Ranked, places: ReferencePlaces, asked: Measured, *, lists: bool) -> Audit:
    """Add to an audit what a ranking does with the reference, and its headline with and without it.

    Args:
        found: The audit so far.
        ranked: The ranks of the listed queries; without ground truths where a server keeps them.
        places: Of the same queries.
        asked: What the protocol reports on them.
        lists: Whether ranks end with the lists, so that nobody knows what follows their last item.
    """
    changes: dict[str, Any] = {"listed": len(places.places_Q)}
    # Lists that are shorter than the gallery do not show the whole ranking.
    known = [each for each in asked.measures if not (lists and each.k == NO_CUTOFF)] if asked.labels is not None else []
    headline, only = next(iter(known), None), Asked(tuple(known[:1]), asked.slices, asked.labels)
    if headline is not None and (measured := measure(ranked, only)):
        changes |= {"label": measured[0].label, "listed_value": 100 * measured[0].value}
        if found.value is None:
            changes["value"] = 100 * measured[0].value
    if places.candidates_Q.any():
        changes |= {"reference": "candidate", "reference_in_top": places.in_top()}
        # Of a list that ends at the cut-off, nobody knows which image moves into the last place.
        if "label" in changes and headline is not None and headline.k <= places.depth - lists:
            moved = KnownRanks(places.removed_from(ranked.relevant_ranks, asked.labels), ranked.group_ranks_Q)
            changes["without_reference"] = 100 * measure(moved, only)[0].value
    return msgspec.structs.replace(found, **changes)


def audit_run(
    name: str,
    run: Run,
    protocol: EvaluationProtocol,
    *,
    relabelling: EvaluationProtocol | None = None,
    near: float | None = None,
) -> Audit:
    """Audit a finished run, with the unimodal baselines that lie beside it.

    Args:
        name: What to call it.
        run: The run.
        protocol: The run's, whole.
        relabelling: See `audit`.
        near: The cosine from which an image is a near-duplicate of the reference; `NEAR` where image-only is there.

    Raises:
        UsageError: The run is of another protocol, the relabelling does not fit it, or ``near`` is given and no
            image-only run on its backbone lies beside it.
        CorruptFile: A file is damaged.
    """
    if run.result.protocol.digest not in (protocol.digest, protocol.first(len(run.query_ids)).digest):
        raise UsageError(
            f"{run.folder} is a run on {run.result.protocol.name} ({run.result.protocol.digest[:8]}), and this is "
            f"{protocol.name} ({protocol.digest[:8]}).",
            hint="Run it again, or get the data that it was run on.",
        )
    part = protocol.first(len(run.query_ids))
    ranking = load_ranking(run, part)
    found = audit(name, ranking, part, depth=run.depth, relabelling=relabelling)
    found = msgspec.structs.replace(found, shared_concept=run.result.method.uses_shared_concept)
    beside = [other for other in baselines_beside(run) if same_ground(run, other)]
    image = next((other for other in beside if other.result.method.name == unimodal_baselines()[0]), None)
    if image is None and near is not None:
        raise UsageError(
            f"Near-duplicates of references are unknown: no image-only run on {run.result.backbone.name} lies beside "
            f"{run.folder}.",
            hint="Make one with `cirbench run --method image-only`, or leave --near out.",
        )
    if image is not None:
        copies = near_copies(ranking, load_ranking(image, part), part, NEAR if near is None else near)
        found = msgspec.structs.replace(found, near_copies=copies)
    unimodal = None if found.label is None or found.value is None else unimodal_of(run, beside, found.label)
    if unimodal is None or found.value is None:
        return found
    (diagnosis,) = diagnose([run], unimodal)
    return msgspec.structs.replace(
        found,
        one_modality=100 * (1 - unimodal.composition / unimodal.answered),
        composition_gap=None if diagnosis.gain is None else found.value - unimodal.better.result[unimodal.label].value,
    )


def audit_lists(
    name: str, lists: RankedLists, protocol: EvaluationProtocol, *, relabelling: EvaluationProtocol | None = None
) -> Audit:
    """Audit ranked lists made anywhere, of a protocol whose gallery need not be known.

    Raises:
        InvalidPredictions: The lists break a rule of the protocol.
        UsageError: The relabelling does not fit.
    """
    lists = spelled_as(protocol, lists)
    if protocol.gallery is None:  # an audit only looks for references and ground truths
        named = [query.reference.id for query in protocol.queries]
        protocol = dataclasses.replace(
            protocol, gallery=Gallery(tuple(dict.fromkeys(chain(*lists.rankings.values(), named))))
        )
    answer = answer_of_lists(lists, protocol)
    assert answer.ranking is not None
    depth = answer.ranks.depth if isinstance(answer.ranks, ListRanks) else None
    return audit(name, answer.ranking, protocol, depth=depth, relabelling=relabelling)


def reference_places(top_QK: NDArray[np.int64], protocol: EvaluationProtocol) -> ReferencePlaces:
    """Find each query's reference in its list of gallery positions."""
    assert protocol.gallery is not None
    positions = protocol.gallery.positions
    # -2 is not the position of any image, nor the padding.
    reference_Q = np.array([positions.get(query.reference.id, -2) for query in protocol.queries], dtype=np.int64)
    found_QK = top_QK == reference_Q[:, None]
    places_Q = np.where(found_QK.any(axis=1), found_QK.argmax(axis=1) + 1, UNRANKED)
    ranked_Q = np.full(len(reference_Q), not protocol.exclude_reference) & (reference_Q >= 0)
    sizes_Q = np.full(len(reference_Q), len(protocol.gallery))
    if protocol.pools is not None and protocol.pool_of_query is not None:
        pools = [frozenset(pool) for pool in protocol.pools]
        mine = [pools[at] for at in protocol.pool_of_query]
        ranked_Q &= np.array(
            [q.reference.id in pool for q, pool in zip(protocol.queries, mine, strict=True)], dtype=bool
        )
        sizes_Q = np.array([len(pool) for pool in mine])
    # A list with every candidate is known as far down as anybody asks.
    lengths_Q = (top_QK >= 0).sum(axis=1)
    known_Q = np.where(lengths_Q >= sizes_Q - protocol.exclude_reference, top_QK.shape[1], lengths_Q)
    depth = int(known_Q.min(initial=top_QK.shape[1]))
    places_Q = np.where(places_Q <= depth, places_Q, UNRANKED)
    return ReferencePlaces(np.where(ranked_Q, places_Q, NO_CANDIDATE), depth)


def copies_in_top(top_QK: NDArray[np.int64], protocol: EvaluationProtocol) -> float | None:
    """Return the share of queries with another image of the reference's content among the first `COPIES_IN`."""
    gallery = protocol.gallery
    if gallery is None or gallery.images is None:
        return None
    images, hits = gallery.images, 0
    known: dict[int, str] = {}
    try:
        for query, row in zip(protocol.queries, top_QK[:, :COPIES_IN].tolist(), strict=True):
            content = query.reference.image.content
            for at in row:
                if at >= 0 and at not in known:
                    known[at] = images[at].content
            hits += any(at >= 0 and known[at] == content and gallery.ids[at] != query.reference.id for at in row)
    except MissingData:
        return None
    return 100 * hits / len(protocol.queries) if protocol.queries else None


def near_copies(
    ranking: Ranking, image_only: Ranking, protocol: EvaluationProtocol, cosine: float = NEAR
) -> NearCopies:
    """Count near-duplicates of the reference: images that image-only, whose score is a cosine, scores high.

    Args:
        ranking: Of the run that is audited.
        image_only: The ranking of the same queries by the reference alone, on the same backbone.
        protocol: Theirs, with its ground truths if they are public.
        cosine: From which an image counts.
    """
    assert protocol.gallery is not None
    at = protocol.gallery.positions
    truths = _right(protocol.labels) if protocol.labels is not None else [()] * len(protocol.queries)
    in_gallery = in_top = 0
    for place, (query, right) in enumerate(zip(protocol.queries, truths, strict=True)):
        close = image_only.scores_QK[place] >= cosine  # false for NaN, where a list has ended
        near = {*image_only.top_QK[place][close].tolist()} - {at.get(name) for name in (query.reference.id, *right)}
        in_gallery += bool(near)
        in_top += not near.isdisjoint(ranking.top_QK[place, :COPIES_IN].tolist())
    count = max(1, len(protocol.queries))
    return NearCopies(cosine=cosine, in_gallery=100 * in_gallery / count, in_top=100 * in_top / count)


OTHER_TRUTHS = "all ground truths"


def bounds_of_truths(ranked: Ranked, labels: Graded | None, k: int) -> Bounds | None:
    """Say how many queries have a hit if the target alone is right, and if every ground truth is.

    Args:
        ranked: The ranks of the ground truths.
        labels: With the soft labels, where there are any.
        k: The headline's cut-off.

    Returns:
        ``None`` where no query has more than one ground truth.
    """
    ranks = ranks_of(ranked, labels).positives.relevant
    if ranks.lengths.max(initial=0) < 2:
        return None
    k = hit_cutoff(k)
    labelled = [row for row in ranks if len(row)]
    low, high = (
        np.mean([bool((part <= k).any()) for part in parts]) for parts in ([row[:1] for row in labelled], labelled)
    )
    return Bounds(by=OTHER_TRUTHS, queries=len(labelled), k=k, low=100 * float(low), high=100 * float(high))


def bounds_of_relabelling(ranking: Ranking, protocol: EvaluationProtocol, relabelling: EvaluationProtocol) -> Bounds:
    """Say how many queries have a hit by the protocol's own ground truths, and with those of a second protocol.

    Only queries that both label count. A soft label of the second one is right above 0; a reference that it names is
    not right.

    Raises:
        UsageError: The second protocol has no ground truths, no query in common, or other references.
    """
    assert protocol.gallery is not None and protocol.labels is not None
    if relabelling.labels is None:
        raise UsageError(f"{relabelling.name} cannot relabel {protocol.name}: its ground truths are not available.")
    more = {
        query.id: (query.reference.id, right)
        for query, named, right in zip(
            relabelling.queries, relabelling.labels.relevant, _right(relabelling.labels), strict=True
        )
        if named
    }
    k = hit_cutoff(protocol.measures[0].k)
    at, low, high, both = protocol.gallery.positions, 0, 0, 0
    ranks = ranks_of(ranking, protocol.labels).positives.relevant
    for place, query in enumerate(protocol.queries):
        if query.id not in more:
            continue
        reference, added = more[query.id]
        if reference != query.reference.id:
            raise UsageError(
                f"{relabelling.name} cannot relabel {protocol.name}: query {quoted(query.id)} starts from "
                f"{quoted(reference)} there, and from {quoted(query.reference.id)} here.",
                hint="Name a protocol over the same queries.",
            )
        both += 1
        hit = bool((ranks[place] <= k).any())
        names = {at.get(name) for name in added if name != reference}
        low += hit
        high += hit or not names.isdisjoint(ranking.top_QK[place, :k].tolist())
    if not both:
        raise UsageError(
            f"{relabelling.name} cannot relabel {protocol.name}: they have no query in common.",
            hint="Name a protocol over the same queries, such as another labelling of the same split.",
        )
    return Bounds(by=relabelling.name, queries=both, k=k, low=100 * low / both, high=100 * high / both)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Attributes:
        what: What was looked at.
        figure: What was found.
        queries: Of how many queries; ``None`` for what is not counted.
    """

    what: str
    figure: str
    queries: int | None = None


def findings(found: Audit) -> Iterator[Finding]:
    """Say what an audit found, a line for each figure that it has."""
    if found.reference == "removed":
        yield Finding("Reference image", "removed from the candidates by the protocol")
    elif found.reference == "no candidate":
        yield Finding("Reference image", "not a candidate of any query")
    elif found.reference_in_top is not None:
        known = {k: share for k, share in found.reference_in_top.items() if share is not None}
        tops, shares = " / ".join(map(str, known)), " / ".join(f"{share:.1f}" for share in known.values())
        yield Finding(f"Reference image in the top {tops}", f"{shares} %", found.listed)
    if found.without_reference is not None and found.listed_value is not None:
        figure = f"{found.without_reference:.2f} instead of {found.listed_value:.2f}"
        yield Finding(f"{found.label} with the reference removed", figure, found.listed)
    if found.copies_in_top is not None:
        yield Finding(
            f"A copy of the reference in the top {COPIES_IN}", f"{found.copies_in_top:.1f} %", found.copies_listed
        )
    if (near := found.near_copies) is not None:
        figure = (
            f"{near.in_top:.1f} %; {near.in_gallery:.1f} % have one in the gallery (cosine {near.cosine:g} or more)"
        )
        yield Finding(f"A near-duplicate of the reference in the top {COPIES_IN}", figure, found.queries)
    if found.one_modality is not None:
        yield Finding("Solved by one modality", f"{found.one_modality:.1f} %", found.queries)
    if found.composition_gap is not None:
        yield Finding("Composition gap", f"{found.composition_gap:+.2f} points of {found.label}", found.queries)
    if (bounds := found.bounds) is not None:
        first = "the first ground truth" if bounds.by == OTHER_TRUTHS else "the ground truths"
        figure = f"{bounds.low:.1f} % by {first} alone, {bounds.high:.1f} % by {_with(bounds)}"
        yield Finding(f"A hit in the top {bounds.k}", figure, bounds.queries)
    if found.shared_concept is not None:
        yield Finding("Shared concept read", found.shared_concept)


def _with(bounds: Bounds) -> str:
    return bounds.by if bounds.by == OTHER_TRUTHS else f"those of {bounds.by} as well"


def side_by_side(audits: Sequence[Audit]) -> list[tuple[str, list[str], str]]:
    """Lay findings out by what was looked at: for each audit its figure or nothing, and of how many queries."""
    found = [{each.what: each for each in findings(audit)} for audit in audits]
    lines = []
    for what in dict.fromkeys(what for each in found for what in each):
        queries = dict.fromkeys(each[what].queries for each in found if what in each)
        counts = ", ".join(f"{count:,}" for count in queries if count is not None)
        lines.append((what, [each[what].figure if what in each else "" for each in found], counts))
    return lines


_EXPLAINED = (
    "Solved by one modality: a hit in the top k of the headline by image-only or text-only on the same backbone. "
    "Composition gap: the headline minus that of the better of the two."
)


_LATER = {1: 6, 5: 0, 10: 6, 50: 5}
"""How soon a narrow terminal leaves out the share of references within each cut-off."""


def audit_table(audits: Sequence[Audit]) -> Table:
    """Lay out audits, a row for each; columns that no row fills are left out, but those of the reference."""
    several = len({(each.protocol, each.label) for each in audits}) > 1
    columns = (
        Column("name", "run or file"),
        *((Column("protocol", "protocol"), Column("label", "metric")) if several else ()),
        Column("value", audits[0].label or "%" if not several else "%"),
        Column("without_reference", "without reference"),
        *(Column(f"top_{k}", str(k), group="reference in top", optional=_LATER[k]) for k in TOPS),
        Column("copies", f"copies in top {COPIES_IN}", optional=7),
        Column("near_copies", f"near-duplicates in top {COPIES_IN}", optional=4),
        Column("shared_concept", "shared concept", optional=8),
        Column("one_modality", "solved by one modality", optional=1),
        Column("composition_gap", "composition gap", optional=1),
        Column("low", "hit by fewest labels", optional=3),
        Column("high", "hit by most labels", optional=3),
    )
    rows = [
        (
            each.name,
            *((each.protocol, each.label) if several else ()),
            _number(each.value),
            _number(each.without_reference),
            *(_number((each.reference_in_top or {}).get(k)) for k in TOPS),
            _number(each.copies_in_top),
            _number(each.near_copies.in_top if each.near_copies else None),
            each.shared_concept,
            _number(each.one_modality),
            _number(each.composition_gap),
            _number(each.bounds.low if each.bounds else None),
            _number(each.bounds.high if each.bounds else None),
        )
        for each in audits
    ]
    ranked, measured = (any(each.reference == "candidate" for each in audits), any(each.label for each in audits))
    asked = {"name", "protocol"}
    asked |= {"label", "value"} if measured else set()
    asked |= {f"top_{k}" for k in TOPS} if ranked else set()
    asked |= {"without_reference"} if ranked and measured else set()
    kept = [at for at, column in enumerate(columns) if column.key in asked or any(row[at] is not None for row in rows)]
    title = "Audit" if several else f"Audit on {audits[0].protocol}, {audits[0].queries:,} queries"
    return Table(
        title,
        tuple(columns[at] for at in kept),
        tuple(tuple(row[at] for at in kept) for row in rows),
        notes=tuple(_notes(audits)),
    )


def _notes(audits: Sequence[Audit]) -> Iterator[str]:
    states = {each.reference for each in audits}
    yield "Percent of queries" + ("; the gap in points." if any(each.composition_gap for each in audits) else ".")
    if any(each.value is None for each in audits):
        yield "Nothing is measured where a test server keeps the ground truths."
    if any(each.without_reference is not None for each in audits):
        yield "Without reference: the same metric after the reference image is taken out of every list."
    if "removed" in states:
        yield (
            "Nothing is said of the reference where the protocol removes it from the candidates"
            + (
                f": {', '.join(dict.fromkeys(each.protocol for each in audits if each.reference == 'removed'))}."
                if len(states) > 1
                else "."
            )
        )
    if "no candidate" in states:
        yield "The reference is not a candidate of any query, so no list can hold it."
    if any(each.one_modality is not None for each in audits):
        yield _EXPLAINED
    elif any(each.shared_concept is not None for each in audits):
        yield "Solved by one modality and composition gap need runs of image-only and text-only beside the run."
    for cosine in dict.fromkeys(each.near_copies.cosine for each in audits if each.near_copies):
        shares = dict.fromkeys(f"{each.near_copies.in_gallery:.1f} %" for each in audits if each.near_copies)
        yield (
            f"Near-duplicates: images that image-only scores at {cosine:g} or more, without the reference and ground "
            f"truths; the gallery has one for {', '.join(shares)} of the queries."
        )
    for bounds in dict.fromkeys((each.bounds.by, each.bounds.k, each.bounds.queries) for each in audits if each.bounds):
        by, k, queries = bounds
        narrow = "the first ground truth" if by == OTHER_TRUTHS else "what the protocol labels"
        wide = by if by == OTHER_TRUTHS else f"what {by} labels as well"
        yield (
            f"Hit: a right image in the top {k}, over {queries:,} queries. By fewest labels, only {narrow} counts; by "
            f"most, {wide}."
        )


def _number(value: float | None) -> Number | None:
    return None if value is None else Number(value)
