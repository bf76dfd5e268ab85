"""PatternCom: composed retrieval over satellite images, where a text asks for another value of one attribute.

Psomas et al., "Composed Image Retrieval for Remote Sensing", IGARSS 2024. The lists give images of PatternNet a value
of an attribute: a swimming pool is rectangular. Each is asked for every other value that its class has ("oval"), by the
bare word, against all images of PatternNet. Relevant is every listed image of the class that has the value.

The number is plain average precision of the whole ranking, averaged over the queries of each attribute, and then over
attributes. Some classes are one class to the public evaluation, such as dense and sparse residential areas: for all
attributes where it judges, and for one attribute each where it collects the values that are asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import (
    Expected,
    locate,
    numbered,
    read_lines,
    read_records,
    refuse,
    repeated,
    wrong_counts,
)
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import NO_CUTOFF, Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

VARIANT = "all"
TITLE = "PatternCom, another value of one attribute among satellite images"
LICENCE = "Apache-2.0"
METRIC = "mAP_full"
ATTRIBUTES = ("color", "context", "density", "existence", "quantity", "shape")
PATTERNNET = Collection("PatternNet", ("patterncom", "PatternNet", "patternnet"))
_FOLDERS = PATTERNNET.folders

IMAGES, CLASSES = "images", "classes"
EXPECTED: Expected = {IMAGES: 30_400, CLASSES: 38}
"""As the authors state them; no list was available to count in."""

_ONE_CLASS: Mapping[str, Mapping[str, str]] = {
    "context": {"bridge": "roadpass", "overpass": "roadpass"},
    "density": {"denseresidential": "residential", "sparseresidential": "residential"},
    "existence": {
        "ferryterminal": "pier",
        "harbor": "pier",
        "parkinglot": "parking",
        "parkingspace": "parking",
    },
    "shape": {"closedroad": "road", "intersection": "road"},
}
"""The classes that are asked as one, per attribute."""

_JUDGED_AS_ONE = {name: merged for classes in _ONE_CLASS.values() for name, merged in classes.items()}


def patterncom_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load PatternCom and check its counts.

    Args:
        variant: ``"all"``.
        data_root: The folder that holds ``patterncom/patternnet.csv`` and ``patterncom/PatternCom/color.csv`` and so
            on; the folder may be called PatternNet.

    Raises:
        UnknownName: There is no such variant.
        MissingData: A list is absent.
        CorruptFile: A list is not what was published; the message names the file and the lines.
    """
    if variant != VARIANT:
        raise UnknownName("protocol of patterncom", variant, (VARIANT,))
    return load(data_root, EXPECTED)


def load(data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load lists in PatternCom's format whose counts are ``expected``; see `patterncom_protocol`."""
    gallery = _gallery(data_root, expected)
    files = ImageFiles(PATTERNNET, tuple(map(_stem, gallery)), data_root, "cirbench data check patterncom")
    items = {name: Item(name, files[_stem(name)]) for name in gallery}
    asked = [row for attribute in ATTRIBUTES for row in _queries(attribute, data_root, items)]
    ids = numbered(f"{attribute}/{value}/{image}" for attribute, image, value, _ in asked)
    return EvaluationProtocol(
        id=f"patterncom/{VARIANT}",
        version=1,
        title=TITLE,
        queries=tuple(Query(id, items[image], (value,)) for id, (_, image, value, _) in zip(ids, asked, strict=True)),
        gallery=Gallery(tuple(items), [item.image for item in items.values()]),
        labels=Labels(tuple(relevant for *_, relevant in asked)),
        measures=(Measure(METRIC, NO_CUTOFF, by="attribute", macro=True, labels=ATTRIBUTES),),
        slices={"attribute": tuple((attribute,) for attribute, *_ in asked)},
        clusters=tuple(image for _, image, *_ in asked),
        captions="the asked value of the attribute, alone",
        licence=LICENCE,
    )


def _gallery(data_root: Path, expected: Expected) -> tuple[str, ...]:
    """Read the names of all images, the gallery."""
    path = locate(data_root, *(f"{folder}/patternnet.csv" for folder in _FOLDERS))
    rows = [line.split(" ") for line in read_lines(path)]
    if odd := [number for number, row in enumerate(rows, start=1) if len(row) < 3]:
        refuse(path, [f"not a path, a field and a class in line {some(odd)}"])
    names = tuple(row[0].rpartition("/")[2] for row in rows)
    found = {IMAGES: len(rows), CLASSES: len({row[2].strip() for row in rows})}
    refuse(path, [*wrong_counts(found, expected), *repeated("images", names)])
    return names


def _queries(
    attribute: str, data_root: Path, gallery: Mapping[str, Item]
) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield attribute, image, asked value and ground truths of each query; an image's last row is its value."""
    path = locate(data_root, *(f"{folder}/PatternCom/{attribute}.csv" for folder in _FOLDERS))
    rows = read_records(path, "an image, an attribute and a value", 3, needed=(0, 1, 2))
    lost = [image for image, *_ in rows if image not in gallery]
    refuse(path, [f"images are not in patternnet.csv: {some(lost)}"] if lost else [])
    value_of = {image: value for image, _, value in rows}
    relevant: dict[tuple[str, str], list[str]] = {}
    for image, value in value_of.items():
        relevant.setdefault((_judged(image), value), []).append(image)
    truths = {key: tuple(images) for key, images in relevant.items()}
    values: dict[tuple[str, str], dict[str, None]] = {}
    for image, name, value in rows:
        values.setdefault((name, _asked(name, image)), {})[value] = None
    asked = [
        (image, other) for image, name, value in rows for other in values[name, _asked(name, image)] if other != value
    ]
    empty = [f"{image}: {other}" for image, other in asked if (_judged(image), other) not in truths]
    refuse(path, [f"no image has the value that is asked for, by its last row: {some(empty)}"] if empty else [])
    for image, other in asked:
        yield attribute, image, other, truths[_judged(image), other]


def _class(image: str) -> str:
    """The class as the name of a file begins, up to its number."""
    return re.split(r"\d", image, maxsplit=1)[0]


def _asked(attribute: str, image: str) -> str:
    return _ONE_CLASS.get(attribute, {}).get(_class(image), _class(image))


def _judged(image: str) -> str:
    return _JUDGED_AS_ONE.get(_class(image), _class(image))


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


BENCHMARK = Benchmark(
    name="patterncom",
    title="PatternCom: satellite images with another colour, shape, density or number of things",
    licence=LICENCE,
    citation="Psomas et al., Composed Image Retrieval for Remote Sensing, IGARSS 2024",
    load=patterncom_protocol,
    protocols=(ProtocolEntry(f"patterncom/{VARIANT}", TITLE, "val", None, EXPECTED[IMAGES]),),
    needs="patterncom/patternnet.csv, patterncom/PatternCom/{color,context,density,existence,quantity,shape}.csv",
    files=DatasetFiles(
        images=(
            ImageSet(
                "PatternNet",
                PATTERNNET,
                EXPECTED[IMAGES],
                "as its authors state; the pictures are their owners'",
                "patterncom/images",
                by_hand="Fetch PatternNet from https://sites.google.com/view/zhouwx/dataset.",
            ),
        ),
        by_hand="Fetch patternnet.csv and the folder PatternCom from the addresses of "
        "https://github.com/billpsomas/rscir (Google Drive), and put both into patterncom/.",
    ),
    columns=(*(f"{METRIC}[attribute={name}]" for name in ATTRIBUTES), f"{METRIC}[mean over attribute]"),
)
