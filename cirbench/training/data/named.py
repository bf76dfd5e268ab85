"""Training data by name, each found without loading anything; what a benchmark or a corpus brings is one entry here."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks import cirr, fashioniq
from cirbench.benchmarks.annotation_files import data_root, decode, locate, refuse, repeated, wrong_counts
from cirbench.benchmarks.cirr import NLVR2
from cirbench.benchmarks.fashioniq import CATEGORIES, CHECK, LICENCE, PRODUCTS
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import DatasetFiles, RemoteFile
from cirbench.benchmarks.scenes import training_pairs, training_sentences, training_triplets
from cirbench.errors import UnknownName, UsageError, quoted
from cirbench.support.files import digest, sha256_of_file
from cirbench.training.data.corpora import CORPORA
from cirbench.training.data.source import TRIPLETS, Asked, NamedSource, Source, identified
from cirbench.training.data.triplet_tables import Row, triplets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.benchmarks.interface import Collection

TRIPLETS_HELD, IMAGES = "triplets", "images"
CIRR_EXPECTED = {TRIPLETS_HELD: 28_225, IMAGES: 16_939}
FASHIONIQ_EXPECTED = {"dress": 5985, "shirt": 5988, "toptee": 6027}
"""How many triplets the published files hold."""


class _Group(msgspec.Struct):
    id: int
    members: list[str]


class _CirrRow(msgspec.Struct):
    pairid: int
    reference: str
    caption: str
    target_hard: str
    img_set: _Group
    target_soft: dict[str, float] = {}


class _FashionIqRow(msgspec.Struct):
    candidate: str
    target: str
    captions: list[str]


@dataclasses.dataclass(frozen=True)
class CirrTriplets(NamedSource):
    """CIRR's training split, release rc2.

    A triplet's negatives are the other images of its group, but for those that annotators took for right answers too
    (a soft label above zero).
    """

    expected: Mapping[str, int] = dataclasses.field(default_factory=lambda: CIRR_EXPECTED)

    def open(self, asked: Asked) -> Source:
        """Read the annotations, and look for the images."""
        root = data_root(asked.data_root)
        captions, split = (locate(root, f"cirr/{file}") for file in _CIRR_FILES)
        rows, names = decode(captions, list[_CirrRow]), tuple(decode(split, dict[str, str]))
        refuse(split, wrong_counts({IMAGES: len(names)}, self.expected))
        refuse(captions, [*wrong_counts({TRIPLETS_HELD: len(rows)}, self.expected),
                          *repeated("pair ids", (row.pairid for row in rows))])  # fmt: skip
        return _found(
            asked, NLVR2, [_cirr_row(row) for row in rows], (captions, split), root, "cirbench data check cirr"
        )


def _cirr_row(row: _CirrRow) -> Row:
    right = {row.reference, row.target_hard, *(name for name, label in row.target_soft.items() if label > 0)}
    return Row(
        f"pair {row.pairid}",
        row.reference,
        (row.caption,),
        row.target_hard,
        tuple(name for name in row.img_set.members if name not in right),
        group=str(row.img_set.id),
    )


@dataclasses.dataclass(frozen=True)
class FashionIqTriplets(NamedSource):
    """FashionIQ's training split, or some of its garments.

    Attributes:
        categories: Which garments.
    """

    categories: tuple[str, ...] = CATEGORIES
    expected: Mapping[str, int] = dataclasses.field(default_factory=lambda: FASHIONIQ_EXPECTED)

    def open(self, asked: Asked) -> Source:
        """Read the annotations, and look for the images."""
        root = data_root(asked.data_root)
        paths = [locate(root, f"fashioniq/captions/cap.{category}.train.json") for category in self.categories]
        rows: list[Row] = []
        for category, path in zip(self.categories, paths, strict=True):
            found = decode(path, list[_FashionIqRow])
            refuse(path, wrong_counts({TRIPLETS_HELD: len(found)}, {TRIPLETS_HELD: self.expected[category]}))
            rows += [
                Row(f"{category} {number}", row.candidate, tuple(row.captions), row.target, category=category)
                for number, row in enumerate(found)
            ]
        return _found(asked, PRODUCTS, rows, paths, root, CHECK)


def _found(
    asked: Asked, collection: Collection, rows: Sequence[Row], files: Sequence[Path], root: Path, check: str
) -> Source:
    """A source of rows whose images are looked for in a collection.

    Raises:
        MissingData: Not one of the images is there.
    """
    names = tuple(dict.fromkeys(name for row in rows for name in (row.reference, row.target, *row.negatives)))
    images = ImageFiles(collection, names, root, check)
    if not images.found:
        raise images.incomplete()
    there = {name: images[name] for name in images.found}
    return triplets_of(asked.name, rows, there, listing=digest([*map(sha256_of_file, files)]))


_CIRR_FILES = ("captions/cap.rc2.train.json", "image_splits/split.rc2.train.json")


def _beside(known: DatasetFiles, paths: Sequence[str]) -> DatasetFiles:
    """Annotation files that lie beside those of a benchmark, of which no checksum is known."""
    first = known.annotations[0]
    folder = first.path.partition("/")[0]
    base = first.url.removesuffix(first.path.removeprefix(folder))
    return DatasetFiles(tuple(RemoteFile(f"{base}/{path}", f"{folder}/{path}", None, None) for path in paths))


def _garments() -> Iterator[tuple[str, ...]]:
    for count in range(1, len(CATEGORIES)):
        yield from itertools.combinations(CATEGORIES, count)


TRIPLET_SETS: tuple[NamedSource, ...] = (
    CirrTriplets(
        "cirr:train",
        f"CIRR's {CIRR_EXPECTED[TRIPLETS_HELD]:,} training triplets, with their groups",
        kinds=TRIPLETS,
        corpus="cirr-train",
        files=_beside(cirr.BENCHMARK.files, _CIRR_FILES),
        licence="MIT",
    ),
    *(
        FashionIqTriplets(
            ":".join(filter(None, ("fashioniq:train", ",".join(some)))),
            f"FashionIQ's {sum(FASHIONIQ_EXPECTED[name] for name in some or CATEGORIES):,} training triplets"
            + (f" of {' and '.join(some)}" if some else ""),
            kinds=TRIPLETS,
            corpus="fashioniq-train",
            files=_beside(
                fashioniq.BENCHMARK.files, [f"captions/cap.{name}.train.json" for name in some or CATEGORIES]
            ),
            licence=LICENCE,
            categories=some or CATEGORIES,
        )
        for some in ((), *_garments())
    ),
)


SCENES_PAIRS = 60_000
SCENES_SENTENCES = 300_000
SCENES_TRIPLETS = 10_000


class ScenesPairs(NamedSource):
    """Image-caption pairs that are drawn."""

    def open(self, asked: Asked) -> Source:
        """Draw so many pairs as were asked for."""
        return identified(asked.name, training_pairs(asked.count or SCENES_PAIRS), listing="scenes")


class ScenesSentences(NamedSource):
    """Images that are drawn, with captions and sentences by turns."""

    def open(self, asked: Asked) -> Source:
        """Draw so many pairs as were asked for."""
        return identified(asked.name, training_sentences(asked.count or SCENES_SENTENCES), listing="scenes sentences")


class ScenesTriplets(NamedSource):
    """Triplets that are drawn."""

    def open(self, asked: Asked) -> Source:
        """Draw so many triplets as were asked for."""
        return identified(asked.name, training_triplets(asked.count or SCENES_TRIPLETS), listing="scenes triplets")


_SOURCES: tuple[NamedSource, ...] = (
    ScenesPairs("scenes", f"{SCENES_PAIRS:,} image-caption pairs that are drawn, or N of them", counted=True),
    ScenesSentences(
        "scenes:sentences",
        f"{SCENES_SENTENCES:,} pairs that are drawn, or N of them, every other text a sentence",
        counted=True,
    ),
    ScenesTriplets(
        "scenes:triplets",
        f"{SCENES_TRIPLETS:,} triplets that are drawn, or N of them",
        kinds=("triplets", "triplet-features"),
        counted=True,
    ),
    *TRIPLET_SETS,
    *CORPORA,
)


def named_sources() -> Mapping[str, NamedSource]:
    """Return every named source by its name."""
    return {source.name: source for source in _SOURCES}


def find_named(data: str) -> tuple[NamedSource, int | None] | None:
    """Return the source that ``NAME`` or ``NAME:N`` stands for, and N; ``None`` where the name is of no source.

    Raises:
        UsageError: What follows a name is not what may follow it.
    """
    sources = named_sources()
    if data in sources:
        return sources[data], None
    name, _, count = data.rpartition(":")
    if name in sources and sources[name].counted and count.isdecimal() and int(count):
        return sources[name], int(count)
    family = data.partition(":")[0]
    alike = [f"{each.name}:1000" if each.counted else each.name for each in sources.values()]
    if examples := [f"--data {each}" for each in alike if each.partition(":")[0] == family]:
        raise UsageError(f"{quoted(data)} is not training data.", hint=f"For instance: {', or '.join(examples)}")
    return None


def sources_called(name: str, split: str | None = None) -> tuple[NamedSource, ...]:
    """Return the sources that ``cirbench data`` calls ``name``: one of them, or all parts of a corpus.

    Raises:
        UnknownName: The corpus has no such split.
    """
    found = [source for source in named_sources().values() if name in (source.name, source.corpus)]
    splits = [source.name.partition(":")[2] for source in found]
    if found and split is not None and split not in splits:
        raise UnknownName(f"split of {name}", split, splits)
    return tuple(source for source, part in zip(found, splits, strict=True) if split in (None, part))
