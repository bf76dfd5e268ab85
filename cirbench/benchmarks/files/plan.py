"""What a user means by a name, and what getting it takes: files, bytes, images, licences."""

from __future__ import annotations

import contextlib
import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks.annotation_files import place_of
from cirbench.benchmarks.catalogue import datasets, find_dataset, is_folder, load_protocol, protocols
from cirbench.benchmarks.images import find_images, image_files, image_folders
from cirbench.benchmarks.interface import Archive
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.support.console import typed
from cirbench.support.needs import UNKNOWN, Need, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cirbench.benchmarks.interface import DatasetFiles, ImageSet, ProtocolEntry, RemoteFile
    from cirbench.protocol import EvaluationProtocol


def choose(name: str, split: str | None = None) -> tuple[ProtocolEntry, ...]:
    """Return the protocols that a user means by ``name`` and ``--split``.

    Args:
        name: A data set, a protocol, or a folder with the user's own data.
        split: Only the protocols of this split.

    Raises:
        UnknownName: There is no such data set, protocol or split; the hint names the nearest ones.
        MissingData: The folder holds no table of queries.
    """
    if name not in datasets() and name not in protocols() and not is_folder(name):
        raise UnknownName("data set or protocol", name, [*datasets(), *protocols()])
    chosen = (protocols()[name],) if name in protocols() else find_dataset(name).protocols
    splits = tuple(dict.fromkeys(protocol.split for protocol in chosen))
    if split is not None and split not in splits:
        raise UnknownName(f"split of {name}", split, splits)
    return tuple(protocol for protocol in chosen if split in (None, protocol.split))


def typed_name(name: str) -> str:
    """Write the name of a data set or protocol, or the folder of the user's own, as an argument of a command."""
    return typed(Path(name) if is_folder(name) else name)


def dataset_files(name: str, split: str | None = None) -> DatasetFiles:
    """Return what the data set or protocol ``name`` is made of.

    Raises:
        UnknownName: There is no such data set, protocol or split.
    """
    chosen = choose(name, split)
    return find_dataset(name if chosen[0].folder else chosen[0].dataset).files.needed_by(chosen)


class PlannedFile(msgspec.Struct, frozen=True):
    """A file that can be fetched.

    Attributes:
        path: Relative to the data root.
        url: Where from.
        bytes: Its size, where known.
        sha256: Of its content, where known beforehand.
        there: Whether it is in the data root already; ``None`` where no data root was given.
        licence: Where it is not that of the benchmark.
    """

    path: str
    url: str
    bytes: int | None
    sha256: str | None
    there: bool | None
    licence: str | None = None


class PlannedImages(msgspec.Struct, frozen=True):
    """A set of images.

    Attributes:
        title: What they are.
        count: How many the protocols need, where known.
        found: How many of them are in the data root; ``None`` where that is not known yet.
        licence: What is known of it.
        folder: Where to put them, relative to the data root.
        archives: Where they are fetched from.
        by_hand: What to do where they cannot be fetched.
    """

    title: str
    count: int | None
    found: int | None
    licence: str
    folder: str
    archives: list[PlannedFile]
    by_hand: str | None


class Plan(msgspec.Struct, frozen=True):
    """What getting a benchmark takes.

    Attributes:
        name: The data set or protocol that was asked for.
        protocols: The protocols that it is for.
        licence: Of the annotations.
        annotations: Files to fetch.
        images: Sets of images.
        by_hand: Annotations that must be got by hand.
    """

    name: str
    protocols: list[str]
    licence: str
    annotations: list[PlannedFile]
    images: list[PlannedImages]
    by_hand: str | None

    @property
    def left(self) -> list[PlannedFile]:
        """The files that are to be fetched."""
        lacking = [images for images in self.images if images.found is None or images.found != images.count]
        archives = [file for images in lacking for file in images.archives]
        return [*(file for file in self.annotations if not file.there), *archives]


def plan(name: str, split: str | None = None, root: Path | None = None) -> Plan:
    """Say what getting a data set or protocol takes.

    Args:
        name: A data set or a protocol.
        split: Only what this split needs.
        root: The data root; with it, the plan says what is there already, and counts images from the annotations.

    Raises:
        UnknownName: There is no such data set, protocol or split.
    """
    chosen = choose(name, split)
    parts = dataset_files(name, split)
    licence = find_dataset(name if chosen[0].folder else chosen[0].dataset).licence
    ids = [entry.id for entry in chosen]
    return plan_files(name, ids, licence, parts, root, lambda images, at: needed_images(images, chosen, at))


def plan_files(
    name: str,
    ids: list[str],
    licence: str,
    parts: DatasetFiles,
    root: Path | None,
    names_of: Callable[[ImageSet, Path], list[str]],
) -> Plan:
    """Say what getting files takes, those of a benchmark or those of training data.

    Args:
        name: What was asked for.
        ids: The protocols, or what else the files are for.
        licence: Of the annotations.
        parts: The files.
        root: The data root; with it, the plan says what is there already.
        names_of: Names the images of a set, from annotations that are there in a data root.
    """
    annotations = [_file(file, root) for file in parts.annotations]
    countable = root if all(file.there for file in annotations) else None
    images = [_images(each, names_of, root, countable) for each in parts.images]
    return Plan(name, ids, licence, annotations, images, parts.by_hand)


def needs_of(made: Plan, root: Path | None, *, images: bool = True) -> list[Need]:
    """List what a plan's files are as needs: the annotations together, and each set of images.

    Args:
        made: The plan.
        root: The data root that it was made for; commands name the folder ``data`` where there is none.
        images: Whether images are needed.
    """
    get = f"cirbench data get {typed_name(made.name)} --data-root {typed(root or Path('data'))}"
    found = []
    if made.annotations:
        left = [file for file in made.annotations if not file.there]
        which = f"{made.name}: {len(made.annotations)} file{'s' if len(made.annotations) > 1 else ''}"
        if 0 < len(left) < len(made.annotations):
            which = f"{made.name}: {len(left)} of {len(made.annotations)} files"
        how = (f"{get} --annotations-only",)
        found.append(Need("annotations", which, not left, size_of(file.bytes for file in left), how))
    for each in made.images if images else ():
        found.append(_need_of_images(each, get, root))
    return found


def _need_of_images(images: PlannedImages, get: str, root: Path | None) -> Need:
    there = images.found is not None and images.found == images.count
    left = images.count if images.found is None or images.count is None else images.count - images.found
    which = f"{images.title}: {'images that the annotations name' if left is None else f'{left:,} images'}"
    if images.found and left:
        which = f"{images.title}: {left:,} of {images.count:,} images"
    if images.found is None and root is not None and is_filled(place_of(root, images.folder)):
        return Need("images", f"{images.title}: not counted before the annotations that name them are there", True)
    if images.archives:
        return Need("images", which, there, size_of(file.bytes for file in images.archives), (get,))
    place = (root or Path("data")).absolute() / images.folder
    return Need("images", f"{which}, by hand into {place}", there, UNKNOWN, (images.by_hand or "",))


def is_filled(folder: Path) -> bool:
    """Say whether a folder is there and holds anything that is not hidden."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def load(name: str, split: str | None, root: Path) -> tuple[list[EvaluationProtocol], dict[str, str]]:
    """Load every protocol of ``name`` whose annotations are there; return the others with what they lack.

    Raises:
        UnknownName: There is no such data set, protocol or split.
        MissingData: None can be loaded.
        CorruptFile: An annotation file is not what was published.
    """
    loaded: list[EvaluationProtocol] = []
    lacking: dict[str, str] = {}
    for entry in choose(name, split):
        try:
            loaded.append(load_protocol(entry.address, root))
        except CorruptFile:
            raise
        except MissingData as error:
            lacking[entry.id] = error.message
    if not loaded:
        raise MissingData(
            "; ".join(f"{id}: {why}" for id, why in lacking.items()),
            hint=f"Type `cirbench data get {typed_name(name)} --data-root {typed(root)} --annotations-only`.",
        )
    return loaded, lacking


def needed_images(images: ImageSet, chosen: Iterable[ProtocolEntry], root: Path) -> list[str]:
    """Return the names of a set's images that the protocols need, as far as their annotations are there."""
    return list(dict.fromkeys(name for entry in chosen for name in _names(images, entry, root)))


def missing_images(images: ImageSet, names: Iterable[str], root: Path) -> list[str]:
    """Return which of a set's images are nowhere to be found where runs look."""
    names = list(names)
    found = find_images(names, image_folders(images.collection, root))
    return [name for name in names if name not in found]


def _names(images: ImageSet, entry: ProtocolEntry, root: Path) -> Iterator[str]:
    with contextlib.suppress(MissingData):
        for files in image_files(load_protocol(entry.address, root)):
            if files.collection == images.collection:
                yield from fnmatch.filter(files.names, images.names)


def _file(file: RemoteFile, root: Path | None) -> PlannedFile:
    path = file.yields if isinstance(file, Archive) else file.path
    there = None if root is None else place_of(root, path).exists()
    return PlannedFile(file.path, file.url, file.size, file.sha256, there, file.licence)


def _images(
    images: ImageSet, names_of: Callable[[ImageSet, Path], list[str]], root: Path | None, countable: Path | None
) -> PlannedImages:
    """Plan a set of images; ``countable`` is the data root where the annotations are whole, so that names are known."""
    count, found = images.count, None
    if countable is not None and (names := names_of(images, countable)):
        count = len(names)
        found = count - len(missing_images(images, names, countable))
    return PlannedImages(
        images.title,
        count,
        found,
        images.licence,
        images.folder,
        [_file(file, root) for file in images.archives],
        images.by_hand,
    )
