"""The form of a folder of training data, recognised by what lies in it: image folders, shards, tables, and others."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cirbench.backbones.images import FileImage, is_image
from cirbench.benchmarks.images import files_below
from cirbench.errors import CorruptFile, MissingData, UsageError, some
from cirbench.support.console import typed
from cirbench.support.files import digest, sha256_of_file
from cirbench.support.textfiles import decode_utf8, nfc, read_bytes
from cirbench.training.data.listed import (
    SAVED,
    SAVED_SPLITS,
    Columns,
    open_columns,
    read_list,
    read_parquet,
    read_saved,
)
from cirbench.training.data.shards import open_shards, read_shard_files
from cirbench.training.data.source import Lazy, Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.support.console import Display
    from cirbench.training.data.source import Kind


METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""What describes the images of an image folder of Hugging Face's ``datasets``."""
PARQUET = ".parquet"
TABLES = (".csv", ".tsv", ".jsonl", PARQUET, ".json")
"""Suffixes of what holds images with captions."""
_STATS = re.compile(r"(\d+)_stats\.json")
"""What img2dataset leaves beside each shard, whatever its form."""


@dataclasses.dataclass(frozen=True)
class FolderSample:
    """An image file, and the text file of its caption."""

    image: FileImage
    text: Path | None

    @property
    def caption(self) -> str | None:
        """The words of the text file, in one line.

        Raises:
            MissingData: It cannot be read.
            CorruptFile: It is not UTF-8 text.
        """
        if self.text is None:
            return None
        try:
            return " ".join(decode_utf8(read_bytes(self.text), str(self.text)).split())
        except MissingData as error:
            raise type(error)(f"its caption cannot be read: {error.message}", hint=error.hint) from error


@dataclasses.dataclass(frozen=True)
class Folder(Lazy):
    """The images below a folder, in the order of their paths.

    Attributes:
        folder: The folder.
        images: Paths of images, relative to it.
        captions: The folder of the captions, if there is one.
        texts: Paths of the captions, relative to it; empty for an image without one.
        unused: Files of both folders that are neither an image nor the caption of one.
    """

    folder: Path
    images: tuple[str, ...]
    captions: Path | None = None
    texts: tuple[str, ...] = ()
    unused: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def at(self, place: int) -> FolderSample:
        """Make one sample."""
        text = self.captions / self.texts[place] if self.captions is not None and self.texts[place] else None
        return FolderSample(FileImage(self.folder / self.images[place]), text)

    @property
    def uncaptioned(self) -> NDArray[np.int64]:
        """The positions of images that have no caption, where the others have one."""
        return np.array([place for place, text in enumerate(self.texts) if not text], dtype=np.int64)


def open_folder(
    name: str, folder: Path, kind: Kind | None = None, *, display: Display, say: Callable[[str], None]
) -> Source:
    """Open a folder in whichever form it is.

    | what lies in it                               | what it is                                                  |
    |-----------------------------------------------|-------------------------------------------------------------|
    | ``metadata.jsonl``, ``.csv`` or ``.parquet``  | an image folder: ``file_name`` and a caption in each row    |
    | ``00000_stats.json`` beside ``00000/``        | img2dataset's files                                         |
    | ``00000.tar`` ...                             | webdataset shards, those of img2dataset among them          |
    | ``state.json`` and ``dataset_info.json``      | a data set that Hugging Face's ``datasets`` has saved       |
    | ``.parquet`` and no images                    | tables with images, img2dataset's among them, or with paths |
    | images                                        | images alone, all below the folder                          |

    Raises:
        UsageError: It could be two of these.
        MissingData: It is none of these, or something is missing.
        CorruptFile: A file in it is damaged.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    names = {path.name for path in files}
    if SAVED_SPLITS in names or names.issuperset(SAVED):
        return open_tables(name, [read_saved(folder)], folder, kind, display=display, say=say)
    described = [path for path in files if path.name in METADATA]
    if len(described) > 1:
        raise UsageError(
            f"{folder} holds {' and '.join(path.name for path in described)}, and only one of them can be meant.",
            hint=f"Name it: --data {typed(folder)} --captions {typed(described[0])}",
        )
    if described:
        return open_list(name, described[0], folder, kind, display=display, say=say, whole=True)
    shards = {match[1] for path in files if (match := _STATS.fullmatch(path.name))}
    tars = tuple(path for path in files if path.suffix == ".tar")
    tables = [path for path in files if path.suffix == ".parquet"]
    if shards and not tars and all((folder / shard).is_dir() for shard in shards):
        return _open_files_of_img2dataset(name, folder, shards, say)
    alone = not any(path.is_dir() or is_image(str(path)) for path in files)
    if tars and (shards or alone):
        own = re.compile(rf"({'|'.join(sorted(shards))})(_stats\.json|\.parquet)")
        others = [path for path in files if path not in tars and not own.fullmatch(path.name)]
        say_unused([str(path) for path in others], say)
        return open_shards(name, str(folder), read_shard_files(tars, display=display), say)
    if tables and alone:
        if any(path.suffix == ".tfrecord" for path in files):
            raise UsageError(
                f"{folder} holds TFRecords, which cirbench does not read.",
                hint="Let img2dataset write webdataset, files or parquet: --output_format webdataset",
            )
        return open_tables(name, [read_parquet(path) for path in tables], folder, kind, display=display, say=say)
    images = read_folder(folder, None)
    say_unused(images.unused, say)
    return identified(name, images, listing=digest(images.images))


def open_list(
    name: str,
    path: Path,
    folder: Path,
    kind: Kind | None = None,
    *,
    display: Display,
    say: Callable[[str], None],
    whole: bool = False,
) -> Source:
    """Open a file that lists samples, by the reader of its suffix.

    Args:
        name: As the user asked for it.
        path: The file.
        folder: What paths in it are relative to.
        kind: What a training looks at; ``None`` for all there is.
        display: Shows how far longer work is.
        say: Tells the user what is there and not used.
        whole: Whether it describes every image of the folder, so that others are not used.
    """
    if path.suffix.lower() == PARQUET:
        return open_tables(name, [read_parquet(path)], folder, kind, display=display, say=say)
    samples = read_list(path, folder)
    if samples.unused:
        say(f"{path}: not used: {some(samples.unused)}.")
    if whole and samples.images is not None:
        listed = {nfc(image) for image in samples.images}
        if left := [image for image in read_folder(folder, None).images if nfc(image) not in listed]:
            say(f"{path}: {len(left):,} images of {folder} have no row, and are not used: {some(left)}.")
    return identified(name, samples, listing=sha256_of_file(path))


def open_tables(
    name: str,
    tables: Sequence[Columns],
    folder: Path,
    kind: Kind | None,
    *,
    display: Display,
    say: Callable[[str], None],
) -> Source:
    """Name the samples of tables of Arrow, and say what they hold that is not used."""
    opened = open_columns(tables, folder, kind, display=display, say=say)
    if opened.unused:
        say(f"{tables[0].place}: not used: {some(opened.unused)}.")
    if opened.failed:
        say(f"{folder}: {opened.failed:,} rows have no image, since it could not be downloaded, and are not used.")
    return identified(name, opened.samples, listing=opened.listing)


def _open_files_of_img2dataset(name: str, folder: Path, shards: set[str], say: Callable[[str], None]) -> Source:
    samples = read_folder(folder, folder)
    metadata = re.compile(rf"({'|'.join(sorted(shards))})(_stats\.json|\.parquet|/[^/]*\.json)")
    own = len(str(folder)) + 1
    say_unused([path for path in samples.unused if not metadata.fullmatch(path[own:])], say)
    listing = digest([samples.images, samples.texts])
    return identified(name, samples, listing=listing, lacking={"caption": samples.uncaptioned})


def read_folder(folder: Path, captions: Path | None) -> Folder:
    """List the images below a folder, and find their captions.

    The caption of ``images/a/b.jpg`` is ``captions/a/b.txt``, or else ``captions/b.txt``.

    Raises:
        MissingData: There are no images, or no captions.
        CorruptFile: One flat caption would belong to two images.
    """
    below = sorted(_below(folder))
    images = tuple(name for name in below if is_image(f"{folder}/{name}"))
    others = set(below).difference(images)
    if not images:
        raise MissingData(f"{folder} holds no images.", hint=f"Its files: {some(below)}." if below else None)
    if captions is None:
        return Folder(folder, images, unused=tuple(str(folder / name) for name in sorted(others)))
    known = {nfc(name): name for name in _below(captions)}
    texts = tuple(_text(image, known) for image in images)
    if not any(texts):
        raise MissingData(
            f"{captions} holds no caption of an image in {folder}.",
            hint=f"The caption of {images[0]} is looked for in {Path(images[0]).stem}.txt.",
        )
    shared = [text for text, count in collections.Counter(filter(None, texts)).items() if count > 1]
    if shared:
        two = [image for image, text in zip(images, texts, strict=True) if text == shared[0]][:2]
        raise CorruptFile(
            f"{captions / shared[0]} would be the caption of both {two[0]} and {two[1]}.",
            hint="Give the captions the folders of the images.",
        )
    used = {f"{folder}/{name}" for name in images} | {f"{captions}/{text}" for text in texts if text}
    there = {f"{folder}/{name}" for name in others} | {f"{captions}/{name}" for name in known.values()}
    return Folder(folder, images, captions, texts, tuple(sorted(there - used)))


def _below(folder: Path) -> list[str]:
    above = len(str(folder)) + 1
    return [f"{place}{os.sep}{name}"[above:].replace(os.sep, "/") for place, name in files_below(folder)]


def _text(image: str, known: Mapping[str, str]) -> str:
    nested = nfc(str(Path(image).with_suffix(".txt").as_posix()))
    return known.get(nested) or known.get(nested.rpartition("/")[2], "")


def say_unused(unused: Sequence[str], say: Callable[[str], None]) -> None:
    """Say which files are there and not used."""
    if unused:
        say(f"{len(unused):,} files are neither an image nor its caption, and are not used: {some(unused)}.")
