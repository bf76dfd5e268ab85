"""Several targets for queries of CIRR and FashionIQ, as a language model judged them (SoFT, arXiv:2512.20781).

SoFT's authors had a model judge candidates for the queries of both validation splits, and kept those with a confidence
of 0.85 or more: 2.9 targets per query of CIRR, 4.6 to 4.9 of FashionIQ. The judge does not name the target that people
annotated in 10.8 to 18.0 % of the queries, and names the reference itself in some, which is never an answer here. So
there are two readings of the same queries, gallery and candidates, and neither should be shown without the other:

- ``val-multi-target``: the annotated target, with a gain of 1, and whatever else the judge named.
- ``val-multi-target-judged``: what the judge named, alone. Queries for which it named nothing take no part.

Confidences are the gains of nDCG. The files hold no query ids; reference and annotated target are unique, and name the
query. SoFT's own code divides average precision by the number of targets that it found in the first K, which misses
cost nothing in: its numbers are higher, and are not these.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import msgspec

from cirbench.benchmarks.annotation_files import Expected, decode, refuse, repeated, wrong_counts
from cirbench.benchmarks.interface import GITHUB, RemoteFile
from cirbench.errors import some
from cirbench.metrics.table import Measure
from cirbench.protocol import Labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

UNITED, JUDGED = "val-multi-target", "val-multi-target-judged"
READINGS = {
    UNITED: "targets of SoFT's judge and the annotated one",
    JUDGED: "targets of SoFT's judge alone",
}
"""Per variant, what its labels are."""

PRECISIONS = tuple(Measure("mAP", k) for k in (5, 10, 25, 50))
GAINS = (Measure("nDCG", 10),)

ROWS, TARGETS, DROPPED, ITSELF = (
    "judged queries",
    "judged targets",
    "judged queries without their annotated target",
    "judged queries with their reference as a target",
)
EXPECTED: Mapping[str, Expected] = {
    "cirr": {ROWS: 4140, TARGETS: 11957, DROPPED: 448, ITSELF: 138},
    "dress": {ROWS: 2011, TARGETS: 9920, DROPPED: 361, ITSELF: 5},
    "shirt": {ROWS: 2032, TARGETS: 9511, DROPPED: 220, ITSELF: 9},
    "toptee": {ROWS: 1958, TARGETS: 9005, DROPPED: 279, ITSELF: 11},
}
"""Counted in the published files."""


class _Row(msgspec.Struct, frozen=True):
    reference_image_name: str
    target_image_name: str
    confidence_scores: Annotated[
        dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]],
        msgspec.Meta(min_length=1),
    ]


FILE = "{dataset}/soft/{part}_multi_target_selection.json"
"""Where the judged targets of CIRR (``cirr``) or of a category are, relative to the data root."""


def with_judged_targets(
    protocol: EvaluationProtocol,
    variant: str,
    files: Mapping[str | None, tuple[Path, Expected]],
    measures: tuple[Measure, ...],
) -> EvaluationProtocol:
    """Return a protocol with the targets that a judge named for its queries.

    Args:
        protocol: The protocol as annotated, one target per query.
        variant: A key of `READINGS`.
        files: Per category of queries, ``None`` where they have none, the file of its targets and what it counts up to.
        measures: What is reported.

    Raises:
        MissingData: A file cannot be read.
        CorruptFile: A file is not what was published; the message names the pairs or ids.
    """
    assert protocol.labels is not None
    named: list[Mapping[str, float]] = [{}] * len(protocol.queries)
    for category, (path, expected) in files.items():
        rows = decode(path, list[_Row])
        places_of: dict[tuple[str, str], list[int]] = {}
        for place, (query, relevant) in enumerate(zip(protocol.queries, protocol.labels.relevant, strict=True)):
            if query.category == category:
                places_of.setdefault((query.reference.id, relevant[0]), []).append(place)
        candidates = _candidates(protocol, next(iter(places_of.values()))[0])
        refuse(path, _broken(rows, places_of, candidates, expected))
        for row in rows:
            (place,) = places_of[row.reference_image_name, row.target_image_name]
            named[place] = row.confidence_scores
    graded: list[dict[str, float]] = []
    for query, (target, *_), judged in zip(protocol.queries, protocol.labels.relevant, named, strict=True):
        others = {name: gain for name, gain in judged.items() if name != query.reference.id}
        graded.append({target: 1.0} | others | {target: 1.0} if variant == UNITED else others)
    return dataclasses.replace(
        protocol,
        labels=Labels(tuple(map(tuple, graded)), tuple(tuple(each.values()) for each in graded)),
        measures=measures,
        groups=None,
    )


def _candidates(protocol: EvaluationProtocol, place: int) -> frozenset[str]:
    assert protocol.gallery is not None
    if protocol.pools is None or protocol.pool_of_query is None:
        return frozenset(protocol.gallery.ids)
    return frozenset(protocol.pools[protocol.pool_of_query[place]])


def _broken(
    rows: Sequence[_Row], places_of: Mapping[tuple[str, str], list[int]], inside: frozenset[str], expected: Expected
) -> Iterator[str]:
    pairs = [(row.reference_image_name, row.target_image_name) for row in rows]
    found = {
        ROWS: len(rows),
        TARGETS: sum(len(row.confidence_scores) for row in rows),
        DROPPED: sum(row.target_image_name not in row.confidence_scores for row in rows),
        ITSELF: sum(row.reference_image_name in row.confidence_scores for row in rows),
    }
    yield from wrong_counts(found, expected)
    yield from repeated("pairs of reference and target", pairs)
    if strange := [pair for pair in pairs if len(places_of.get(pair, ())) != 1]:
        yield f"no query, or more than one, has the reference and target {some(strange)}"
    if outside := [name for row in rows for name in row.confidence_scores if name not in inside]:
        yield f"targets are not in the gallery: {some(outside)}"


_COMMIT = f"{GITHUB}/jjungyujin/SoFT/3db620a6741c722f6dd32a1fa0a904731d1dfd46/mt_pipeline/llm/multi_target_selection"


def _file(dataset: str, part: str, sha256: str, size: int) -> RemoteFile:
    path = FILE.format(dataset=dataset, part=part)
    return RemoteFile(f"{_COMMIT}/{path.rpartition('/')[2]}", path, size, sha256, (f"{UNITED}*",), "none stated")


CIRR_FILES = (_file("cirr", "cirr", "44380a62fb2c624887a4c60256e21d7df320d0f9e977656cdd2533049dae21d1", 1_348_603),)
FASHIONIQ_FILES = tuple(
    _file("fashioniq", part, sha256, size)
    for part, sha256, size in (
        ("dress", "cf0cc351db43774360602d81be06582578ba3cd1884a7fe40249acbdc1e0a795", 761_154),
        ("shirt", "75cb12709e80e3b97803c49632488032f6c1ad5c723f83e7fe1fce8cd83be78b", 752_780),
        ("toptee", "b53981fde1bbdb0a283610871d68124103a523ef6af67bb643f01d311a4217af", 729_921),
    )
)
