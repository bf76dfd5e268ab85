"""CIRR: composed retrieval over photographs of NLVR2, with a group of six similar images around each query.

Liu et al., "Image Retrieval on Real-life Images with Pre-trained Vision-and-Language Models", ICCV 2021; release rc2.
The gallery is the split's list of images in its order. The reference is not a candidate. Query ids are the pair ids.

``cirr/val-soft`` is the evaluation of the authors' own code, CIRPLANT: a query is worth the largest soft label among
its first K candidates, and at least 0. It is not the Recall of anybody else: 37 queries do not list their hard target
among the soft ones. ``cirr/val-soft-subset`` is the second number of that code: the same inside the query's group.

``cirr/val-multi-target`` and ``-judged`` are the same queries with the targets that a model judged right
(`cirbench.benchmarks.relabelled`). ``cirr/val-circled`` are the turns of dialogues (`cirbench.benchmarks.circled`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import msgspec

from cirbench.benchmarks import circled, relabelled
from cirbench.benchmarks.annotation_files import (
    Expected,
    decode,
    locate,
    queries,
    refuse,
    repeated,
    wrong_counts,
)
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import GITHUB, Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry, listed
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import CIRR_AVERAGE, Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LICENCE = "MIT"
NLVR2 = Collection("cirr", ("cirr", "nlvr2", "dev", "test1"))
"""CIRR's authors put the images, ``dev`` and ``test1``, beside the annotations."""

GROUP = 6
CUTOFFS = (1, 5, 10, 50)
MEASURES = (
    *(Measure("Recall", k) for k in CUTOFFS),
    *(Measure("Recall_subset", k) for k in (1, 2, 3)),
    Measure(CIRR_AVERAGE, 5),
)
SOFT_MEASURES = tuple(Measure("Recall_soft", k) for k in CUTOFFS)
SOFT_SUBSET_MEASURES = tuple(Measure("Recall_soft", k) for k in (1, 2, 3))
TURN_MEASURES = (*(Measure("Recall", k) for k in CUTOFFS), Measure("Recall", 10, by="turn"))
JUDGED_MEASURES = (*relabelled.PRECISIONS, *relabelled.GAINS)
UNITED_MEASURES = (*JUDGED_MEASURES, *(Measure(name, k) for name in ("Hit_rate", "Recall") for k in CUTOFFS))
TITLES = {
    "val": "CIRR val, reference removed",
    "val-soft": "CIRR val by soft labels, reference removed",
    "val-soft-subset": "CIRR val by soft labels, inside the group, reference removed",
    **{variant: f"CIRR val, {targets}" for variant, targets in relabelled.READINGS.items()},
    circled.VARIANT: f"CIRR val, {circled.TITLE}",
    "test1": "CIRR test1, reference removed",
}


SOFT_LABELS = (1.0, 0.5, 0.2, -1.0)
"""The soft labels that annotators gave."""

SILENT = {"test1": frozenset({27098})}
"""Per split, the published queries whose caption is empty."""

QUERIES, IMAGES, GROUPS, REFERENCES = "queries", "images", "groups", "distinct references"
EXPECTED: Mapping[str, Expected] = {
    "val": {
        QUERIES: 4181,
        IMAGES: 2297,
        GROUPS: 503,
        REFERENCES: 2165,
        **{f"soft labels {label:g}": count for label, count in zip(SOFT_LABELS, (4216, 62, 6, 807), strict=True)},
        **relabelled.EXPECTED["cirr"],
        **circled.EXPECTED["cirr_val"],
    },
    "test1": {QUERIES: 4148, IMAGES: 2315, GROUPS: 503, REFERENCES: 2178},
}
"""Counted in the published files."""


class _Group(msgspec.Struct, frozen=True):
    id: int
    members: Annotated[list[str], msgspec.Meta(min_length=GROUP, max_length=GROUP)]


class _TestRow(msgspec.Struct, frozen=True):
    pairid: int
    reference: str
    caption: str
    img_set: _Group


class _ValRow(_TestRow, frozen=True):
    target_hard: str
    target_soft: Annotated[dict[str, float], msgspec.Meta(min_length=1)]


def cirr_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of CIRR's protocols and check every count.

    Args:
        variant: A key of `TITLES`; the labels of ``"test1"`` are kept by a server.
        data_root: The folder that holds ``cirr/captions/cap.rc2.val.json`` and so on.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: A file is absent.
        CorruptFile: A file is not what was published; the message names the file and the queries or ids.
    """
    if variant not in TITLES:
        raise UnknownName("protocol of cirr", variant, TITLES)
    return load(variant, data_root, EXPECTED[variant.partition("-")[0]])


def load(variant: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load a protocol in CIRR's format whose counts are ``expected``; see `cirr_protocol`."""
    split = variant.partition("-")[0]
    ids = _gallery_ids(split, data_root, expected)
    path = locate(data_root, f"cirr/captions/cap.rc2.{split}.json")
    labelled: list[_ValRow] | None = None
    rows: Sequence[_TestRow]
    if split == "val":
        rows = labelled = decode(path, list[_ValRow])
    else:
        rows = decode(path, list[_TestRow])
    inside = frozenset(ids)
    silent = SILENT.get(split, frozenset())
    refuse(path, [*_broken_queries(rows, inside, silent, expected), *_broken_labels(labelled or (), inside, expected)])
    images = ImageFiles(NLVR2, ids, data_root, "cirbench data check cirr")
    protocol = EvaluationProtocol(
        id=f"cirr/{variant}",
        version=1,
        title=TITLES[variant],
        queries=tuple(
            Query(str(row.pairid), Item(row.reference, images[row.reference]), (row.caption,)) for row in rows
        ),
        gallery=Gallery(ids, [images[name] for name in ids]),
        labels=None if labelled is None else Labels(tuple((row.target_hard,) for row in labelled)),
        measures=MEASURES,
        exclude_reference=True,
        groups=tuple(tuple(row.img_set.members) for row in rows),
        clusters=tuple(str(row.img_set.id) for row in rows),
        captions="the caption as annotated",
        licence=LICENCE,
    )
    if variant in relabelled.READINGS:
        judged = locate(data_root, relabelled.FILE.format(dataset="cirr", part="cirr"))
        measures = UNITED_MEASURES if variant == relabelled.UNITED else JUDGED_MEASURES
        return relabelled.with_judged_targets(protocol, variant, {None: (judged, expected)}, measures)
    if variant == circled.VARIANT:
        return circled.of_turns(protocol, {None: "cirr_val"}, data_root, {"cirr_val": expected}, TURN_MEASURES)
    return protocol if labelled is None else _with_soft_labels(protocol, labelled, variant)


def _with_soft_labels(protocol: EvaluationProtocol, rows: Sequence[_ValRow], variant: str) -> EvaluationProtocol:
    if variant == "val-soft":
        labels = [row.target_soft for row in rows]
        return dataclasses.replace(protocol, labels=_soft(labels), measures=SOFT_MEASURES, groups=None)
    if variant == "val-soft-subset":
        # Each query ranks its group alone, and only the labels of that group count.
        inside = [
            {name: row.target_soft[name] for name in row.img_set.members if name in row.target_soft} for row in rows
        ]
        pools = tuple(dict.fromkeys(tuple(row.img_set.members) for row in rows))
        number = {pool: place for place, pool in enumerate(pools)}
        return dataclasses.replace(
            protocol,
            labels=_soft(inside),
            measures=SOFT_SUBSET_MEASURES,
            groups=None,
            pools=pools,
            pool_of_query=tuple(number[tuple(row.img_set.members)] for row in rows),
        )
    return protocol


def _soft(labels: Sequence[Mapping[str, float]]) -> Labels:
    return Labels(tuple(tuple(each) for each in labels), tuple(tuple(each.values()) for each in labels))


def _gallery_ids(split: str, data_root: Path, expected: Expected) -> tuple[str, ...]:
    path = locate(data_root, f"cirr/image_splits/split.rc2.{split}.json")
    ids = tuple(decode(path, dict[str, str]))
    refuse(path, wrong_counts({IMAGES: len(ids)}, expected))
    return ids


def _broken_queries(
    rows: Sequence[_TestRow], inside: frozenset[str], silent: frozenset[int], expected: Expected
) -> Iterator[str]:
    groups, references = {row.img_set.id for row in rows}, {row.reference for row in rows}
    yield from wrong_counts({QUERIES: len(rows), GROUPS: len(groups), REFERENCES: len(references)}, expected)
    yield from repeated("pair ids", (row.pairid for row in rows))
    if empty := [row.pairid for row in rows if not row.caption.strip() and row.pairid not in silent]:
        yield f"the caption is empty in {queries(empty)}"
    if alone := [row.pairid for row in rows if row.reference not in row.img_set.members]:
        yield f"the reference is not in the group of {queries(alone)}"
    if doubled := [row.pairid for row in rows if len(set(row.img_set.members)) != GROUP]:
        yield f"a member occurs twice in the group of {queries(doubled)}"
    if lost := [row.pairid for row in rows if not inside.issuperset(row.img_set.members)]:
        yield f"members of the group are not in the gallery for {queries(lost)}"


def _broken_labels(rows: Sequence[_ValRow], inside: frozenset[str], expected: Expected) -> Iterator[str]:
    if lost := [row.pairid for row in rows if row.target_hard not in row.img_set.members]:
        yield f"the target is not in the group of {queries(lost)}"
    if trivial := [row.pairid for row in rows if row.target_hard == row.reference]:
        yield f"the reference is the target of {queries(trivial)}"
    if lost := [row.pairid for row in rows if not inside.issuperset(row.target_soft)]:
        yield f"soft targets are not in the gallery for {queries(lost)}"
    given = [value for row in rows for value in row.target_soft.values()]
    yield from wrong_counts({f"soft labels {label:g}": given.count(label) for label in SOFT_LABELS}, expected)
    if other := sorted(set(given).difference(SOFT_LABELS)):
        yield f"unknown soft labels: {some(other)}"


_ANNOTATIONS = listed(
    f"{GITHUB}/Cuberick-Orion/CIRR/2276fba2d2c53862c8ae79ea18e1f1ae03719f56",
    "cirr",
    """
    a85c3a1aa464f1af7229918e8018d08b8b20ce5dab479ffdf39d61113140f919   1609916 captions/cap.rc2.val.json val*
    de36f7a7219c8bb06347a67748cfc68405be7dad62853a1e31846c98e491235b    105568 image_splits/split.rc2.val.json val*
    26a2b2e7a5c96c903491aefc7d5f237f03d3cca97712e1b6bb3b231db5ff8001   1254129 captions/cap.rc2.test1.json test1*
    bf2bb9ed0659c4aae35de72350652b9ab75d36a060211f826bec15c58ec12566    120364 image_splits/split.rc2.test1.json test1*
    """,
)
BENCHMARK = Benchmark(
    name="cirr",
    title="CIRR: everyday photographs of NLVR2, each query in a group of six similar ones",
    licence=LICENCE,
    citation="Liu et al., Image Retrieval on Real-life Images with Pre-trained Vision-and-Language Models, ICCV 2021",
    load=cirr_protocol,
    protocols=tuple(
        ProtocolEntry(
            f"cirr/{variant}",
            title,
            split := variant.partition("-")[0],
            EXPECTED[split][circled.TURNS if variant == circled.VARIANT else QUERIES],
            EXPECTED[split][IMAGES],
            labelled=split == "val",
        )
        for variant, title in TITLES.items()
    ),
    needs="cirr/captions/cap.rc2.{val,test1}.json, cirr/image_splits/split.rc2.{val,test1}.json",
    files=DatasetFiles(
        (*_ANNOTATIONS, *relabelled.CIRR_FILES),
        tuple(
            ImageSet(
                f"NLVR2 {folder}",
                NLVR2,
                count,
                "the terms of use of NLVR2; the photographs are their owners'",
                f"cirr/{folder}",
                by_hand="Ask for the NLVR2 images with the form that https://github.com/lil-lab/nlvr/tree/master/nlvr2 "
                "(direct image download) links; without an answer, ask the authors of CIRR "
                "(https://github.com/Cuberick-Orion/CIRR). NLVR2's list of URLs does not help: many are dead.",
                names=f"{folder}-*",
                variants=variants,
            )
            for folder, count, variants in (("dev", 2297, ("val*",)), ("test1", 2315, ("test1",)))
        ),
    ),
    columns=(
        *(measure.label for measure in MEASURES),
        *(f"Recall_soft@{k}" for k in (1, 2, 3, 5, 10, 50)),
        *(measure.label for measure in relabelled.PRECISIONS),
    ),
    server="cirr",
)
