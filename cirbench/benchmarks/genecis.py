"""GeneCIS: four tasks that ask for the same or another object or attribute, with a few candidates per query.

Vaze et al., "GeneCIS: A Benchmark for General Conditional Image Similarity", CVPR 2023. The object tasks show
photographs of COCO val2017. The attribute tasks show objects cut out of Visual Genome; such an item is known by its
image and its box. ``genecis/all`` holds the four tasks at once and reports each and their unweighted mean.

The candidates of a query are its target and its gallery. In one published query (``change_object``, 19) the target
is in the gallery as well, so that this query has 14 candidates where the others have 15.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import msgspec

from cirbench.benchmarks.annotation_files import Expected, decode, locate, queries, refuse, wrong_counts
from cirbench.benchmarks.coco_composition import VAL2017, VAL2017_PHOTOGRAPHS
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
from cirbench.errors import UnknownName
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from PIL import Image

    from cirbench.benchmarks.images import LocatedImage

TASKS = ("focus-object", "change-object", "focus-attribute", "change-attribute")
ALL = "all"
TITLES = {
    ALL: "GeneCIS, four tasks and their mean",
    "focus-object": "GeneCIS focus object, 15 candidates per query",
    "change-object": "GeneCIS change object, 15 candidates per query",
    "focus-attribute": "GeneCIS focus attribute, object crops",
    "change-attribute": "GeneCIS change attribute, object crops",
}
CUTOFFS = (1, 2, 3)
LICENCE = "CC BY-NC 4.0"
VISUAL_GENOME = Collection(
    "visual-genome", ("genecis/VG_100K_all", "genecis/VG_100K", "genecis/VG_100K_2", "visual-genome", "vg")
)
ImageId = Annotated[int, msgspec.Meta(ge=0)]


QUERIES, IMAGES, CONDITIONS = "queries", "distinct images", "distinct conditions"
EXPECTED: Mapping[str, Expected] = {
    "focus-object": {QUERIES: 1960, IMAGES: 2198, CONDITIONS: 97},
    "change-object": {QUERIES: 1960, IMAGES: 2739, CONDITIONS: 109},
    "focus-attribute": {},
    "change-attribute": {},
}
"""Counted in the published files of the object tasks; those of the attribute tasks were not available to count in."""

GALLERY_IMAGES = {"focus-object": 2192, "change-object": 2734}
"""Distinct candidates: fewer than images, since some are references only."""


Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

DILATION = 0.7


@dataclasses.dataclass(frozen=True, slots=True)
class SquareCrop:
    """A box, enlarged to the left and the top, cut out and padded with black to a square; an `ImageSource`.

    GeneCIS's public code moves the left and top edges out by 0.7 of the box's size, and then measures 1.7 times the
    size from the moved edges. So context is added on two sides only, unless the image's border stops an edge; there the
    other side gets what is left. Its numbers belong to exactly these crops.
    """

    image: LocatedImage
    box: Box

    @property
    def files(self) -> ImageFiles:
        """Where the whole image is."""
        return self.image.files

    @property
    def name(self) -> str:
        """By which it is found there."""
        return self.image.name

    @property
    def content(self) -> str:
        """Sha256 over the file's bytes and the crop.

        Raises:
            MissingData: The file is missing or cannot be read.
        """
        return digest(["black square", DILATION, self.box, self.image.content])

    def open(self) -> Image.Image:
        """Decode the whole image, cut, and pad, in its original mode.

        Raises:
            MissingData: The file is missing, or cannot be decoded whole.
        """
        from PIL import Image

        whole = self.image.open()
        part = whole.crop(enlarged(self.box, whole.size))
        side = max(part.size)
        square = Image.new(part.mode, (side, side))
        if part.mode == "P" and (palette := part.getpalette()) is not None:
            square.putpalette(palette)
        square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
        return square

    def __str__(self) -> str:
        return f"{self.image}, box {', '.join(f'{side:g}' for side in self.box)}"


def enlarged(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of an enlarged box in an image of ``size``; see `SquareCrop`."""
    left, top, width, height = box
    left, top = max(0, left - DILATION * width), max(0, top - DILATION * height)
    return left, top, min(size[0], left + (1 + DILATION) * width), min(size[1], top + (1 + DILATION) * height)


class _Photograph(msgspec.Struct, frozen=True):
    val_image_id: ImageId

    @property
    def file(self) -> str:
        """The name of its image."""
        return str(self.val_image_id)

    def item(self, files: ImageFiles) -> Item:
        """The whole photograph, by its id."""
        return Item(self.file, files[self.file])


class _Object(msgspec.Struct, frozen=True):
    image_id: ImageId
    instance_bbox: Box

    @property
    def file(self) -> str:
        """The name of the image that it is cut out of."""
        return str(self.image_id)

    def item(self, files: ImageFiles) -> Item:
        """The object with its surroundings, by image and box: ``"2370806:12,40,100,80"``."""
        box = ",".join(f"{side:.15g}" for side in self.instance_bbox)
        return Item(f"{self.file}:{box}", SquareCrop(files[self.file], self.instance_bbox))


Shown = TypeVar("Shown", _Photograph, _Object)


class _Row(msgspec.Struct, Generic[Shown], frozen=True):
    reference: Shown
    target: Shown
    gallery: Annotated[list[Shown], msgspec.Meta(min_length=1)]
    condition: str


@dataclasses.dataclass(frozen=True)
class _Asked:
    task: str
    reference: Item
    condition: str
    candidates: dict[str, Item]  # the target first


def genecis_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of GeneCIS's tasks, or all of them, and check every count.

    Args:
        variant: One of `TASKS`, or ``"all"``.
        data_root: The folder that holds ``genecis/focus_object.json`` and so on.

    Raises:
        UnknownName: There is no such task.
        MissingData: A file is absent.
        CorruptFile: A file is not what was published; the message names the file and the queries.
    """
    if variant not in TITLES:
        raise UnknownName("task of genecis", variant, TITLES)
    return load(variant, data_root, EXPECTED)


def load(variant: str, data_root: Path, expected: Mapping[str, Expected]) -> EvaluationProtocol:
    """Load files in GeneCIS's format whose counts are ``expected``; see `genecis_protocol`."""
    tasks = TASKS if variant == ALL else (variant,)
    read = {task: _read(task, data_root, expected[task]) for task in tasks}
    asked = [row for rows in read.values() for row in rows]
    shown = {name: item.image for row in asked for name, item in row.candidates.items()}
    ids = [f"{task}-{number}" for task, rows in read.items() for number in range(len(rows))]
    if variant == ALL:
        slices = {"task": tuple((row.task,) for row in asked)}
        measures = tuple(Measure("Recall", k, by="task", macro=True, labels=TASKS) for k in CUTOFFS)
    else:
        slices = {}
        measures = tuple(Measure("Recall", k) for k in CUTOFFS)
    return EvaluationProtocol(
        id=f"genecis/{variant}",
        version=1,
        title=TITLES[variant],
        queries=tuple(
            Query(id, row.reference, (row.condition,), category=row.task) for id, row in zip(ids, asked, strict=True)
        ),
        gallery=Gallery(tuple(shown), list(shown.values())),
        labels=Labels(tuple((next(iter(row.candidates)),) for row in asked)),
        measures=measures,
        pools=tuple(tuple(row.candidates) for row in asked),
        pool_of_query=tuple(range(len(asked))),
        slices=slices,
        clusters=tuple(row.reference.id for row in asked),
        captions="the condition as annotated",
        licence=LICENCE,
    )


def _read(task: str, data_root: Path, expected: Expected) -> list[_Asked]:
    path = locate(data_root, f"genecis/{task.replace('-', '_')}.json")
    rows: Sequence[_Row[_Photograph] | _Row[_Object]]
    if task.endswith("-object"):
        collection = VAL2017
        rows = decode(path, list[_Row[_Photograph]])
    else:
        collection = VISUAL_GENOME
        rows = decode(path, list[_Row[_Object]])
    names = tuple(dict.fromkeys(each.file for row in rows for each in (row.reference, row.target, *row.gallery)))
    refuse(path, _broken(rows, len(names), expected))
    files = ImageFiles(collection, names, data_root, "cirbench data check genecis")
    made: dict[_Photograph | _Object, Item] = {}

    def item(shown: _Photograph | _Object) -> Item:
        return made.get(shown) or made.setdefault(shown, shown.item(files))

    return [
        _Asked(
            task,
            item(row.reference),
            row.condition,
            {each.id: each for each in map(item, (row.target, *row.gallery))},
        )
        for row in rows
    ]


def _broken(rows: Sequence[_Row[_Photograph] | _Row[_Object]], images: int, expected: Expected) -> Iterator[str]:
    conditions = {row.condition for row in rows}
    yield from wrong_counts({QUERIES: len(rows), IMAGES: images, CONDITIONS: len(conditions)}, expected)
    if silent := [place for place, row in enumerate(rows) if not row.condition.strip()]:
        yield f"the condition is empty in {queries(silent)}"
    if trivial := [place for place, row in enumerate(rows) if row.reference in (row.target, *row.gallery)]:
        yield f"the reference is a candidate of {queries(trivial)}"
    if twice := [place for place, row in enumerate(rows) if len(set(row.gallery)) != len(row.gallery)]:
        yield f"an image occurs twice in the gallery of {queries(twice)}"


_ANNOTATIONS = listed(
    f"{GITHUB}/facebookresearch/genecis/0c5c968c01b8ccffcc0990af2b430d21d7a12f49/genecis",
    "genecis",
    """
    ee6de86ffb78ad989986b65f7e74e5627a90c1395a8cdc4aed8da3d92f4c016c   2270369 focus_object.json all,focus-object
    0a5145984f7d8594c457a3609288ae2acfcdb6b72bd0309220e616300c9beac8   2270031 change_object.json all,change-object
    ?         ? focus_attribute.json all,focus-attribute
    ?         ? change_attribute.json all,change-attribute
    """,
)
_PHOTOGRAPHS = tuple(
    Archive(
        f"https://cs.stanford.edu/people/rak248/VG_100K_2/{name}.zip",
        f"visual-genome/{name}.zip",
        size,
        None,
        into="visual-genome",
        yields=f"visual-genome/{folder}",
    )
    for name, folder, size in (("images", "VG_100K", 9_731_705_982), ("images2", "VG_100K_2", 5_471_658_058))
)
BENCHMARK = Benchmark(
    name="genecis",
    title="GeneCIS: the same or another object or attribute, few candidates per query",
    licence=LICENCE,
    citation="Vaze et al., GeneCIS: A Benchmark for General Conditional Image Similarity, CVPR 2023",
    load=genecis_protocol,
    protocols=tuple(
        ProtocolEntry(
            f"genecis/{variant}",
            title,
            "val",
            EXPECTED.get(variant, {}).get(QUERIES),
            GALLERY_IMAGES.get(variant),
        )
        for variant, title in TITLES.items()
    ),
    needs="genecis/{focus,change}_{object,attribute}.json",
    files=DatasetFiles(
        _ANNOTATIONS,
        (
            dataclasses.replace(VAL2017_PHOTOGRAPHS, count=3033, variants=("all", "*-object")),
            ImageSet(
                "Visual Genome 1.2",
                VISUAL_GENOME,
                None,
                "CC BY 4.0 (annotations); the photographs are their owners'",
                "visual-genome",
                _PHOTOGRAPHS,
                variants=("all", "*-attribute"),
            ),
        ),
    ),
    columns=(
        *(f"Recall@{k}" for k in CUTOFFS),
        *(f"Recall@{k}[task={task}]" for task in TASKS for k in CUTOFFS),
        "Recall@1[mean over task]",
    ),
)
