"""Audits for people: as lines about one row, and as a table of several."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.comparison.audit import COPIES_IN, OTHER_TRUTHS, TOPS
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.comparison.audit import Audit, Bounds


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


EXPLAINED = (
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
        yield EXPLAINED
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
