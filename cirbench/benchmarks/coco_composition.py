"""Object composition on COCO val2017: from one object of a photograph and the classes of all, find the photograph.

Saito et al., "Pic2Word: Mapping Pictures to Words for Zero-Shot Composed Image Retrieval", CVPR 2023. Their script
draws one object per photograph at random without a seed, so that every installation evaluates other queries. Here the
draw is a function of the annotations alone (`_draw`), query ids are the drawn annotation ids, and their digest is part
of the protocol. Numbers are comparable between installations of cirbench; published ones rest on crops nobody knows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import msgspec

from cirbench.benchmarks.annotation_files import (
    Expected,
    decode,
    locate,
    not_as_published,
    refuse,
    repeated,
    wrong_counts,
)
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import Archive, Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from cirbench.benchmarks.images import LocatedImage

SEED = "cirbench coco/object-composition 1"
LARGEST_SHARE = 0.5
"""Of its photograph's area that an object's box may cover."""

CUTOFFS = (1, 5, 10)
TITLE = "COCO object composition, objects drawn by a fixed rule"
LICENCE = "CC BY 4.0"

# images.cocodataset.org has no certificate of its own name; this is the same bucket, encrypted.
COCO = "https://s3.amazonaws.com/images.cocodataset.org"
COCO_LICENCE = "the photographers' own, mostly Creative Commons: https://cocodataset.org/#termsofuse"
VAL2017 = Collection("coco-val2017", tuple(f"{place}/val2017" for place in ("genecis", "coco", "coco/images")))
_PHOTOGRAPHS = Archive(
    f"{COCO}/zips/val2017.zip",
    "coco/val2017.zip",
    815_585_330,
    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    into="coco",
    yields="coco/val2017",
)
VAL2017_PHOTOGRAPHS = ImageSet("COCO 2017 val", VAL2017, None, COCO_LICENCE, "coco/val2017", (_PHOTOGRAPHS,))
PLACES = ("coco/annotations/instances_val2017.json", "genecis/annotations/instances_val2017.json")
Size = Annotated[int, msgspec.Meta(gt=0)]


IMAGES, CLASSES = "images", "classes"
EXPECTED: Expected = {IMAGES: 5000, CLASSES: 80}
"""As COCO states them; the file was not available to count in, so annotations and queries are not compared."""


@dataclasses.dataclass(frozen=True, slots=True)
class CutOut:
    """One object on white, cut to its box; an `ImageSource`.

    Attributes:
        image: The whole image.
        box: Left, top, width and height in pixels; cut to whole ones, towards zero.
        outline: COCO's segmentation: polygons of x and y in turn, or the lengths of runs of 0 and 1, column by column.
    """

    image: LocatedImage
    box: tuple[float, float, float, float]
    outline: tuple[tuple[float, ...], ...] | tuple[int, ...]

    @property
    def files(self) -> ImageFiles:
        """Where the whole image is."""
        return self.image.files

    @property
    def content(self) -> str:
        """Sha256 over the file's bytes and the cut.

        Raises:
            MissingData: The file is missing or cannot be read.
        """
        return digest(["on white", self.box, self.outline, self.image.content])

    def open(self) -> Image.Image:
        """Decode the whole image, paint everything but the object white, and cut; RGB.

        Raises:
            MissingData: The file is missing, or cannot be decoded whole.
        """
        from PIL import Image

        whole = self.image.open().convert("RGB")
        white = Image.new("RGB", whole.size, (255, 255, 255))
        left, top, width, height = self.box
        object_on_white = Image.composite(whole, white, _mask(self.outline, whole.size))
        return object_on_white.crop((int(left), int(top), int(left + width), int(top + height)))

    def __str__(self) -> str:
        return f"{self.image}, object in {', '.join(f'{side:g}' for side in self.box)}"


def _mask(outline: tuple[tuple[float, ...], ...] | tuple[int, ...], size: tuple[int, int]) -> Image.Image:
    import numpy as np
    from PIL import Image, ImageDraw

    if outline and isinstance(outline[0], tuple):
        mask = Image.new("L", size)
        for polygon in outline:
            ImageDraw.Draw(mask).polygon(polygon, fill=255)
        return mask
    runs = np.asarray(outline, dtype=np.int64)
    flat = np.repeat(255 * (np.arange(len(runs)) % 2), runs).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(flat.reshape(size).T))


class _Image(msgspec.Struct, frozen=True):
    id: int
    width: Size
    height: Size


class _Runs(msgspec.Struct, frozen=True):
    counts: list[int]


class _Annotation(msgspec.Struct, frozen=True):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: msgspec.Raw  # decoded for the drawn ones only


class _Class(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Instances(msgspec.Struct, frozen=True):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Class]


def coco_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load ``coco/object-composition``.

    Args:
        variant: ``"object-composition"``.
        data_root: The folder that holds ``coco/annotations/instances_val2017.json``.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: The file is absent.
        CorruptFile: It is not what was published; the message names the file and what differs.
    """
    if variant != "object-composition":
        raise UnknownName("protocol of coco", variant, ["object-composition"])
    return load(data_root, EXPECTED)


def load(data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load a file in COCO's format whose counts are ``expected``; see `coco_protocol`."""
    path = locate(data_root, *PLACES)
    found = decode(path, _Instances)
    refuse(path, _broken(found, expected))
    of_image: defaultdict[int, list[_Annotation]] = defaultdict(list)
    for annotation in found.annotations:
        of_image[annotation.image_id].append(annotation)
    sizes = {image.id: image.width * image.height for image in found.images}
    names = {each.id: each.name for each in found.categories}
    drawn = [chosen for image in sorted(of_image) if (chosen := _draw(of_image[image], LARGEST_SHARE * sizes[image]))]
    ids = tuple(str(annotation.image_id) for annotation in drawn)
    images = ImageFiles(VAL2017, ids, data_root, "cirbench data check coco")
    return EvaluationProtocol(
        id="coco/object-composition",
        version=1,
        title=TITLE,
        queries=tuple(
            Query(
                str(annotation.id),
                Item(f"object-{annotation.id}", _cut_out(annotation, images, path)),
                (_sentence(annotation, of_image[annotation.image_id], names),),
            )
            for annotation in drawn
        ),
        gallery=Gallery(ids, [images[name] for name in ids]),
        labels=Labels(tuple((name,) for name in ids)),
        measures=tuple(Measure("Recall", k) for k in CUTOFFS),
        captions='"a photo of {class} and {the other classes, joined by " and "}": Pic2Word\'s text-only prompt',
        licence=LICENCE,
        data_digests={"drawn annotation ids": digest([annotation.id for annotation in drawn])},
    )


def _draw(annotations: Sequence[_Annotation], largest: float) -> _Annotation | None:
    """Draw one of the objects that are not too large: the one whose salted id has the smallest sha256."""
    possible = [each for each in annotations if 0.05 < each.bbox[2] * each.bbox[3] < largest]
    return min(possible, key=lambda each: hashlib.sha256(f"{SEED} {each.id}".encode()).digest(), default=None)


def _cut_out(annotation: _Annotation, images: ImageFiles, path: Path) -> CutOut:
    try:
        shape = msgspec.json.decode(annotation.segmentation, type=list[tuple[float, ...]] | _Runs)
    except msgspec.DecodeError as error:
        raise not_as_published(path, f"the outline of annotation {annotation.id}: {error}") from error
    outline = tuple(shape.counts) if isinstance(shape, _Runs) else tuple(shape)
    return CutOut(images[str(annotation.image_id)], annotation.bbox, outline)


def _sentence(drawn: _Annotation, annotations: Sequence[_Annotation], names: dict[int, str]) -> str:
    classes = dict.fromkeys(names[each.category_id] for each in annotations)
    own = names[drawn.category_id]
    return f"a photo of {own} and {' and '.join(name for name in classes if name != own)}"


def _broken(found: _Instances, expected: Expected) -> Iterator[str]:
    yield from wrong_counts({IMAGES: len(found.images), CLASSES: len(found.categories)}, expected)
    yield from repeated("images", (image.id for image in found.images))
    yield from repeated("annotations", (each.id for each in found.annotations))
    images, classes = {image.id for image in found.images}, {each.id for each in found.categories}
    if lost := [each.id for each in found.annotations if each.image_id not in images]:
        yield f"annotations are of no image of the file: {some(lost)}"
    if lost := [each.id for each in found.annotations if each.category_id not in classes]:
        yield f"annotations are of no class of the file: {some(lost)}"


_INSTANCES = Archive(
    f"{COCO}/annotations/annotations_trainval2017.zip",
    "coco/annotations_trainval2017.zip",
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    into="coco",
    yields="coco/annotations/instances_val2017.json",
    only=("annotations/instances_val2017.json",),
    unpacked=20_000_000,
)
BENCHMARK = Benchmark(
    name="coco",
    title="COCO object composition: a photograph from one of its objects and the classes of all",
    licence=LICENCE,
    citation="Saito et al., Pic2Word: Mapping Pictures to Words for Zero-Shot Composed Image Retrieval, CVPR 2023",
    load=coco_protocol,
    protocols=(ProtocolEntry("coco/object-composition", TITLE, "val", None, None),),
    needs="coco/annotations/instances_val2017.json",
    files=DatasetFiles((_INSTANCES,), (VAL2017_PHOTOGRAPHS,)),
    columns=tuple(f"Recall@{k}" for k in CUTOFFS),
)
