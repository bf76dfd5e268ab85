"""The images of a benchmark, found under any folder layout and suffix in use.

Mirrors of one benchmark differ in folders (flat, NLVR2's ``train/NN``) and in suffixes (``.jpg`` here, ``.png`` there),
never in file names. So images are found by name: one walk over the benchmark's folders, when the first image is asked
for. Nothing is decoded here.
"""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.backbones.images.decode import FileImage, decode, image_suffixes
from cirbench.benchmarks.annotation_files import dataset_folders
from cirbench.errors import MissingData, some
from cirbench.support.files import typed
from cirbench.support.textfiles import nfc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from PIL import Image

    from cirbench.protocol import EvaluationProtocol, ImageSource

COCO_DIGITS = 12

_UNLABELED = ("COCO2017_unlabeled/unlabeled2017", "unlabeled2017")
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "fashioniq": ("fashioniq", "fashion-iq", "fashionIQ"),
    "cirr": ("cirr", "nlvr2", "dev", "test1"),
    "circo": (*(f"{place}/{name}" for place in ("circo", "coco", "coco/images") for name in _UNLABELED), "circo"),
    "coco-val2017": tuple(f"{place}/val2017" for place in ("genecis", "coco", "coco/images")),
    "visual-genome": ("genecis/VG_100K_all", "genecis/VG_100K", "genecis/VG_100K_2", "visual-genome", "vg"),
    "imagenet-r": ("imagenet-r", "imgnet", "imagenet", "imagenet-val"),
}
"""Where the images of each collection are looked for under the data root, with every folder below; first match wins.

CIRR's authors put the images, ``dev`` and ``test1``, beside the annotations.
"""


def image_folders(collection: str, data_root: Path) -> list[Path]:
    """Return the folders that hold a collection, however those of data sets are written; see `dataset_folders`."""
    folders: list[Path] = []
    for entry in FOLDERS[collection]:
        name, _, rest = entry.partition("/")
        homes = dataset_folders(data_root, name)
        # A folder below another one is walked with it.
        folders += [home / rest for home in homes if not any(above in homes for above in home.parents)]
    return list(dict.fromkeys(folders))


def find_images(names: Iterable[str], roots: Sequence[Path]) -> dict[str, Path]:
    """Find the file of each image by its name, by one walk over ``roots``.

    A name is an id (``"dev-244-0-img0"``) or the end of a path without suffix (``"n04086273/toy_3"``), which must match
    to its last folder. A whole number also matches COCO's zero-padded names. Links to folders are followed. Where
    several files match, the choice is the same on every machine: the earlier root, then the earlier of
    `image_suffixes`, then the shallower path, then the first by name.

    Returns:
        The path of each name that was found, in the order of ``names``.
    """
    names = tuple(dict.fromkeys(names))
    order_of = {suffix: place for place, suffix in enumerate(image_suffixes())}
    wanted: dict[str, list[str]] = {}
    for name in names:
        for stem in _stems(nfc(name)):
            wanted.setdefault(stem, []).append(name)
    best: dict[str, tuple[int, int, int, str]] = {}
    for nth, root in enumerate(roots):
        for folder, file in files_below(root):
            stem, dot, suffix = file.rpartition(".")
            place = order_of.get(f"{dot}{suffix.lower()}")
            if place is None or (stem := nfc(stem)) not in wanted:
                continue
            path = f"{folder}{os.sep}{file}"
            order = (nth, place, path.count(os.sep), path)
            for name in wanted[stem]:
                if _lies_in(nfc(folder), nfc(name)) and (name not in best or order < best[name]):
                    best[name] = order
    return {name: Path(best[name][-1]) for name in names if name in best}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """The images of one collection that a protocol needs.

    Attributes:
        collection: A key of `FOLDERS`.
        names: What to look for; see `find_images`.
        data_root: The folder that holds the data sets.
        check: What users type to learn more, for instance ``"cirbench data check cirr"``.
    """

    collection: str
    names: tuple[str, ...]
    data_root: Path
    check: str

    @cached_property
    def found(self) -> Mapping[str, Path]:
        """The file of each name that has one; the folders are walked once."""
        return find_images(self.names, image_folders(self.collection, self.data_root))

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The names without a file, in order."""
        return tuple(name for name in self.names if name not in self.found)

    def path(self, name: str) -> Path:
        """Return the file of one image.

        Raises:
            MissingData: It has none; the message lists every missing name.
        """
        if name not in self.found:
            raise self.incomplete()
        return self.found[name]

    def incomplete(self) -> MissingData:
        """Say which images are missing, where they were looked for, and what to type next."""
        missing = self.missing
        tried = ", ".join(map(str, image_folders(self.collection, self.data_root)))
        return MissingData(
            f"{len(missing)} of {len(self.names)} {self.collection} images are missing: {some(missing)}. "
            f"Looked in {tried}.",
            hint=f"Type `{self.check} --root {typed(self.data_root)}` to see what is there and how to get the rest.",
        )

    def __getitem__(self, name: str) -> LocatedImage:
        return LocatedImage(name, self)


@dataclasses.dataclass(frozen=True, slots=True)
class LocatedImage:
    """An image known by its name, whose file is found when it is needed; an `ImageSource`."""

    name: str
    files: ImageFiles

    @property
    def content(self) -> str:
        """Sha256 of the file's bytes.

        Raises:
            MissingData: The file is missing or cannot be read.
        """
        return FileImage(self.files.path(self.name)).content

    def open(self) -> Image.Image:
        """Decode the file.

        Raises:
            MissingData: The file is missing, or cannot be decoded whole.
        """
        return decode(self.files.path(self.name))

    def __str__(self) -> str:
        return f"{self.files.collection} image {self.name}"


def image_files(protocol: EvaluationProtocol) -> tuple[ImageFiles, ...]:
    """Return the collections of files that the images of a protocol come from, each once; none if it renders them."""
    images: list[ImageSource] = [query.reference.image for query in protocol.queries]
    if protocol.gallery is not None and protocol.gallery.images is not None:
        images += protocol.gallery.images
    found = {id(files): files for image in images if isinstance(files := getattr(image, "files", None), ImageFiles)}
    return tuple(found.values())


def require_images(protocol: EvaluationProtocol, *, allow_missing: bool = False) -> None:
    """Refuse a protocol unless its gallery is known and the file of every image is there.

    Args:
        protocol: The protocol.
        allow_missing: Ask for the gallery's list alone.

    Raises:
        MissingData: The list of gallery images is not available, or some files are not; the message lists them.
    """
    if protocol.gallery is None:
        dataset = protocol.id.partition("/")[0]
        raise MissingData(
            f"The list of the images that {protocol.name} ranks is not available.",
            hint=f"`cirbench show {dataset}` says which files it needs, `cirbench data get {dataset}` fetches them.",
        )
    for files in () if allow_missing else image_files(protocol):
        if files.missing:
            error = files.incomplete()
            offer = "With --allow-missing the run goes on without them, as a partial one."
            raise MissingData(error.message, hint=f"{error.hint}\n{offer}")


def _stems(name: str) -> tuple[str, ...]:
    stem = name.rpartition("/")[2]
    padded = stem.zfill(COCO_DIGITS)
    return (stem, padded) if stem.isascii() and stem.isdecimal() and padded != stem else (stem,)


def _lies_in(folder: str, name: str) -> bool:
    ending, slash, _ = name.rpartition("/")
    return not slash or f"{os.sep}{folder}".endswith(f"{os.sep}{ending.replace('/', os.sep)}")


def files_below(root: Path) -> Iterator[tuple[str, str]]:
    """Yield folder and name of each file in a folder and all below; hidden ones are left out.

    Links to folders are followed, each folder once however many lead to it.

    Raises:
        MissingData: A folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            below = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        below.append(Path(entry.path))
                    else:
                        yield str(folder), entry.name
            waiting += sorted(below, reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise MissingData(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
