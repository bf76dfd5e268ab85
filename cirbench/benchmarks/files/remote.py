"""What a benchmark is made of: files at pinned addresses, sets of images, licences, and what has to be asked for.

Annotations come from their authors' repositories; their sha256 and size were taken from the files at a commit. A ``?``
or ``None`` was not known when it was written: it is recorded at the first download, and said.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cirbench.benchmarks.interface import ProtocolEntry

GITHUB = "https://raw.githubusercontent.com"


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that can be fetched.

    Attributes:
        url: Where from.
        path: Where to, relative to the data root.
        size: Bytes, where known.
        sha256: Of its content, where known.
        variants: Patterns of the protocol variants that need it.
        licence: Where it is not that of the benchmark: others have labelled its queries anew.
    """

    url: str
    path: str
    size: int | None
    sha256: str | None
    variants: tuple[str, ...] = ("*",)
    licence: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Archive(RemoteFile):
    """An archive that is unpacked and then deleted.

    Attributes:
        into: The folder that it is unpacked in, relative to the data root.
        yields: A file or folder that is there afterwards, relative to the data root.
        only: The members that are wanted; all, if empty.
        unpacked: Bytes on the disk afterwards, where known; as many as the archive has, otherwise.
    """

    into: str = ""
    yields: str = ""
    only: tuple[str, ...] = ()
    unpacked: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Collection:
    """Images that are looked for in the same places.

    Attributes:
        name: For messages.
        folders: Where they are looked for under the data root, with every folder below; the first match wins.
    """

    name: str
    folders: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that protocols need and where they come from.

    Attributes:
        title: What they are.
        collection: Where they are looked for.
        count: How many are needed for all of ``variants`` together, where known beforehand.
        licence: What is known of it.
        archives: Where they can be fetched from; none where they must be asked for.
        by_hand: What to do where they cannot be fetched.
        folder: Where to put them, relative to the data root.
        names: A pattern of their names in the collection.
        variants: Patterns of the protocol variants that need them.
    """

    title: str
    collection: Collection
    count: int | None
    licence: str
    folder: str
    archives: tuple[Archive, ...] = ()
    by_hand: str | None = None
    names: str = "*"
    variants: tuple[str, ...] = ("*",)


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetFiles:
    """Everything that a data set, or a part of it, is made of.

    Attributes:
        annotations: Files to fetch.
        images: Sets of images.
        by_hand: Annotations that nobody may hand on: what to do.
    """

    annotations: tuple[RemoteFile, ...] = ()
    images: tuple[ImageSet, ...] = ()
    by_hand: str | None = None

    def needed_by(self, wanted: Iterable[ProtocolEntry]) -> DatasetFiles:
        """Return the part that these protocols need."""
        variants = [entry.variant for entry in wanted]

        def needed(part: RemoteFile | ImageSet) -> bool:
            return any(fnmatch.fnmatch(variant, pattern) for variant in variants for pattern in part.variants)

        return dataclasses.replace(
            self, annotations=tuple(filter(needed, self.annotations)), images=tuple(filter(needed, self.images))
        )


def listed(base: str, folder: str, table: str, licence: str | None = None) -> tuple[RemoteFile, ...]:
    """Read rows of sha256, bytes, path and, parted by commas, the variants that need the file."""
    rows = [line.split() for line in table.split("\n") if line.strip()]
    return tuple(
        RemoteFile(
            f"{base}/{path}",
            f"{folder}/{path}",
            None if size == "?" else int(size),
            None if sha256 == "?" else sha256,
            tuple(variants.split(",")),
            licence,
        )
        for sha256, size, path, variants in rows
    )
