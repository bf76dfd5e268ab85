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
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import msgspec

from cirbench.datasets.locate import find, locate
from cirbench.datasets.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.metrics.table import Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from PIL import Image

T = TypeVar("T")
ImageId = Annotated[int, msgspec.Meta(ge=0)]

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
ASPECT_MEASURE = Measure("mAP", 10, by="aspect", labels=ASPECTS)


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the annotations of a split must count up to.

    Attributes:
        queries: Queries; their ids are 0, 1, 2 and so on, in order.
        references: Distinct reference images.
        ground_truths: Ground truths of all queries together; ``None`` where a server keeps them.
        aspects: Queries that carry each aspect; ``None`` where a server keeps them.
        gallery: Images in the gallery.
    """

    queries: int
    references: int
    ground_truths: int | None
    aspects: Mapping[str, int] | None
    gallery: int = 123_403


EXPECTED = {
    "val": Expected(220, 220, 916, dict(zip(ASPECTS, (37, 80, 21, 119, 86, 50, 164, 100, 54), strict=True))),
    "test": Expected(800, 798, None, None),
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
class UnplacedImage:
    """A COCO image that is known by its id only: enough to score rankings, not to encode it."""

    id: str

    @property
    def content(self) -> str:
        """Unknown without the file.

        Raises:
            MissingData: Always.
        """
        self._missing()

    def open(self) -> Image.Image:
        """Refuse: only annotations are read so far.

        Raises:
            MissingData: Always.
        """
        self._missing()

    def _missing(self) -> NoReturn:
        raise MissingData(
            f"{self} is not at hand: this version of cirbench reads CIRCO's annotations, not its images.",
            hint="Score rankings or features that were made elsewhere with `cirbench score --dataset circo`.",
        )

    def __str__(self) -> str:
        return f"COCO image {self.id}"


def circo_protocol(split: str, data_root: Path) -> EvaluationProtocol:
    """Load ``circo/val`` or ``circo/test`` and check every count.

    Args:
        split: ``"val"``, or ``"test"`` whose labels a server keeps.
        data_root: The folder that holds ``circo/annotations/val.json`` and so on.

    Raises:
        UnknownName: There is no such split.
        MissingData: The annotation file is absent.
        CorruptFile: It is not what was published; the message names the file and the queries.
    """
    if split not in EXPECTED:
        raise UnknownName("split of circo", split, EXPECTED)
    return load(split, data_root, EXPECTED[split])


def load(split: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load a split in CIRCO's format whose counts are ``expected``; see `circo_protocol`."""
    path = locate(data_root, f"circo/annotations/{split}.json")
    labelled: list[_ValRow] | None = None
    rows: Sequence[_TestRow]
    if expected.ground_truths is None:
        rows = _decode(path, list[_TestRow])
    else:
        rows = labelled = _decode(path, list[_ValRow])
    _refuse(path, [*_broken_queries(rows, expected), *(_broken_labels(labelled, expected) if labelled else ())])
    gallery = _gallery(data_root, expected)
    if gallery is not None:
        _refuse(path, _outside(rows, labelled or (), gallery))
    references = tuple(str(row.reference_img_id) for row in rows)
    return EvaluationProtocol(
        id=f"circo/{split}",
        version=1,
        title=f"CIRCO {split}, reference kept",
        queries=tuple(
            Query(str(row.id), Item(reference, UnplacedImage(reference)), (row.relative_caption,))
            for row, reference in zip(rows, references, strict=True)
        ),
        gallery=gallery,
        labels=None if labelled is None else Labels(tuple(tuple(map(str, row.gt_img_ids)) for row in labelled)),
        measures=MEASURES if labelled is None else (*MEASURES, ASPECT_MEASURE),
        slices={} if labelled is None else {"aspect": tuple(_in_official_order(row) for row in labelled)},
        clusters=references,
        captions="the relative caption as annotated; the shared concept is not given",
        licence="CC BY-NC 4.0",
    )


def _in_official_order(row: _ValRow) -> tuple[str, ...]:
    return tuple(sorted(row.semantic_aspects, key=ASPECTS.index))


def _gallery(data_root: Path, expected: Expected) -> Gallery | None:
    path = find(data_root, *_GALLERY_FILES)
    if path is None:
        return None
    ids = tuple(str(image.id) for image in _decode(path, _ImageInfo).images)
    problems = []
    if len(ids) != expected.gallery:
        problems.append(f"it lists {len(ids)} images, not {expected.gallery}")
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        problems.append(f"it lists images more than once: {_some(repeated)}")
    _refuse(path, problems)
    return Gallery(ids)


def _broken_queries(rows: Sequence[_TestRow], expected: Expected) -> Iterator[str]:
    if len(rows) != expected.queries:
        yield f"it holds {len(rows)} queries, not {expected.queries}"
    if misplaced := [f"{row.id} at place {place}" for place, row in enumerate(rows) if row.id != place]:
        yield f"query ids are not 0, 1, 2 and so on: {_some(misplaced)}"
    if silent := [row.id for row in rows if not row.relative_caption.strip()]:
        yield f"the relative caption is empty in {_queries(silent)}"
    references = Counter(row.reference_img_id for row in rows)
    if len(references) != expected.references:
        shared = [row.id for row in rows if references[row.reference_img_id] > 1]
        sharing = f"; references are shared by {_queries(shared)}" if shared else ""
        yield f"it holds {len(references)} distinct reference images, not {expected.references}{sharing}"


def _broken_labels(rows: Sequence[_ValRow], expected: Expected) -> Iterator[str]:
    if late := [row.id for row in rows if row.gt_img_ids[0] != row.target_img_id]:
        yield f"the target is not the first ground truth of {_queries(late)}"
    if repeated := [row.id for row in rows if len(set(row.gt_img_ids)) != len(row.gt_img_ids)]:
        yield f"a ground truth stands twice in {_queries(repeated)}"
    if trivial := [row.id for row in rows if row.reference_img_id in row.gt_img_ids]:
        yield f"the reference is a ground truth of {_queries(trivial)}"
    total = sum(len(row.gt_img_ids) for row in rows)
    if total != expected.ground_truths:
        yield f"it holds {total} ground truths, not {expected.ground_truths}"
    carried = [(name, row.id) for row in rows for name in row.semantic_aspects]
    if unknown := [f"{name!r} of query {id}" for name, id in carried if name not in ASPECTS]:
        yield f"unknown semantic aspects: {_some(unknown)}"
    if doubled := [row.id for row in rows if len(set(row.semantic_aspects)) != len(row.semantic_aspects)]:
        yield f"a semantic aspect stands twice in {_queries(doubled)}"
    found = Counter(name for name, _ in carried)
    for name, count in (expected.aspects or {}).items():
        if found[name] != count:
            yield f"{found[name]} queries carry the aspect {name}, not {count}"


def _outside(rows: Sequence[_TestRow], labelled: Sequence[_ValRow], gallery: Gallery) -> Iterator[str]:
    at = gallery.positions
    if lost := [row.id for row in rows if str(row.reference_img_id) not in at]:
        yield f"the reference is not in the gallery for {_queries(lost)}"
    if lost := [row.id for row in labelled if any(str(name) not in at for name in row.gt_img_ids)]:
        yield f"a ground truth is not in the gallery for {_queries(lost)}"


def _decode(path: Path, type: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_as_published(path, str(error)) from error


def _refuse(path: Path, problems: Iterable[str]) -> None:
    """Raise one error that tells every problem, if there is any."""
    if told := "; ".join(problems):
        raise _not_as_published(path, told)


def _not_as_published(path: Path, problem: str) -> CorruptFile:
    return CorruptFile(
        f"{path} is not the file that was published: {problem.rstrip('.')}.",
        hint="Fetch the file again from the benchmark's authors.",
    )


def _queries(ids: Sequence[int]) -> str:
    return f"{'query' if len(ids) == 1 else 'queries'} {_some(ids)}"


def _some(names: Sequence[object], limit: int = 10) -> str:
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
