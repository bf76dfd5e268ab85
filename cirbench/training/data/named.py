"""Training data by name, each found without loading anything; what a benchmark or a corpus brings is one entry here.

Scenes are drawn; CIRR and FashionIQ bring the triplets of their training splits; COCO with its captions, ImageNet, CC3M
and CC12M are corpora of photographs under the data root.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec

from cirbench.backbones.images import FileImage
from cirbench.benchmarks import cirr, fashioniq
from cirbench.benchmarks.annotation_files import (
    data_root,
    decode,
    find,
    locate,
    possible_places,
    refuse,
    repeated,
    wrong_counts,
)
from cirbench.benchmarks.cirr import NLVR2
from cirbench.benchmarks.coco_composition import COCO, COCO_LICENCE, VAL2017
from cirbench.benchmarks.fashioniq import CATEGORIES, CHECK, LICENCE, PRODUCTS
from cirbench.benchmarks.files.plan import is_filled
from cirbench.benchmarks.images import ImageFiles, find_images, image_folders
from cirbench.benchmarks.interface import Archive, Collection, DatasetFiles, ImageSet, RemoteFile
from cirbench.benchmarks.scenes import training_pairs, training_sentences, training_triplets
from cirbench.errors import MissingData, UnknownName, UsageError, quoted, some
from cirbench.support.console import typed
from cirbench.support.files import digest, sha256_of_file
from cirbench.support.needs import UNKNOWN, Need, size_of
from cirbench.training.data.forms import open_folder, open_list, read_folder
from cirbench.training.data.listed import Listed, ListedSample, read_list
from cirbench.training.data.source import TRIPLETS, Asked, Lazy, NamedSource, Source, identified
from cirbench.training.data.triplet_tables import Row, triplets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cirbench.training.data.source import Kind

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


TRIPLETS_HELD, IMAGES = "triplets", "images"
CIRR_EXPECTED = {TRIPLETS_HELD: 28_225, IMAGES: 16_939}
FASHIONIQ_EXPECTED = {"dress": 5985, "shirt": 5988, "toptee": 6027}
"""How many triplets the published files hold."""

_CIRR_FILES = ("captions/cap.rc2.train.json", "image_splits/split.rc2.train.json")


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
        miscounted = wrong_counts({TRIPLETS_HELD: len(rows)}, self.expected)
        refuse(captions, [*miscounted, *repeated("pair ids", (row.pairid for row in rows))])
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

_PHOTOGRAPHS = {
    "train2017": Collection("coco-train2017", ("coco/train2017", "coco/images/train2017")),
    "val2017": VAL2017,
}
_IMAGES: tuple[Kind, ...] = ("images", "features")


@dataclasses.dataclass(frozen=True)
class Located(Lazy):
    """Samples of a corpus, by column: image files wherever they lie, captions, or both."""

    images: tuple[Path, ...] | None
    captions: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.images if self.images is not None else self.captions or ())

    def at(self, place: int) -> ListedSample:
        """Make one sample."""
        image = None if self.images is None else FileImage(self.images[place])
        return ListedSample(image, None if self.captions is None else self.captions[place])


@dataclasses.dataclass(frozen=True)
class CocoCaptions(NamedSource):
    """The image-caption pairs of a split of COCO 2017, one for each annotation; or its images, or its captions.

    Attributes:
        split: ``train2017`` or ``val2017``.
    """

    split: str = ""

    @property
    def _annotations(self) -> str:
        return f"coco/annotations/captions_{self.split}.json"

    def image_names(self, images: ImageSet, root: Path) -> list[str]:
        """Name the images that have captions, each once."""
        return [PurePath(name).stem for name in dict.fromkeys(self._read(root).images or ())]

    def open(self, asked: Asked) -> Source:
        """Read the annotations, and find the images where the training looks at them."""
        root = data_root(asked.data_root)
        listed = self._read(root)
        assert listed.images is not None
        if listed.unused:
            asked.say(f"{self.name}: not used: {some(listed.unused)}.")
        listing = [sha256_of_file(self._found(root)), asked.kind in _IMAGES]
        if asked.kind == "texts":
            return identified(asked.name, Located(None, listed.captions), listing=digest([*listing, "texts"]))
        names = self.image_names(self.files.images[0], root)
        folders = image_folders(self.files.images[0].collection, root)
        found = find_images(names, folders)
        if absent := [name for name in names if name not in found]:
            raise MissingData(
                f"{len(absent):,} of {len(names):,} images of {self.name} are missing: {some(absent)}. "
                f"Looked in {', '.join(map(str, folders))}.",
                hint=f"cirbench data get {self.name} --data-root {typed(root)}",
            )
        if asked.kind in _IMAGES:
            samples = Located(tuple(found.values()), None)
        else:
            samples = Located(tuple(found[PurePath(name).stem] for name in listed.images), listed.captions)
        return identified(asked.name, samples, listing=digest(listing))

    def _read(self, root: Path) -> Listed:
        return read_list(self._found(root), root)

    def _found(self, root: Path) -> Path:
        found = find(root, self._annotations)
        if found is None:
            tried = ", ".join(map(str, possible_places(root, self._annotations)))
            raise MissingData(
                f"The captions of {self.name} are missing; tried {tried}.",
                hint=f"cirbench data get {self.name} --data-root {typed(root)}",
            )
        return found


def coco_captions(split: str, count: int, pairs: int, size: int, sha256: str) -> CocoCaptions:
    """Declare a split of COCO's captions."""
    annotations = f"annotations/captions_{split}.json"
    return CocoCaptions(
        f"coco:{split}",
        f"COCO {split}: {pairs:,} captions of {count:,} photographs",
        licence="CC BY 4.0",
        split=split,
        corpus="coco-captions",
        files=DatasetFiles(
            (
                Archive(
                    f"{COCO}/annotations/annotations_trainval2017.zip",
                    "coco/annotations_trainval2017.zip",
                    252_907_541,
                    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                    into="coco",
                    yields=f"coco/{annotations}",
                    only=(annotations,),
                    unpacked=100_000_000,
                ),
            ),
            (
                ImageSet(
                    f"COCO 2017 {split.removesuffix('2017')}",
                    _PHOTOGRAPHS[split],
                    count,
                    COCO_LICENCE,
                    f"coco/{split}",
                    (
                        Archive(
                            f"{COCO}/zips/{split}.zip",
                            f"coco/{split}.zip",
                            size,
                            sha256,
                            into="coco",
                            yields=f"coco/{split}",
                        ),
                    ),
                ),
            ),
        ),
    )


@dataclasses.dataclass(frozen=True)
class Downloaded(NamedSource):
    """A corpus of links, as img2dataset fetches it: tar shards, files, or parquet in a folder of the data root.

    Attributes:
        how: How to fetch it into a folder that is written ``{folder}``, line by line.
        note: What to know of its size.
    """

    how: tuple[str, ...] = ()
    note: str = ""

    def needs(self, root: Path | None, kind: Kind | None) -> tuple[Need, ...]:
        """List its folder."""
        folder = self._folder(root or Path("data"))
        how = tuple(line.format(folder=typed(folder)) for line in self.how)
        return (Need("training data", f"{self.name}: {self.title}", is_filled(folder), self.note or UNKNOWN, how),)

    def open(self, asked: Asked) -> Source:
        """Open the folder in whichever layout it is."""
        root = data_root(asked.data_root)
        folder = self._folder(root)
        if not is_filled(folder):
            how = "\n".join(line.format(folder=typed(folder)) for line in self.how)
            raise MissingData(f"{self.name} is not there: {folder} holds nothing.", hint=how)
        return open_folder(asked.name, folder, asked.kind, display=asked.display, say=asked.say)

    def _folder(self, root: Path) -> Path:
        return root / self.name


@dataclasses.dataclass(frozen=True)
class ImageNet(NamedSource):
    """The images of a split of ImageNet (ILSVRC 2012), with captions that somebody or a captioner wrote.

    Captions are a table ``imagenet/captions_SPLIT`` as ``cirbench caption`` writes it, or a folder of texts of that
    name.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        count: How many images it has.
        archive: The file that image-net.org has of it.
        size: Of the archive in bytes, where known.
    """

    split: str = ""
    count: int = 0
    archive: str = ""
    size: int | None = None

    def needs(self, root: Path | None, kind: Kind | None) -> tuple[Need, ...]:
        """List the images where the training looks at them, and the captions where it does."""
        root = root or Path("data")
        images, captions = self._images(root), self._captions(root)
        found = []
        if kind != "texts":
            by_hand = (
                f"Register at https://image-net.org, fetch {self.archive}, and unpack it in any folders below "
                f"{(root / 'imagenet' / self.split).absolute()}."
            )
            size = size_of([self.size])
            which = f"{self.name}: {self.count:,} images"
            found.append(Need("images", which, images is not None, size, (by_hand,)))
        if kind not in _IMAGES:
            which = f"{self.name}: a caption of each image, written by a captioner"
            found.append(Need("captions", which, captions is not None, how=(self._caption(root),)))
        return tuple(found)

    def open(self, asked: Asked) -> Source:
        """List the images, or read the captions, whose paths lead to them."""
        root = data_root(asked.data_root)
        images, captions = self._images(root), self._captions(root)
        if missing := [need for need in self.needs(root, asked.kind) if need.blocks]:
            raise MissingData(
                f"{self.name} is not whole: {' and '.join(need.what for need in missing)} are missing below "
                f"{root / 'imagenet'}.",
                hint="\n".join(line for need in missing for line in need.how),
            )
        if asked.kind in _IMAGES or (captions is None and images is not None):
            assert images is not None
            folder = read_folder(images, None)
            return identified(asked.name, folder, listing=digest(folder.images))
        assert captions is not None
        if captions.is_dir():
            assert images is not None
            pairs = read_folder(images, captions)
            listing = digest([pairs.images, pairs.texts])
            return identified(asked.name, pairs, listing=listing, lacking={"caption": pairs.uncaptioned})
        return open_list(asked.name, captions, captions.parent, asked.kind, display=asked.display, say=asked.say)

    def _images(self, root: Path) -> Path | None:
        places = (f"imagenet/{self.split}", f"imagenet/ILSVRC2012_img_{self.split}")
        return next((root / place for place in places if is_filled(root / place)), None)

    def _captions(self, root: Path) -> Path | None:
        place = root / "imagenet" / f"captions_{self.split}"
        files = (place.with_name(f"{place.name}{suffix}") for suffix in (".jsonl", ".csv", ".tsv", ".parquet"))
        return next((path for path in (*files, place) if path.exists()), None)

    def _caption(self, root: Path) -> str:
        images = self._images(root) or root / "imagenet" / self.split
        output = root / "imagenet" / f"captions_{self.split}.jsonl"
        model = "Salesforce/blip2-flan-t5-xl --precision bf16"
        return f"cirbench caption --images {typed(images)} --model {model} --output {typed(output)}"


CORPORA: tuple[NamedSource, ...] = (
    coco_captions(
        "train2017",
        118_287,
        591_753,
        19_336_861_798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    coco_captions(
        "val2017", 5000, 25_014, 815_585_330, "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"
    ),
    Downloaded(
        "cc3m",
        "Conceptual Captions, 3.3 million links of images with captions",
        how=(
            "Fetch the list of links, Train_GCC-training.tsv, from "
            "https://ai.google.com/research/ConceptualCaptions/download; give it a header, and fetch the images:",
            "sed -i '1s/^/caption\\turl\\n/' Train_GCC-training.tsv",
            "img2dataset --url_list Train_GCC-training.tsv --input_format tsv --url_col url --caption_col caption "
            "--output_format webdataset --output_folder {folder} --image_size 384 --resize_mode keep_ratio "
            "--resize_only_if_bigger True",
        ),
        note="a list of 0.5 GB; size of the images unknown",
    ),
    Downloaded(
        "cc12m",
        "Conceptual 12M, 12 million links of images with captions",
        how=(
            "curl -LO https://storage.googleapis.com/conceptual_12m/cc12m.tsv",
            "sed -i '1s/^/url\\tcaption\\n/' cc12m.tsv",
            "img2dataset --url_list cc12m.tsv --input_format tsv --url_col url --caption_col caption "
            "--output_format webdataset --output_folder {folder} --image_size 384 --resize_mode keep_ratio "
            "--resize_only_if_bigger True",
        ),
        note="a list of 2.6 GB; 331 GB of images at 256 pixels",
    ),
    ImageNet(
        "imagenet:test",
        "the 100,000 test images of ImageNet, with captions that a captioner writes",
        split="test",
        count=100_000,
        archive="ILSVRC2012_img_test_v10102019.tar",
    ),
    ImageNet(
        "imagenet:train",
        "the training images of ImageNet, with captions that a captioner writes",
        split="train",
        count=1_281_167,
        archive="ILSVRC2012_img_train.tar",
        size=147_897_477_120,
    ),
    ImageNet(
        "imagenet:val",
        "the validation images of ImageNet, with captions that a captioner writes",
        split="val",
        count=50_000,
        archive="ILSVRC2012_img_val.tar",
        size=6_744_924_160,
    ),
)
"""Every corpus by name."""

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
        kinds=TRIPLETS,
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
