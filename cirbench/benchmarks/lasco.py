"""LaSCo val: composed retrieval over photographs of COCO 2014, with texts made from questions about pairs of images.

Levy et al., "Data Roaming and Quality Assessment for Composed Image Retrieval", AAAI 2024. A query is an image and a
sentence, and has one target; the gallery is every image of ``lasco_val_corpus.json``. The authors' evaluation is not
public, and the evaluations of others that we know keep the reference among the candidates; each way is a protocol.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from cirbench.benchmarks.annotation_files import (
    Expected,
    decode,
    locate,
    numbered,
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

LICENCE = "MIT"
TITLES = {"val": "LaSCo val, reference kept", "val-drop-reference": "LaSCo val, reference removed"}
CUTOFFS = (1, 5, 10, 50)
VAL2014 = Collection("coco-val2014", ("lasco", "coco/val2014", "coco/images/val2014"))

QUERIES, IMAGES = "queries", "images"
EXPECTED: Expected = {IMAGES: 39_826}
"""Counted in the published list of the gallery; that of the queries was not available to count in."""

ImageId = Annotated[int, msgspec.Meta(ge=0)]


class _Row(msgspec.Struct, frozen=True, rename="kebab"):
    """A query; images are given by id and path."""

    qid: int
    query_image: tuple[ImageId, str]
    query_text: str
    target_image: tuple[ImageId, str]


class _ImageRow(msgspec.Struct, frozen=True):
    id: ImageId
    path: str


def lasco_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load one of LaSCo's protocols and check its counts.

    Args:
        variant: A key of `TITLES`.
        data_root: The folder that holds ``lasco/lasco_val.json`` and ``lasco/lasco_val_corpus.json``.

    Raises:
        UnknownName: There is no such protocol.
        MissingData: A file is absent.
        CorruptFile: A file is not what was published; the message names the file and the queries.
    """
    if variant not in TITLES:
        raise UnknownName("protocol of lasco", variant, TITLES)
    return load(variant, data_root, EXPECTED)


def load(variant: str, data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load files in LaSCo's format whose counts are ``expected``; see `lasco_protocol`."""
    path, other = (
        locate(data_root, f"lasco/{name}.json", f"lasco/downloads/{name}.json")
        for name in ("lasco_val", "lasco_val_corpus")
    )
    shown = decode(other, list[_ImageRow])
    refuse(other, _broken_gallery(shown, expected))
    rows = decode(path, list[_Row])
    gallery = {str(row.id): _stem(row.path) for row in shown}
    refuse(path, _broken_queries(rows, gallery, expected))
    ids = numbered(str(row.qid) for row in rows)
    references = tuple(str(row.query_image[0]) for row in rows)
    names = gallery | {id: _stem(row.query_image[1]) for id, row in zip(references, rows, strict=True)}
    files = ImageFiles(VAL2014, tuple(names.values()), data_root, "cirbench data check lasco")
    return EvaluationProtocol(
        id=f"lasco/{variant}",
        version=1,
        title=TITLES[variant],
        queries=tuple(
            Query(id, Item(reference, files[names[reference]]), (row.query_text,))
            for id, reference, row in zip(ids, references, rows, strict=True)
        ),
        gallery=Gallery(tuple(gallery), [files[name] for name in gallery.values()]),
        labels=Labels(tuple((str(row.target_image[0]),) for row in rows)),
        measures=tuple(Measure("Recall", k) for k in CUTOFFS),
        exclude_reference=variant == "val-drop-reference",
        clusters=references,
        captions="the text as annotated",
        licence=LICENCE,
    )


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _broken_gallery(shown: Sequence[_ImageRow], expected: Expected) -> Iterator[str]:
    yield from wrong_counts({IMAGES: len(shown)}, expected)
    yield from repeated("images", (row.id for row in shown))
    if odd := [row.path for row in shown if not _same_number((row.id, row.path))]:
        yield f"id and path are of different images in {some(odd)}"


def _broken_queries(rows: Sequence[_Row], gallery: Mapping[str, str], expected: Expected) -> Iterator[str]:
    yield from wrong_counts({QUERIES: len(rows)}, expected)
    if odd := [row.qid for row in rows if not _same_number(row.query_image) or not _same_number(row.target_image)]:
        yield f"id and path are of different images in {queries(odd)}"
    if lost := [row.qid for row in rows if str(row.target_image[0]) not in gallery]:
        yield f"the target is not in the gallery for {queries(lost)}"


def _same_number(image: tuple[int, str]) -> bool:
    """Whether the name of the file ends in the id, as COCO's names do."""
    digits = re.search(r"\d+$", _stem(image[1]))
    return digits is not None and int(digits[0]) == image[0]


_ANNOTATIONS = listed(
    f"{GITHUB}/levymsn/LaSCo/311f4d7d4bc069fc2d8abd3bf523cdfae6b5800f/downloads",
    "lasco",
    """
    ?                                                                        ? lasco_val.json *
    448783f45a20cab61e0f099638011979b2fe81d34bed3d69cbc02ecc955557ac   2740369 lasco_val_corpus.json *
    """,
)
_PHOTOGRAPHS = Archive(
    f"{COCO}/zips/val2014.zip", "lasco/val2014.zip", None, None, into="lasco", yields="lasco/val2014"
)
BENCHMARK = Benchmark(
    name="lasco",
    title="LaSCo: photographs of COCO 2014, with texts made from questions about pairs of images",
    licence=LICENCE,
    citation="Levy et al., Data Roaming and Quality Assessment for Composed Image Retrieval, AAAI 2024",
    load=lasco_protocol,
    protocols=tuple(
        ProtocolEntry(f"lasco/{variant}", title, "val", None, EXPECTED[IMAGES]) for variant, title in TITLES.items()
    ),
    needs="lasco/lasco_val.json, lasco/lasco_val_corpus.json",
    files=DatasetFiles(
        _ANNOTATIONS,
        (ImageSet("COCO 2014 val", VAL2014, EXPECTED[IMAGES], COCO_LICENCE, "lasco/val2014", (_PHOTOGRAPHS,)),),
    ),
    columns=tuple(f"Recall@{k}" for k in CUTOFFS),
)
