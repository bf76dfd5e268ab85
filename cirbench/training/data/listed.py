"""Samples from files that list them, and from folders with a caption file beside each image."""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.backbones.images.decode import FileImage
from cirbench.benchmarks.images import IMAGE_SUFFIXES, files_below
from cirbench.errors import CorruptFile, MissingData
from cirbench.training.data.source import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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
            CorruptFile: It is not text.
        """
        if self.text is None:
            return None
        try:
            return " ".join(self.text.read_text(encoding="utf-8-sig").split())
        except OSError as error:
            raise MissingData(f"its caption {self.text} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise CorruptFile(f"its caption {self.text} is not text: {error}.") from error


@dataclasses.dataclass(frozen=True)
class Folder(Lazy):
    """The images below a folder, in the order of their paths.

    Attributes:
        folder: The folder.
        images: Paths of images, relative to it.
        captions: The folder of the captions, if there is one.
        texts: Paths of the captions, relative to it; empty for an image without one.
    """

    folder: Path
    images: tuple[str, ...]
    captions: Path | None = None
    texts: tuple[str, ...] = ()

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
    images = tuple(sorted(name for name in _below(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES))
    if not images:
        raise MissingData(
            f"{folder} holds no images.", hint=f"Images are files that end in {', '.join(IMAGE_SUFFIXES)}."
        )
    if captions is None:
        return Folder(folder, images)
    known = {name for name in _below(captions) if name.endswith(".txt")}
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
    return Folder(folder, images, captions, texts)


def _below(folder: Path) -> list[str]:
    above = len(str(folder)) + 1
    return [f"{place}{os.sep}{name}"[above:].replace(os.sep, "/") for place, name in files_below(folder)]


def _text(image: str, known: set[str]) -> str:
    nested = str(Path(image).with_suffix(".txt").as_posix())
    flat = nested.rpartition("/")[2]
    return nested if nested in known else flat if flat in known else ""


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
    """

    folder: Path
    images: tuple[str, ...] | None
    captions: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.images if self.images is not None else self.captions or ())

    def at(self, place: int) -> ListedSample:
        """Make one sample."""
        image = None if self.images is None else FileImage(self.folder / self.images[place])
        return ListedSample(image, None if self.captions is None else self.captions[place])


def read_list(path: Path, folder: Path) -> Listed:
    """Read a file that lists samples, by the reader of its suffix.

    Raises:
        MissingData: There is no such file.
        CorruptFile: It cannot be read; the message has the line.
    """
    try:
        images, captions = LISTS[path.suffix.lower()](path)
    except FileNotFoundError:
        raise MissingData(f"The file {path} does not exist.") from None
    except OSError as error:
        raise MissingData(f"The file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.") from error
    return Listed(folder, images, captions)


_Columns = tuple[tuple[str, ...] | None, tuple[str, ...] | None]


def _csv(path: Path) -> _Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or ()
        columns = [name for name in ("image", "caption", "text") if name in names]
        if not columns:
            raise CorruptFile(f"{path} has no column image, caption or text; its first line is {names}.")
        return _columns(path, columns, ((reader.line_num, row) for row in reader))


class _Row(msgspec.Struct):
    image: str | None = None
    caption: str | None = None
    text: str | None = None


def _jsonl(path: Path) -> _Columns:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                rows.append((number, msgspec.structs.asdict(msgspec.json.decode(line, type=_Row))))
            except msgspec.DecodeError as error:
                raise CorruptFile(f"{path}, line {number}: {error}.") from error
    columns = [name for name in ("image", "caption", "text") if rows and rows[0][1][name] is not None]
    if rows and not columns:
        raise CorruptFile(f"{path}, line {rows[0][0]} has no image, caption or text.")
    return _columns(path, columns, rows)


def _columns(path: Path, names: list[str], rows: Iterable[tuple[int, Mapping[str, str | None]]]) -> _Columns:
    found: dict[str, list[str]] = {name: [] for name in names}
    for number, row in rows:
        for name in names:
            value = row[name]
            if value is None or not value.strip():
                raise CorruptFile(f"{path}, line {number}: the {name} is missing.")
            found[name].append(value)
    images, captions = found.get("image"), found.get("caption", found.get("text"))
    return None if images is None else tuple(images), None if captions is None else tuple(captions)


class _Image(msgspec.Struct):
    id: int
    file_name: str


class _Annotation(msgspec.Struct):
    image_id: int
    caption: str


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


def _coco(path: Path) -> _Columns:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Coco)
    except msgspec.DecodeError as error:
        raise CorruptFile(f"{path} is not a captions file of COCO: {error}.") from error
    names = {image.id: image.file_name for image in content.images}
    for annotation in content.annotations:
        if annotation.image_id not in names:
            raise CorruptFile(f"{path} has a caption for image {annotation.image_id}, and no such image.")
    images = tuple(names[annotation.image_id] for annotation in content.annotations)
    return images, tuple(annotation.caption for annotation in content.annotations)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())


LISTS: Mapping[str, Callable[[Path], _Columns]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".json": _coco,
    ".lst": lambda path: (_lines(path), None),
    ".txt": lambda path: (None, _lines(path)),
}
"""The reader of each suffix: paths of images, and captions."""
