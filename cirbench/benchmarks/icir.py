"""i-CIR: find the same object, not one like it, under the change that a text asks for.

Psomas et al., "Instance-Level Composed Image Retrieval", NeurIPS 2025. Each of 202 instances (an artwork, a landmark, a
product) has query images, texts, and a database of its own with positives and hard negatives: the same object without
the change, the change on another object. A query is an image with a text, and ranks the database of its instance, in
which its image is not. Relevant is every image that shows the instance as the text says.

The number of the paper is the mean over instances of the mean average precision of the whole ranking, by the
trapezoidal rule: not CIRCO's mAP@K, nor comparable with it.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import (
    Expected,
    locate,
    read_records,
    refuse,
    repeated,
    unsuffixed,
    wrong_counts,
)
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import Archive, Benchmark, Collection, DatasetFiles, ImageSet, ProtocolEntry
from cirbench.errors import UnknownName, some
from cirbench.metrics.table import NO_CUTOFF, Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

VARIANT = "all"
TITLE = "i-CIR, each query against the database of its instance"
LICENCE = "CC BY-NC-SA 4.0"
FILES = ("icir/query_files.csv", "icir/database_files.csv")
ICIR = Collection("i-CIR", ("icir",))
MACRO = "mAP_trapezoidal[mean over instance]"

QUERIES, INSTANCES = "queries", "instances"
EXPECTED: Expected = {QUERIES: 1883, INSTANCES: 202}
"""From the paper; the published files were not available to count the database in."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A line of either file.

    Attributes:
        image: The path of the image, as written.
        text: What a query asks for; of an image of the database, the text that it is an answer to.
        instance: The instance whose query or database it belongs to.
    """

    image: str
    text: str
    instance: str

    @property
    def name(self) -> str:
        """What the file is found by: the path below the folder of the benchmark, without suffix."""
        return unsuffixed(self.image.removeprefix("./").removeprefix("icir/"))


def icir_protocol(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load i-CIR and check its counts.

    Args:
        variant: ``"all"``.
        data_root: The folder that holds ``icir/query_files.csv`` and ``icir/database_files.csv``.

    Raises:
        UnknownName: There is no such variant.
        MissingData: A list is absent.
        CorruptFile: A list is not what was published; the message names the file and the lines.
    """
    if variant != VARIANT:
        raise UnknownName("protocol of icir", variant, (VARIANT,))
    return load(data_root, EXPECTED)


def load(data_root: Path, expected: Expected) -> EvaluationProtocol:
    """Load lists in i-CIR's format whose counts are ``expected``; see `icir_protocol`."""
    path, other = (locate(data_root, file) for file in FILES)
    asked, shown = _read(path), _read(other)
    refuse(other, _broken_database(shown))
    databases: dict[str, dict[str, None]] = defaultdict(dict)
    answers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in shown:
        databases[row.instance][row.image] = None
        answers[row.instance, row.text].append(row.image)
    refuse(path, _broken_queries(asked, answers, {row.image for row in shown}, expected))
    names = tuple(dict.fromkeys(row.name for row in (*asked, *shown)))
    files = ImageFiles(ICIR, names, data_root, "cirbench data check icir")
    gallery = {row.image: row.name for row in shown}
    place_of = {instance: place for place, instance in enumerate(databases)}
    instances = tuple(dict.fromkeys(row.instance for row in asked))
    return EvaluationProtocol(
        id=f"icir/{VARIANT}",
        version=1,
        title=TITLE,
        queries=tuple(
            Query(str(number), Item(row.image, files[row.name]), (row.text,)) for number, row in enumerate(asked)
        ),
        gallery=Gallery(tuple(gallery), [files[name] for name in gallery.values()]),
        labels=Labels(tuple(tuple(answers[row.instance, row.text]) for row in asked)),
        measures=(
            Measure("mAP_trapezoidal", NO_CUTOFF, by="instance", macro=True, labels=instances),
            Measure("mAP_trapezoidal", NO_CUTOFF),
        ),
        pools=tuple(tuple(images) for images in databases.values()),
        pool_of_query=tuple(place_of[row.instance] for row in asked),
        slices={"instance": tuple((row.instance,) for row in asked)},
        clusters=tuple(row.instance for row in asked),
        captions="the text as annotated",
        licence=LICENCE,
    )


def _read(path: Path) -> list[_Row]:
    """Read lines of image, text and instance; a text with a comma is quoted.

    The public evaluation splits at each comma, so that it would read a part of such a text as the instance.
    """
    return [_Row(*cells) for cells in read_records(path, "an image, a text and an instance", 3, needed=(0, 2))]


def _broken_database(rows: Sequence[_Row]) -> Iterator[str]:
    yield from repeated("images of an instance and a text", ((row.instance, row.text, row.image) for row in rows))


def _broken_queries(
    rows: Sequence[_Row], answers: Mapping[tuple[str, str], Sequence[str]], shown: set[str], expected: Expected
) -> Iterator[str]:
    yield from wrong_counts({QUERIES: len(rows), INSTANCES: len({row.instance for row in rows})}, expected)
    yield from repeated("queries", ((row.image, row.text, row.instance) for row in rows))
    if silent := [number for number, row in enumerate(rows, start=1) if not row.text]:
        yield f"the text is empty in line {some(silent)}"
    if lost := [n for n, row in enumerate(rows, start=1) if (row.instance, row.text) not in answers]:
        yield f"no image of the database is an answer to line {some(lost)}"
    if trivial := [number for number, row in enumerate(rows, start=1) if row.image in shown]:
        yield f"the image of line {some(trivial)} is in the database too"


_RELEASE = Archive(
    "https://vrg.fel.cvut.cz/icir/icir_v1.0.0.tar.gz",
    "icir_v1.0.0.tar.gz",
    None,
    None,
    yields=FILES[1],
)
"""Lists and images together."""

BENCHMARK = Benchmark(
    name="icir",
    title="i-CIR: the same instance under the change that a text asks for, among hard negatives",
    licence=LICENCE,
    citation="Psomas et al., Instance-Level Composed Image Retrieval, NeurIPS 2025",
    load=icir_protocol,
    protocols=(ProtocolEntry(f"icir/{VARIANT}", TITLE, "val", EXPECTED[QUERIES], None),),
    needs=", ".join(FILES),
    files=DatasetFiles(
        (_RELEASE,),
        (
            ImageSet(
                "i-CIR 1.0.0",
                ICIR,
                None,
                f"{LICENCE}; the pictures are their owners'",
                "icir",
                by_hand="They come with the lists. From Hugging Face (hf download billpsomas/icir "
                "--repo-type dataset), unpack the shards, and put annotations/*.csv beside query/ and database/.",
            ),
        ),
    ),
    columns=(MACRO, "mAP_trapezoidal"),
)
