"""The images of a benchmark: found under any folder layout and suffix in use.

Mirrors of one benchmark differ in folders (flat, NLVR2's ``train/NN``) and in suffixes (``.jpg`` here, ``.png`` there),
never in file names. So images are found by name: one walk over the benchmark's folders, when the first image is asked
for. Nothing is decoded, but where images may be missing: then `find_lost` says what is lost with those that are absent
or cannot be decoded.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.backbones.images import FileImage, decode, image_suffixes
from cirbench.benchmarks.annotation_files import dataset_folders
from cirbench.errors import MissingData, some
from cirbench.protocol import EvaluationProtocol, Gallery
from cirbench.support.console import typed
from cirbench.support.textfiles import nfc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from PIL import Image

    from cirbench.benchmarks.interface import Collection
    from cirbench.protocol import ImageSource, Item

COCO_DIGITS = 12


def image_folders(collection: Collection, data_root: Path) -> list[Path]:
    """Return the folders that hold a collection, however those of data sets are written; see `dataset_folders`."""
    folders: list[Path] = []
    for entry in collection.folders:
        name, _, rest = entry.partition("/")
        homes = dataset_folders(data_root, name)
        # A folder below another one is walked with it.
        folders += [home / rest for home in homes if not any(above in homes for above in home.parents)]
    return list(dict.fromkeys(folders))


def find_images(names: Iterable[str], roots: Sequence[Path]) -> dict[str, Path]:
    """Find the file of each image by its name, by one walk over ``roots``.

    A name is an id (``"dev-244-0-img0"``) or the end of a path without suffix (``"n04086273/toy_3"``), which must match
    to its last folder. A whole number also matches COCO's zero-padded names, and a blank in a path an underscore or
    nothing, as scripts rename it, if only one name fits so. Links to folders are followed. Where several files match,
    the choice is the same on every machine: the exact name, the earlier root, then the earlier of `image_suffixes`,
    then the shallower path, then the first by name.

    Returns:
        The path of each name that was found, in the order of ``names``.
    """
    names = tuple(dict.fromkeys(names))
    order_of = {suffix: place for place, suffix in enumerate(image_suffixes())}
    wanted: dict[str, list[str]] = {}
    for name in names:
        for stem in _stems(nfc(name)):
            wanted.setdefault(stem, []).append(name)
    joined = _Joined(names)
    best: dict[str, tuple[bool, int, int, int, str]] = {}
    for nth, root in enumerate(roots):
        for folder, file in files_below(root):
            stem, dot, suffix = file.rpartition(".")
            place = order_of.get(f"{dot}{suffix.lower()}")
            if place is None:
                continue
            path = f"{folder}{os.sep}{file}"
            fitting = [name for name in wanted.get(nfc(stem), ()) if _lies_in(nfc(folder), nfc(name))]
            if renamed := not fitting and " " in path:
                fitting = joined.fitting(folder, stem)
            for name in fitting:
                order = (renamed, nth, place, path.count(os.sep), path)
                if name not in best or order < best[name]:
                    best[name] = order
    return {name: Path(best[name][-1]) for name in names if name in best}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """The images of one collection that a protocol needs.

    Attributes:
        collection: Where they are looked for.
        names: What to look for; see `find_images`.
        data_root: The folder that holds the data sets.
        check: What users type to learn more, for instance ``"cirbench data check cirr"``.
    """

    collection: Collection
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


def require_files(images: Iterable[ImageSource]) -> None:
    """Refuse to begin unless the file of each of these images is there; what is rendered needs none.

    Raises:
        MissingData: Some are not; the message lists those of one collection.
    """
    names: dict[int, dict[str, None]] = {}
    collections: dict[int, ImageFiles] = {}
    for image in images:
        if isinstance(files := getattr(image, "files", None), ImageFiles):
            collections[id(files)] = files
            names.setdefault(id(files), {})[getattr(image, "name", "")] = None
    for key, files in collections.items():
        part = dataclasses.replace(files, names=tuple(names[key]))
        if part.missing:
            raise part.incomplete()


class _Joined:
    """Names without blanks and underscores, for paths with blanks; the table is made when the first one is met."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def fitting(self, folder: str, stem: str) -> list[str]:
        """Return the one name that a path fits, or none."""
        below = _join(folder)
        names = [name for name in self._of_stem.get(_join(stem), ()) if _lies_in(below, _join(name))]
        return names if len(names) == 1 else []

    @cached_property
    def _of_stem(self) -> dict[str, list[str]]:
        of_stem: dict[str, list[str]] = {}
        for name in self._names:
            of_stem.setdefault(_join(name).rpartition("/")[2], []).append(name)
        return of_stem


def _join(path: str) -> str:
    return nfc(path).replace(" ", "").replace("_", "")


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


SMALL_POOL = 100
"""Where a query ranks so few candidates of its own, losing one of them moves its chance."""


@dataclasses.dataclass(frozen=True)
class Lost:
    """Images that cannot be used, and what goes with them.

    A query is lost where its reference, one of its ground truths, a member of its group or one of at most `SMALL_POOL`
    candidates of its own is.

    Attributes:
        protocol: The whole.
        images: Ids of the items whose image is absent or cannot be decoded.
    """

    protocol: EvaluationProtocol
    images: frozenset[str]

    @cached_property
    def queries(self) -> tuple[int, ...]:
        """The positions of the lost queries."""
        lost_pools = {
            nth
            for nth, pool in enumerate(self.protocol.pools or ())
            if len(pool) <= SMALL_POOL and not self.images.isdisjoint(pool)
        }
        return tuple(
            place
            for place, query in enumerate(self.protocol.queries)
            if query.reference.id in self.images
            or (self.protocol.labels is not None and not self.images.isdisjoint(self.protocol.labels.relevant[place]))
            or (self.protocol.groups is not None and not self.images.isdisjoint(self.protocol.groups[place]))
            or (self.protocol.pool_of_query is not None and self.protocol.pool_of_query[place] in lost_pools)
        )

    @cached_property
    def kept_queries(self) -> tuple[int, ...]:
        """The positions of the other queries."""
        return tuple(sorted(set(range(len(self.protocol.queries))).difference(self.queries)))

    @cached_property
    def kept_items(self) -> tuple[int, ...]:
        """The gallery positions of the images that can be used."""
        ids = () if self.protocol.gallery is None else self.protocol.gallery.ids
        return tuple(place for place, name in enumerate(ids) if name not in self.images)

    @cached_property
    def available(self) -> EvaluationProtocol:
        """The protocol without lost images and lost queries.

        Raises:
            MissingData: Nothing is left.
        """
        if not self.images:
            return self.protocol
        if not self.kept_queries:
            raise MissingData(
                f"Without its {len(self.images)} missing images, {self.protocol.name} has no query left.",
                hint="Get at least the images of some queries.",
            )
        gallery, pools = self.protocol.gallery, self.protocol.pools
        assert gallery is not None
        assert gallery.images is not None
        return dataclasses.replace(
            self.protocol.only(self.kept_queries),
            gallery=Gallery(
                tuple(gallery.ids[place] for place in self.kept_items),
                [gallery.images[place] for place in self.kept_items],
            ),
            pools=pools and tuple(tuple(name for name in pool if name not in self.images) for pool in pools),
        )


def find_lost(
    protocol: EvaluationProtocol, display: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
) -> Lost:
    """Decode every image of a protocol, to see which cannot be used.

    Args:
        protocol: With its gallery's images.
        display: Shows the progress.

    Raises:
        MissingData: The gallery is not available.
    """
    gallery = [] if protocol.gallery is None else protocol.gallery.items
    items = {item.id: item for item in [*gallery, *(query.reference for query in protocol.queries)]}
    lost = set()
    # Threads do: Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool, display("Looking for images", len(items)) as advance:
        for name, usable in zip(items, pool.map(_usable, items.values()), strict=True):
            if not usable:
                lost.add(name)
            advance(1)
    return Lost(protocol, frozenset(lost))


def _usable(item: Item) -> bool:
    try:
        item.image.open()
    except MissingData:
        return False
    return True
