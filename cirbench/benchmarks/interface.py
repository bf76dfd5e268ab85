"""What a benchmark is to the harness: one object with everything about it, light enough to be listed.

That is its protocols, and what it is made of: files at pinned addresses, sets of images, licences, and what has to be
asked for. Annotations come from their authors' repositories; their sha256 and size were taken from the files at a
commit. A ``?`` or ``None`` was not known when it was written: it is recorded at the first download, and said.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from typing import TYPE_CHECKING

from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol


@dataclasses.dataclass(frozen=True, slots=True)
class ProtocolEntry:
    """What is known of a protocol before it is loaded.

    Attributes:
        id: ``dataset/variant``.
        title: One line for people.
        split: The split whose queries it uses.
        queries: How many there are; ``None`` where the published file was not available to count in.
        gallery: How many images there are in all galleries together; ``None`` as above.
        labelled: Whether the ground truths are public; a test server keeps them otherwise.
        folder: Where everything is, for your own data; ``None`` for a benchmark.
    """

    id: str
    title: str
    split: str
    queries: int | None
    gallery: int | None
    labelled: bool = True
    folder: str | None = None

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.id.partition("/")[0]

    @property
    def variant(self) -> str:
        """The part of the id that names the protocol within its data set; the loader is called with it."""
        return self.id.partition("/")[2]

    @property
    def address(self) -> str:
        """What `load_protocol` loads it by; a split of your own data by folder and split, ``"my-data@val"``."""
        if self.folder is None:
            return self.id
        return self.folder if self.id.count("/") == 1 else f"{self.folder}@{self.split}"


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
        licence: Where it is not that of the benchmark: others have labelled its queries again.
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


def listed(base: str, folder: str, table: str) -> tuple[RemoteFile, ...]:
    """Read rows of sha256, bytes, path and, parted by commas, the variants that need the file."""
    rows = [line.split() for line in table.split("\n") if line.strip()]
    return tuple(
        RemoteFile(
            f"{base}/{path}",
            f"{folder}/{path}",
            None if size == "?" else int(size),
            None if sha256 == "?" else sha256,
            tuple(variants.split(",")),
        )
        for sha256, size, path, variants in rows
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Everything about a benchmark.

    Attributes:
        name: As users type it after ``--dataset``.
        title: One line for people.
        licence: Of the annotations.
        citation: The paper.
        load: From a protocol's variant and the data root to the protocol, every count checked. What it raises is
            `MissingData` for absent files and `CorruptFile` for other ones than were published.
        protocols: Its protocols; the first one of a split is that split's default.
        needs: What must be present under the data root, or ``None`` where nothing must be.
        files: Annotation files and images, and where they come from.
        columns: Labels of the numbers that papers print, in their order; of a protocol, those that it reports.
        server: The form of files that its test server takes, a name in ``cirbench list servers``; ``None`` without one.
        default_backbone: The backbone of runs that name none.
        default_split: The split of runs that name none.
    """

    name: str
    title: str
    licence: str
    load: Callable[[str, Path], EvaluationProtocol]
    protocols: tuple[ProtocolEntry, ...]
    citation: str = ""
    needs: str | None = None
    files: DatasetFiles = dataclasses.field(default_factory=DatasetFiles)
    columns: tuple[str, ...] = ()
    server: str | None = None
    default_backbone: str = "ViT-L-14/openai"
    default_split: str = "val"

    def __post_init__(self) -> None:
        if not self.protocols:
            raise ValueError(f"the benchmark {self.name} has no protocol")
        if all(each.folder for each in self.protocols):
            return
        for each in self.protocols:
            if not re.fullmatch(rf"{re.escape(self.name)}/[a-z0-9][a-z0-9-]*", each.id):
                raise ValueError(f"the protocol {each.id!r} of the benchmark {self.name} is not {self.name}/VARIANT")
        if self.default_split not in self.splits:
            raise ValueError(f"the default split {self.default_split!r} of {self.name} is none of its protocols'")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, in order, each once."""
        return tuple(dict.fromkeys(protocol.split for protocol in self.protocols))


BENCHMARKS = Plugins("benchmark", "cirbench.benchmarks", Benchmark, "docs/adding-a-plugin.md")
