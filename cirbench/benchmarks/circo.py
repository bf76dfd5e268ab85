"""CIRCO: composed retrieval over COCO's unlabelled photographs, with several ground truths per query.

Baldrati et al., "Zero-Shot Composed Image Retrieval with Textual Inversion", ICCV 2023. The annotations are two JSON
files, ``circo/annotations/{val,test}.json``; the gallery is every image of COCO's ``image_info_unlabeled2017.json``, in
that file's order. Rankings can be scored without the gallery; only their ids cannot be checked then.

Whatever the paper and the files say about themselves is checked at load time, because a number on an edited copy of the
annotations is a number on another benchmark.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import msgspec

from cirbench.benchmarks import circled
from cirbench.benchmarks.annotation_files import (
    Expected,
    decode,
    find,
    locate,
    queries,
    refuse,
    repeated,
    wrong_counts,
)
from cirbench.benchmarks.coco_composition import COCO, COCO_LICENCE
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import (
    GITHUB,
    Archive,
    Benchmark,
    Collection,
    DatasetFiles,
    ImageSet,
    ProtocolEntry,
    listed,
)
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ImageId = Annotated[int, msgspec.Meta(ge=0)]
LICENCE = "CC BY-NC 4.0"
_UNLABELED = ("COCO2017_unlabeled/unlabeled2017", "unlabeled2017")
UNLABELED2017 = Collection(
    "circo", (*(f"{place}/{name}" for place in ("circo", "coco", "coco/images") for name in _UNLABELED), "circo")
)

ASPECTS = (
    "cardinality",
    "addition",
    "negation",
    "direct_addressing",
    "compare_change",
    "comparative_statement",
    "statement_with_conjunction",
    "spatial_relations_background",
    "viewpoint",
)
"""The nine semantic aspects, in the order of the official evaluation."""

MEASURES = (
    *(Measure("mAP", k) for k in (5, 10, 25, 50)),
    *(Measure("Recall", k) for k in (5, 10, 25, 50)),
)
TURN_MEASURES = (*(Measure("mAP", k) for k in (5, 10, 25, 50)), Measure("mAP", 10, by="turn"))
ASPECT_MEASURE = Measure("mAP", 10, by="aspect", labels=ASPECTS)


QUERIES, REFERENCES, IMAGES = "queries", "distinct reference images", "images"
GROUND_TRUTHS = "ground truths"


def carrying(aspect: str) -> str:
    """What the queries of a semantic aspect are counted as."""
    return f"queries with the aspect {aspect}"


EXPECTED: Mapping[str, Expected] = {
    "val": {
        QUERIES: 220,
        REFERENCES: 220,
        GROUND_TRUTHS: 916,
        IMAGES: 123_403,
        **circled.EXPECTED["circo_val"],
        **dict(zip(map(carrying, ASPECTS), (37, 80, 21, 119, 86, 50, 164, 100, 54), strict=True)),
    },
    "test": {QUERIES: 800, REFERENCES: 798, IMAGES: 123_403},
}
"""Counted in the published files."""

_GALLERY_FILES = tuple(
    f"{folder}/image_info_unlabeled2017.json"
    for folder in (
        "circo/annotations",
        "circo/COCO2017_unlabeled/annotations",
        "circo/unlabeled2017",
        "coco/annotations",
    )
)


class _TestRow(msgspec.Struct, frozen=True):
    id: int
    reference_img_id: ImageId
    relative_caption: str
    shared_concept: str


class _ValRow(_TestRow, frozen=True):
    target_img_id: ImageId
    gt_img_ids: Annotated[list[ImageId], msgspec.Meta(min_length=1)]
    semantic_aspects: Annotated[list[str], msgspec.Meta(min_length=1)]


class _ImageRow(msgspec.Struct, frozen=True):
    id: ImageId


class _ImageInfo(msgspec.Struct, frozen=True):
    images: list[_ImageRow]


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes CIRCO's protocols from each other.

    Attributes:
        split: The annotation file.
        title: One line for people.
        exclude_reference: Whether the reference is removed from the candidates.
        with_concept: Whether methods are given the shared concept.
    """

    split: str
    title: str
    exclude_reference: bool = False
    with_concept: bool = False


VARIANTS = {
    "val": Variant("val", "CIRCO val, reference kept"),
    "val-drop-reference": Variant("val", "CIRCO val, reference removed", exclude_reference=True),
    "val-concept": Variant("val", "CIRCO val, reference kept, shared concept given", with_concept=True),
    circled.VARIANT: Variant("val", f"CIRCO val, {circled.TITLE}"),
    "test": Variant("test", "CIRCO test, reference kept"),
}


def circo_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of CIRCO's protocols and check every count.

    Args:
        variant: A key of `VARIANTS`; the labels of ``"test"`` are kept by a server.
        data_root: The folder that holds ``circo/annotations/val.json`` and so on.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: The annotation file is absent.
        CorruptFile: It is not what was published; the message names the file and the queries.
    """
    if variant not in VARIANTS:
        raise UnknownName("protocol of circo", variant, VARIANTS)
    return load(variant, data_root, EXPECTED[VARIANTS[variant].split])


def load(variant: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load a protocol in CIRCO's format whose counts are ``expected``; see `circo_protocol`."""
    chosen = VARIANTS[variant]
    path = locate(data_root, f"circo/annotations/{chosen.split}.json")
    labelled: list[_ValRow] | None = None
    rows: Sequence[_TestRow]
    if chosen.split == "val":
        rows = labelled = decode(path, list[_ValRow])
    else:
        rows = decode(path, list[_TestRow])
    refuse(path, [*_broken_queries(rows, expected), *(_broken_labels(labelled, expected) if labelled else ())])
    ids = _gallery_ids(data_root, expected)
    references = tuple(str(row.reference_img_id) for row in rows)
    images = ImageFiles(UNLABELED2017, ids or tuple(dict.fromkeys(references)), data_root, "cirbench data check circo")
    gallery = None if ids is None else Gallery(ids, [images[name] for name in ids])
    if gallery is not None:
        refuse(path, _outside(rows, labelled or (), gallery))
    concept = "given" if chosen.with_concept else "not given"
    protocol = EvaluationProtocol(
        id=f"circo/{variant}",
        version=1,
        title=chosen.title,
        queries=tuple(
            Query(
                str(row.id),
                Item(reference, images[reference]),
                (row.relative_caption,),
                shared_concept=row.shared_concept if chosen.with_concept else None,
            )
            for row, reference in zip(rows, references, strict=True)
        ),
        gallery=gallery,
        labels=None if labelled is None else Labels(tuple(tuple(map(str, row.gt_img_ids)) for row in labelled)),
        measures=MEASURES if labelled is None else (*MEASURES, ASPECT_MEASURE),
        exclude_reference=chosen.exclude_reference,
        slices={} if labelled is None else {"aspect": tuple(_in_official_order(row) for row in labelled)},
        clusters=references,
        captions=f"the relative caption as annotated; the shared concept is {concept}",
        licence=LICENCE,
    )
    if variant != circled.VARIANT:
        return protocol
    return circled.of_turns(protocol, {None: "circo_val"}, data_root, {"circo_val": expected}, TURN_MEASURES)


def _in_official_order(row: _ValRow) -> tuple[str, ...]:
    return tuple(sorted(row.semantic_aspects, key=ASPECTS.index))


def _gallery_ids(data_root: Path, expected: Expected) -> tuple[str, ...] | None:
    path = find(data_root, *_GALLERY_FILES)
    if path is None:
        return None
    ids = tuple(str(image.id) for image in decode(path, _ImageInfo).images)
    refuse(path, [*wrong_counts({IMAGES: len(ids)}, expected), *repeated("images", ids)])
    return ids


def _broken_queries(rows: Sequence[_TestRow], expected: Expected) -> Iterator[str]:
    yield from wrong_counts({QUERIES: len(rows)}, expected)
    if misplaced := [f"{row.id} at place {place}" for place, row in enumerate(rows) if row.id != place]:
        yield f"query ids are not 0, 1, 2 and so on: {some(misplaced)}"
    if silent := [row.id for row in rows if not row.relative_caption.strip()]:
        yield f"the relative caption is empty in {queries(silent)}"
    references = Counter(row.reference_img_id for row in rows)
    for problem in wrong_counts({REFERENCES: len(references)}, expected):
        shared = [row.id for row in rows if references[row.reference_img_id] > 1]
        yield f"{problem}; references are shared by {queries(shared)}" if shared else problem


def _broken_labels(rows: Sequence[_ValRow], expected: Expected) -> Iterator[str]:
    if late := [row.id for row in rows if row.gt_img_ids[0] != row.target_img_id]:
        yield f"the target is not the first ground truth of {queries(late)}"
    if twice := [row.id for row in rows if len(set(row.gt_img_ids)) != len(row.gt_img_ids)]:
        yield f"a ground truth occurs twice in {queries(twice)}"
    if trivial := [row.id for row in rows if row.reference_img_id in row.gt_img_ids]:
        yield f"the reference is a ground truth of {queries(trivial)}"
    yield from wrong_counts({GROUND_TRUTHS: sum(len(row.gt_img_ids) for row in rows)}, expected)
    carried = [(name, row.id) for row in rows for name in row.semantic_aspects]
    if unknown := [f"{name!r} of query {id}" for name, id in carried if name not in ASPECTS]:
        yield f"unknown semantic aspects: {some(unknown)}"
    if doubled := [row.id for row in rows if len(set(row.semantic_aspects)) != len(row.semantic_aspects)]:
        yield f"a semantic aspect occurs twice in {queries(doubled)}"
    found = Counter(name for name, _ in carried)
    yield from wrong_counts({carrying(name): found[name] for name in ASPECTS}, expected)


def _outside(rows: Sequence[_TestRow], labelled: Sequence[_ValRow], gallery: Gallery) -> Iterator[str]:
    at = gallery.positions
    if lost := [row.id for row in rows if str(row.reference_img_id) not in at]:
        yield f"the reference is not in the gallery for {queries(lost)}"
    if lost := [row.id for row in labelled if any(str(name) not in at for name in row.gt_img_ids)]:
        yield f"a ground truth is not in the gallery for {queries(lost)}"


_ANNOTATIONS = listed(
    f"{GITHUB}/miccunifi/CIRCO/267b5c9087d856ce1b41d2daf8f385ae5b629a3b",
    "circo",
    """
    6b31a1dbc3c85627501d9a250f87708f24a27d74d6a65360b6ddd2537a154d04    111978 annotations/val.json val*
    2f7c37e89220c990b6b0525d6f3ed63d3fc02e03ce336aa42a3b822841b14886    167660 annotations/test.json test*
    """,
)
_IMAGE_INFO = Archive(
    f"{COCO}/annotations/image_info_unlabeled2017.zip",
    "circo/image_info_unlabeled2017.zip",
    None,
    None,
    into="circo",
    yields="circo/annotations/image_info_unlabeled2017.json",
    only=("annotations/image_info_unlabeled2017.json",),
)
_PHOTOGRAPHS = Archive(
    f"{COCO}/zips/unlabeled2017.zip",
    "circo/unlabeled2017.zip",
    20_126_613_414,
    None,
    into="circo",
    yields="circo/unlabeled2017",
)
BENCHMARK = Benchmark(
    name="circo",
    title="CIRCO: open-domain photographs of COCO with several ground truths per query",
    licence=LICENCE,
    citation="Baldrati et al., Zero-Shot Composed Image Retrieval with Textual Inversion, ICCV 2023",
    load=circo_protocol,
    protocols=tuple(
        ProtocolEntry(
            f"circo/{variant}",
            chosen.title,
            chosen.split,
            EXPECTED[chosen.split][circled.TURNS if variant == circled.VARIANT else QUERIES],
            EXPECTED[chosen.split][IMAGES],
            labelled=chosen.split == "val",
        )
        for variant, chosen in VARIANTS.items()
    ),
    needs="circo/annotations/{val,test}.json; the gallery from circo/annotations/image_info_unlabeled2017.json",
    files=DatasetFiles(
        (*_ANNOTATIONS, _IMAGE_INFO),
        (
            ImageSet(
                "COCO 2017 unlabeled", UNLABELED2017, 123_403, COCO_LICENCE, "circo/unlabeled2017", (_PHOTOGRAPHS,)
            ),
        ),
    ),
    columns=tuple(f"mAP@{k}" for k in (5, 10, 25, 50)),
    server="circo",
)
