"""What a benchmark is made of: files to fetch, sets of images, and what is to be asked for."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cirbench.datasets.catalogue import ProtocolEntry


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that can be fetched.

    Attributes:
        url: Where from.
        path: Where to, relative to the data root.
        size: Bytes, where known.
        sha256: Of its content, where known.
        variants: Patterns of the protocol variants that need it.
    """

    url: str
    path: str
    size: int | None
    sha256: str | None
    variants: tuple[str, ...] = ("*",)


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
class ImageSet:
    """Images that protocols need and where they come from.

    Attributes:
        title: What they are.
        collection: Their key in `cirbench.datasets.imagefiles.FOLDERS`.
        count: How many are needed for all of ``variants`` together, where known beforehand.
        licence: What is known of it.
        archives: Where they can be fetched from; none where they must be asked for.
        by_hand: What to do where they cannot be fetched.
        folder: Where to put them, relative to the data root.
        names: A pattern of their names in the collection.
        variants: Patterns of the protocol variants that need them.
    """

    title: str
    collection: str
    count: int | None
    licence: str
    folder: str
    archives: tuple[Archive, ...] = ()
    by_hand: str | None = None
    names: str = "*"
    variants: tuple[str, ...] = ("*",)


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """Everything that a data set, or a part of it, is made of.

    Attributes:
        dataset: Its name.
        annotations: Files to fetch.
        images: Sets of images.
        by_hand: Annotations that nobody may hand on: what to do.
    """

    dataset: str
    annotations: tuple[RemoteFile, ...] = ()
    images: tuple[ImageSet, ...] = ()
    by_hand: str | None = None

    def needed_by(self, wanted: Iterable[ProtocolEntry]) -> Sources:
        """Return the part that these protocols need."""
        variants = [entry.variant for entry in wanted]

        def needed(part: RemoteFile | ImageSet) -> bool:
            return any(fnmatch.fnmatch(variant, pattern) for variant in variants for pattern in part.variants)

        return dataclasses.replace(
            self, annotations=tuple(filter(needed, self.annotations)), images=tuple(filter(needed, self.images))
        )
