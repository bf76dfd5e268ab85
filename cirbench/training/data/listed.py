"""Samples from files that list them: CSV, JSON lines, COCO's JSON, plain lines."""

from __future__ import annotations

import csv
import dataclasses
from typing import TYPE_CHECKING

import msgspec

from cirbench.errors import CorruptFile, MissingData
from cirbench.images.decode import FileImage
from cirbench.training.data.source import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


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
        raise CorruptFile(f"{path} is no captions file of COCO: {error}.") from error
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
