"""Audits of a ranking: how often it returns the reference image, and what it finds without it.

Under a protocol that keeps the reference among the candidates, a method that returns it first loses a place on every
query, and one that drops it by hand gains one. A number alone does not tell which was done; the share of queries with
the reference in the top k, and the same number with the reference removed, do.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.comparison.baselines import baselines_beside, diagnose, unimodal_of
from cirbench.errors import MissingData, UsageError
from cirbench.metrics.measure import measure
from cirbench.ranking.task import UNRANKED
from cirbench.runs.folder import load_ranking
from cirbench.support.arrays import Ragged
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.task import Ranking
    from cirbench.runs.folder import Run

TOPS = (1, 5, 10, 50)
"""The cut-offs within which the reference is looked for."""

COPIES_IN = 10
"""The cut-off within which copies of the reference are looked for."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What a ranking does with the reference image, and what one side of the query finds; shares in percent.

    Attributes:
        name: The run, or the file.
        protocol: Id and version.
        queries: How many there are.
        label: The headline metric.
        value: The number as the protocol has it, in percent.
        reference_in_top: By cut-off, the share of queries with the reference among the first; ``None`` where the
            protocol removes the reference, and at a cut-off behind the end of the shortest list.
        without_reference: The headline with the reference removed from every list, in percent. ``None`` where the
            protocol removes it, and where the lists are too short to say what follows it.
        copies_in_top: The share of queries with another image of the same content as the reference among the first
            ten; ``None`` where images are not available.
        shared_concept: Whether the method reads CIRCO's shared concepts; ``None`` for a file, which does not say.
        one_modality: The share of queries with a hit in the top k by image-only or text-only retrieval on the same
            backbone; ``None`` where these runs do not lie beside it.
        composition_gap: The headline minus that of the better of the two, in points.
    """

    name: str
    protocol: str
    queries: int
    label: str
    value: float
    reference_in_top: dict[int, float | None] | None
    without_reference: float | None
    copies_in_top: float | None
    shared_concept: str | None = None
    one_modality: float | None = None
    composition_gap: float | None = None


def audit(name: str, ranking: Ranking, protocol: EvaluationProtocol, *, depth: int | None = None) -> Audit:
    """Audit one ranking.

    Args:
        name: What to call it.
        ranking: Of all queries of the protocol.
        protocol: With its gallery and ground truths.
        depth: How many ids the shortest list holds; ``None`` where the whole gallery was ranked.

    Raises:
        UsageError: The ground truths are not available.
    """
    if protocol.labels is None:
        raise UsageError(
            f"{protocol.name} cannot be audited here: its ground truths are not available.",
            hint="Audit the val split.",
        )
    headline = dataclasses.replace(protocol, measures=protocol.measures[:1])
    (measured, *_) = measure(ranking, headline)
    shares, without = None, None
    if not protocol.exclude_reference:
        places_Q = reference_places(ranking, protocol)
        width = ranking.top_QK.shape[1] if depth is None else min(depth, ranking.top_QK.shape[1])
        shares = {k: 100 * float(np.mean(places_Q <= k)) if depth is None or k <= depth else None for k in TOPS}
        # Of a list that ends at the cut-off, nobody knows which image moves into the last place.
        if protocol.measures[0].k < width or (depth is None and protocol.measures[0].k == width):
            without = 100 * measure(without_reference(ranking, places_Q, protocol), headline)[0].value
    return Audit(
        name=name,
        protocol=protocol.name,
        queries=len(protocol.queries),
        label=measured.label,
        value=100 * measured.value,
        reference_in_top=shares,
        without_reference=without,
        copies_in_top=_copies(ranking, protocol),
    )


def audit_run(name: str, run: Run, protocol: EvaluationProtocol) -> Audit:
    """Audit a finished run, with the unimodal baselines that lie beside it.

    Raises:
        UsageError: The run is of another protocol, or the ground truths are not available.
        CorruptFile: A file is damaged.
    """
    if run.result.protocol.digest not in (protocol.digest, protocol.first(len(run.query_ids)).digest):
        raise UsageError(
            f"{run.folder} is a run on {run.result.protocol.name} ({run.result.protocol.digest[:8]}), and this is "
            f"{protocol.name} ({protocol.digest[:8]}).",
            hint="Run it again, or get the data that it was run on.",
        )
    part = protocol.first(len(run.query_ids))
    found = audit(name, load_ranking(run, part), part, depth=run.depth)
    found = msgspec.structs.replace(found, shared_concept=_word(run.result.method.uses_shared_concept))
    unimodal = unimodal_of(run, baselines_beside(run), found.label)
    if unimodal is None:
        return found
    (diagnosis,) = diagnose([run], unimodal)
    return msgspec.structs.replace(
        found,
        one_modality=100 * (1 - unimodal.composition / unimodal.answered),
        composition_gap=None if diagnosis.gain is None else found.value - unimodal.better.result[found.label].value,
    )


def reference_places(ranking: Ranking, protocol: EvaluationProtocol) -> NDArray[np.int64]:
    """Return the 1-based place of each query's reference in its list, `UNRANKED` where it is not in it."""
    assert protocol.gallery is not None
    positions = protocol.gallery.positions
    # -2 is not the position of any image, nor the padding.
    reference_Q = np.array([positions.get(query.reference.id, -2) for query in protocol.queries], dtype=np.int64)
    found_QK = ranking.top_QK == reference_Q[:, None]
    return np.where(found_QK.any(axis=1), found_QK.argmax(axis=1) + 1, UNRANKED)


def without_reference(ranking: Ranking, places_Q: NDArray[np.int64], protocol: EvaluationProtocol) -> Ranking:
    """Return the ranking with every ground truth behind the reference one rank higher.

    Exact for ranks within the list. A query whose reference is itself a ground truth stays as it is.
    """
    assert protocol.labels is not None
    rows = zip(protocol.queries, protocol.labels.relevant, strict=True)
    kept_Q = np.array([query.reference.id in relevant for query, relevant in rows], dtype=bool)
    ranks = ranking.relevant_ranks
    removed_at = np.repeat(np.where(kept_Q, UNRANKED, places_Q), np.diff(ranks.offsets))
    moved = (ranks.values > removed_at) & (ranks.values != UNRANKED)
    return dataclasses.replace(ranking, relevant_ranks=Ragged(ranks.values - moved, ranks.offsets))


def _copies(ranking: Ranking, protocol: EvaluationProtocol) -> float | None:
    """The share of queries with another image of the reference's content among the first `COPIES_IN`."""
    gallery = protocol.gallery
    if gallery is None or gallery.images is None:
        return None
    images, hits = gallery.images, 0
    known: dict[int, str] = {}
    try:
        for query, row in zip(protocol.queries, ranking.top_QK[:, :COPIES_IN].tolist(), strict=True):
            content = query.reference.image.content
            for at in row:
                if at >= 0 and at not in known:
                    known[at] = images[at].content
            hits += any(at >= 0 and known[at] == content and gallery.ids[at] != query.reference.id for at in row)
    except MissingData:
        return None
    return 100 * hits / len(protocol.queries) if protocol.queries else None


def _word(disclosed: bool | str) -> str:
    return disclosed if isinstance(disclosed, str) else "yes" if disclosed else "no"


def audit_table(audits: Sequence[Audit]) -> Table:
    """Lay out audits, a row for each."""
    several = len({(each.protocol, each.label) for each in audits}) > 1
    columns = (
        Column("name", "run or file"),
        *((Column("protocol", "protocol"), Column("label", "metric")) if several else ()),
        Column("value", "%" if several else audits[0].label),
        Column("without_reference", "without reference"),
        *(Column(f"top_{k}", f"reference in top {k}", optional=0 if k == 5 else 2) for k in TOPS),
        Column("copies", f"copies in top {COPIES_IN}", optional=2),
        Column("shared_concept", "shared concept", optional=2),
        Column("one_modality", "solved by one modality", optional=1),
        Column("composition_gap", "composition gap", optional=1),
    )
    rows = tuple(
        (
            each.name,
            *((each.protocol, each.label) if several else ()),
            Number(each.value),
            _number(each.without_reference),
            *(_number((each.reference_in_top or {}).get(k)) for k in TOPS),
            _number(each.copies_in_top),
            each.shared_concept,
            _number(each.one_modality),
            _number(each.composition_gap),
        )
        for each in audits
    )
    notes = [
        "Percent of queries; the gap in points. Without reference: the same metric after the reference image is taken "
        "out of every list.",
        "Solved by one modality: a hit in the top k of the metric by image-only or text-only. Composition gap: minus "
        "the better of the two. Both need these runs beside the run.",
    ]
    if any(each.reference_in_top is None for each in audits):
        notes.append("Where nothing is said of the reference, the protocol removes it from the candidates.")
    title = "Audit" if several else f"Audit on {audits[0].protocol}, {audits[0].queries} queries"
    return Table(title, columns, rows, notes=tuple(notes))


def _number(value: float | None) -> Number | None:
    return None if value is None else Number(value)
