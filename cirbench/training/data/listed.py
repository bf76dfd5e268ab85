"""Samples from files that list them, and from folders with a caption file beside each image."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.backbones.images import FileImage, is_image
from cirbench.benchmarks.images import files_below
from cirbench.errors import CorruptFile, MissingData, excerpt, quoted, some
from cirbench.support.files import spelled
from cirbench.support.textfiles import (
    csv_rows,
    decode_utf8,
    json_rows,
    nfc,
    numbered_lines,
    read_bytes,
    read_text,
    refused,
)
from cirbench.training.data.source import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray


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


@dataclasses.dataclass(frozen=True)
class ListedSample:
    """An image file, a caption, or both."""

    image: FileImage | None
    caption: str | None


@dataclasses.dataclass(frozen=True)
class Listed(Lazy):
    """The samples of a list, by column.

    Attributes:
        folder: What the image paths are relative to.
        images: Paths of images; ``None`` where there are texts alone.
        captions: The captions; ``None`` where there are images alone.
        unused: What the list holds beside them.
    """

    folder: Path
    images: tuple[str, ...] | None
    captions: tuple[str, ...] | None
    unused: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.images if self.images is not None else self.captions or ())

    def at(self, place: int) -> ListedSample:
        """Make one sample."""
        image = None if self.images is None else FileImage(spelled(self.folder, self.images[place]))
        return ListedSample(image, None if self.captions is None else self.captions[place])


def read_list(path: Path, folder: Path) -> Listed:
    """Read a file that lists samples, by the reader of its suffix.

    Raises:
        MissingData: There is no such file.
        CorruptFile: It breaks a rule of its format; the message has the line.
    """
    images, captions, unused = LISTS[path.suffix.lower()](str(path), read_text(path))
    return Listed(folder, images, captions, unused)


_Columns = tuple[tuple[str, ...] | None, tuple[str, ...] | None, tuple[str, ...]]
"""Paths of images, captions, and what the list holds beside them."""

_IMAGE = ("image",)
_CAPTION = ("caption", "text")
_ALSO_IMAGE = ("file_name", "filepath", "image_path")
_ALSO_CAPTION = ("title",)
"""What they are called by imagefolder and by open_clip; read where nothing has the plain name."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The columns of a table that hold images and captions; ``None`` where there is no such column."""

    image: str | None
    caption: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Both that there are."""
        return tuple(name for name in (self.image, self.caption) if name is not None)


def choose_columns(place: str, names: Collection[str]) -> Chosen:
    """Choose the columns that hold images and captions.

    Args:
        place: Where they are named, for messages.
        names: All of them.

    Raises:
        CorruptFile: There are neither, or two that could be meant.
    """
    chosen = Chosen(_one_of(place, names, _IMAGE, _ALSO_IMAGE), _one_of(place, names, _CAPTION, _ALSO_CAPTION))
    if not chosen.names:
        raise refused(
            place,
            f"there is no column image, caption or text in {excerpt(', '.join(names))}",
            f"An image is also read from {', '.join(_ALSO_IMAGE)}, and a caption from {', '.join(_ALSO_CAPTION)}.",
        )
    return chosen


def _one_of(place: str, names: Collection[str], plain: Sequence[str], others: Sequence[str]) -> str | None:
    found = [name for name in plain if name in names] or [name for name in others if name in names]
    if len(found) > 1:
        raise refused(
            place, f"it has both {found[0]} and {found[1]}, and only one of them can be used", "Rename one of them."
        )
    return found[0] if found else None


def _csv(source: str, text: str, separator: str = ",") -> _Columns:
    header: list[str] = []
    chosen: list[Chosen] = []

    def check_header(place: str, names: Sequence[str]) -> None:
        header.extend(names)
        chosen.append(choose_columns(place, names))

    rows = csv_rows(source, text, check_header, separator)
    first = list(itertools.islice(rows, 1))  # with it the header has been read
    if not header:
        raise CorruptFile(f"{source} is empty.", hint="Its first line names columns: image, caption or both.")
    unused = [f"the column {excerpt(name) or quoted(name)}" for name in header if name not in chosen[0].names]
    return _columns(source, chosen[0], itertools.chain(first, rows), unused)


def _tsv(source: str, text: str) -> _Columns:
    return _csv(source, text, "\t")


class _Row(msgspec.Struct):
    image: str | None = None
    caption: str | None = None
    text: str | None = None
    file_name: object = None
    filepath: object = None
    image_path: object = None
    title: object = None


def _jsonl(source: str, text: str) -> _Columns:
    rows = [(number, msgspec.structs.asdict(row)) for number, row in json_rows(source, text, _Row)]
    if not rows:
        return (), None, ()
    first = f"{source}, line {rows[0][0]}"
    keys = msgspec.json.decode(next(numbered_lines(text))[1], type=dict[str, msgspec.Raw])
    held = [name for name, value in rows[0][1].items() if value is not None]
    if not held:
        raise refused(first, "it has no image, caption or text")
    chosen = choose_columns(first, held)
    for number, row in rows:
        for name in (*_IMAGE, *_CAPTION):
            if name not in chosen.names and name not in held and row[name] is not None:
                raise refused(f"{source}, line {number}", f"it has {name}, and line {rows[0][0]} has none")
    unused = [f"the field {excerpt(name) or quoted(name)}" for name in keys if name not in chosen.names]
    return _columns(source, chosen, rows, unused)


def _columns(
    source: str, chosen: Chosen, rows: Iterable[tuple[int, Mapping[str, object]]], unused: Sequence[str]
) -> _Columns:
    found: dict[str, list[str]] = {name: [] for name in chosen.names}
    for number, row in rows:
        for name in chosen.names:
            found[name].append(cell(f"{source}, line {number}", name, row[name], is_path=name == chosen.image))
    images = None if chosen.image is None else tuple(found[chosen.image])
    return images, None if chosen.caption is None else tuple(found[chosen.caption]), tuple(unused)


def cell(place: str, name: str, value: object, *, is_path: bool) -> str:
    """Return the text of a cell, checked.

    Raises:
        CorruptFile: It is empty, or no text, or can be no path.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise refused(place, f"the {name} is missing")
    if not isinstance(value, str):
        raise refused(place, f"the {name} {quoted(value)} is not a text")
    if is_path:
        _check_path(place, value)
    return value


def _check_path(place: str, written: str) -> None:
    """Refuse what can be no path: a quote that is closed some rows later makes one of several rows."""
    if "\n" in written or "\0" in written:
        raise refused(
            place,
            f"the image {quoted(written)} is not a path",
            "A double quote may open there that is closed too late.",
        )


class _Image(msgspec.Struct):
    id: int
    file_name: str


class _Annotation(msgspec.Struct):
    image_id: int
    caption: str


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


def _coco(source: str, text: str) -> _Columns:
    try:
        content = msgspec.json.decode(text, type=_Coco)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptFile(f"{source} is not a captions file of COCO: {excerpt(error)}.") from error
    names: dict[int, str] = {}
    for image in content.images:
        if names.setdefault(image.id, image.file_name) != image.file_name:
            raise CorruptFile(f"{source} has two images with the id {image.id}.")
        _check_path(source, image.file_name)
    for annotation in content.annotations:
        if annotation.image_id not in names:
            raise CorruptFile(f"{source} has a caption for image {annotation.image_id}, and no such image.")
    without = len(names.keys() - {annotation.image_id for annotation in content.annotations})
    images = tuple(names[annotation.image_id] for annotation in content.annotations)
    unused = (f"{without} of {len(names)} images, which have no caption",) if without else ()
    return images, tuple(annotation.caption for annotation in content.annotations), unused


def _names(source: str, text: str) -> _Columns:
    images = []
    for number, line in numbered_lines(text):
        _check_path(f"{source}, line {number}", line)
        images.append(line.strip())
    return tuple(images), None, ()


def _texts(source: str, text: str) -> _Columns:
    return None, tuple(line.strip() for _, line in numbered_lines(text)), ()


LISTS: Mapping[str, Callable[[str, str], _Columns]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".json": _coco,
    ".lst": _names,
    ".txt": _texts,
}
"""The reader of each suffix."""
