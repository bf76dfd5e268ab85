"""Samples from files that list them: tables, lists, COCO's captions, Parquet, and what ``datasets`` has saved.

Paths and texts are read into memory. Images that lie in a table of Parquet or of ``datasets`` cannot be read one by
one, since a row group is compressed as a whole. They are unpacked once into a tar shard in the cache, and read there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import tarfile
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.backbones.images import FileImage
from cirbench.errors import CorruptFile, MissingData, UsageError, excerpt, quoted, some
from cirbench.support.files import atomic_writer, cache_root, digest, locked, spelled
from cirbench.support.needs import require
from cirbench.support.textfiles import (
    csv_rows,
    json_rows,
    numbered_lines,
    read_text,
    refuse_placeholder,
    refused,
)
from cirbench.training.data.shards import Shards, read_shard_files
from cirbench.training.data.source import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.support.console import Display
    from cirbench.training.data.source import Kind


SAVED = ("dataset_info.json", "state.json")
"""What ``save_to_disk`` leaves in the folder of a data set, or of each split of several."""
SAVED_SPLITS = "dataset_dict.json"

_SCHEMA = 1
_ROWS = 256
_STATUS = "status"
"""The column of img2dataset that says of a row without an image why it has none."""
_BYTES = ("jpg", "jpeg", "png", "webp")
"""What img2dataset calls the column of images, by their format."""


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


_Lists = tuple[tuple[str, ...] | None, tuple[str, ...] | None, tuple[str, ...]]
"""Paths of images, captions, and what the list holds beside them."""

_IMAGE = ("image",)
_CAPTION = ("caption", "text")
_ALSO_IMAGE = ("file_name", "filepath", "image_path")
_ALSO_CAPTION = ("title",)
"""What they are called by imagefolder and by open_clip; read where nothing has the plain name."""


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """The columns of a table that hold images and captions; ``None`` where there is no such column."""

    image: str | None
    caption: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Both that there are."""
        return tuple(name for name in (self.image, self.caption) if name is not None)


def _choose_columns(place: str, names: Collection[str]) -> _Chosen:
    """Choose the columns that hold images and captions.

    Args:
        place: Where they are named, for messages.
        names: All of them.

    Raises:
        CorruptFile: There are neither, or two that could be meant.
    """
    chosen = _Chosen(_one_of(place, names, _IMAGE, _ALSO_IMAGE), _one_of(place, names, _CAPTION, _ALSO_CAPTION))
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


def _csv(source: str, text: str, separator: str = ",") -> _Lists:
    header: list[str] = []
    chosen: list[_Chosen] = []

    def check_header(place: str, names: Sequence[str]) -> None:
        header.extend(names)
        chosen.append(_choose_columns(place, names))

    rows = csv_rows(source, text, check_header, separator)
    first = list(itertools.islice(rows, 1))  # with it the header has been read
    if not header:
        raise CorruptFile(f"{source} is empty.", hint="Its first line names columns: image, caption or both.")
    unused = [f"the column {excerpt(name) or quoted(name)}" for name in header if name not in chosen[0].names]
    return _collected(source, chosen[0], itertools.chain(first, rows), unused)


def _tsv(source: str, text: str) -> _Lists:
    return _csv(source, text, "\t")


class _Row(msgspec.Struct):
    image: str | None = None
    caption: str | None = None
    text: str | None = None
    file_name: object = None
    filepath: object = None
    image_path: object = None
    title: object = None


def _jsonl(source: str, text: str) -> _Lists:
    rows = [(number, msgspec.structs.asdict(row)) for number, row in json_rows(source, text, _Row)]
    if not rows:
        return (), None, ()
    first = f"{source}, line {rows[0][0]}"
    keys = msgspec.json.decode(next(numbered_lines(text))[1], type=dict[str, msgspec.Raw])
    held = [name for name, value in rows[0][1].items() if value is not None]
    if not held:
        raise refused(first, "it has no image, caption or text")
    chosen = _choose_columns(first, held)
    for number, row in rows:
        for name in (*_IMAGE, *_CAPTION):
            if name not in chosen.names and name not in held and row[name] is not None:
                raise refused(f"{source}, line {number}", f"it has {name}, and line {rows[0][0]} has none")
    unused = [f"the field {excerpt(name) or quoted(name)}" for name in keys if name not in chosen.names]
    return _collected(source, chosen, rows, unused)


def _collected(
    source: str, chosen: _Chosen, rows: Iterable[tuple[int, Mapping[str, object]]], unused: Sequence[str]
) -> _Lists:
    found: dict[str, list[str]] = {name: [] for name in chosen.names}
    for number, row in rows:
        for name in chosen.names:
            found[name].append(_cell(f"{source}, line {number}", name, row[name], is_path=name == chosen.image))
    images = None if chosen.image is None else tuple(found[chosen.image])
    return images, None if chosen.caption is None else tuple(found[chosen.caption]), tuple(unused)


def _cell(place: str, name: str, value: object, *, is_path: bool) -> str:
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


def _coco(source: str, text: str) -> _Lists:
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


def _names(source: str, text: str) -> _Lists:
    images = []
    for number, line in numbered_lines(text):
        _check_path(f"{source}, line {number}", line)
        images.append(line.strip())
    return tuple(images), None, ()


def _texts(source: str, text: str) -> _Lists:
    return None, tuple(line.strip() for _, line in numbered_lines(text)), ()


LISTS: Mapping[str, Callable[[str, str], _Lists]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".json": _coco,
    ".lst": _names,
    ".txt": _texts,
}
"""The reader of each suffix."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """A table by column, read in pieces.

    Attributes:
        place: What messages call it.
        types: The type of each column, of Arrow.
        rows: How many there are.
        pieces: Reads some columns, piece by piece, each as lists by name.
        identity: What changes with its content.
    """

    place: str
    types: dict[str, Any]
    rows: int
    pieces: Callable[[Sequence[str]], Iterator[dict[str, list[Any]]]]
    identity: list[object]


def read_parquet(path: Path) -> Columns:
    """Look into a Parquet file.

    Raises:
        MissingData: It does not exist, or pyarrow is not installed.
        CorruptFile: It is damaged.
    """
    if not path.is_file():
        raise MissingData(f"The file {path} does not exist.")
    refuse_placeholder(path, "file")
    parquet = require("pyarrow.parquet", extra="parquet", purpose="A Parquet file")
    with _naming_damage(path):
        file = parquet.ParquetFile(path)
        schema, rows = file.schema_arrow, file.metadata.num_rows
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise refused(str(path), f"the column {quoted(name)} occurs twice")

    def pieces(names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        with _naming_damage(path):
            for batch in parquet.ParquetFile(path).iter_batches(_ROWS, columns=[*names]):
                yield batch.to_pydict()

    status = path.stat()
    identity = [str(path.resolve()), status.st_size, status.st_mtime_ns]
    return Columns(str(path), dict(zip(schema.names, schema.types, strict=True)), rows, pieces, identity)


def read_saved(folder: Path) -> Columns:
    """Look into a data set that ``datasets`` has saved.

    Raises:
        UsageError: It has several splits; the hint names the folders.
        MissingData: ``datasets`` is not installed.
        CorruptFile: The folder is damaged.
    """
    if (folder / SAVED_SPLITS).is_file():
        splits = sorted(path.parent for path in folder.glob(f"*/{SAVED[1]}"))
        if len(splits) != 1:
            raise UsageError(
                f"{folder} holds {len(splits)} splits of a data set: {some([path.name for path in splits])}.",
                hint=f"Name one of them: --data {splits[0] if splits else folder / 'train'}",
            )
        folder = splits[0]
    datasets = require("datasets", extra="datasets", purpose="A data set that was saved by Hugging Face's datasets")
    with _naming_damage(folder):
        whole = datasets.load_from_disk(str(folder)).with_format("arrow")
        schema, rows = whole.features.arrow_schema, len(whole)

    def pieces(names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        with _naming_damage(folder):
            for batch in whole.select_columns([*names]).iter(_ROWS):
                yield batch.to_pydict()

    files = sorted(path for path in folder.iterdir() if path.is_file())
    identity = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    types = dict(zip(schema.names, schema.types, strict=True))
    return Columns(str(folder), types, rows, pieces, [str(folder.resolve()), *identity])


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turn whatever Arrow raises on damage into one error that names the file."""
    try:
        yield
    # Arrow's errors are ValueErrors, OSErrors and RuntimeErrors by turns; the readers of datasets add the others.
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptFile(
            f"{path} cannot be read: {excerpt(why.rstrip('.'))}.",
            hint="It is damaged, or of another form. Copy it again.",
        ) from error


@dataclasses.dataclass(frozen=True)
class Opened:
    """The samples of one or several tables of the same columns.

    Attributes:
        samples: They.
        unused: What the tables hold beside them.
        failed: How many rows have no image since it could not be downloaded.
        listing: What changes with the content.
    """

    samples: Listed | Shards
    unused: tuple[str, ...]
    failed: int
    listing: str


def open_columns(
    tables: Sequence[Columns], folder: Path, kind: Kind | None, *, display: Display, say: Callable[[str], None]
) -> Opened:
    """Read tables, and unpack the images that lie in them.

    Args:
        tables: Of the same columns.
        folder: What paths in them are relative to.
        kind: What a training looks at, so that images are left alone for texts; ``None`` for all there is.
        display: Shows how far it is.
        say: Tells the user what is unpacked where to.

    Raises:
        CorruptFile: A row cannot be used, a column has another type, or the tables differ.
    """
    chosen = _chosen_of(tables[0])
    for table in tables[1:]:
        if table.types != tables[0].types:
            raise CorruptFile(f"{table.place} has other columns than {tables[0].place}: {_shown(table.types)}.")
    unused = tuple(f"the column {excerpt(name)}" for name in tables[0].types if name not in (*chosen.names, _STATUS))
    listing = digest([_SCHEMA, *(table.identity for table in tables)])
    if chosen.image is None or _is_text(tables[0].types[chosen.image]) or (kind == "texts" and chosen.caption):
        held = _Chosen(None, chosen.caption) if kind == "texts" and chosen.caption else chosen
        return Opened(_in_memory(tables, held, folder), unused, 0, listing)
    place = cache_root() / "shards" / f"{listing[:32]}.tar"
    with locked(place.with_suffix(".lock")):
        if not place.is_file():
            say(f"Unpacking the images of {tables[0].place} into {place}, where they stay.")
            with display("Unpacking images", sum(table.rows for table in tables)) as advance:
                _unpack(tables, chosen, place, advance)
    shards = read_shard_files((place,), display=display)
    return Opened(shards, unused, sum(table.rows for table in tables) - len(shards), listing)


def _chosen_of(table: Columns) -> _Chosen:
    images = [name for name in _BYTES if name in table.types and _is_bytes(table.types[name])]
    if len(images) == 1 and "image" not in table.types:  # img2dataset's, whose captions are txt or caption
        caption = next((name for name in ("caption", "text", "txt") if name in table.types), None)
        return _Chosen(images[0], caption)
    if "url" in table.types and not {"image", "file_name", "filepath", "image_path"} & table.types.keys():
        raise refused(
            table.place,
            f"there is no column of images in {_shown(table.types)}, only their addresses",
            "Fetch them by img2dataset, and name the folder that it writes.",
        )
    chosen = _choose_columns(table.place, [*table.types])
    kind = None if chosen.image is None else table.types[chosen.image]
    if chosen.image is not None and not (_is_text(kind) or _is_bytes(kind) or _is_pair(kind)):
        raise _wrong_type(table, chosen.image, "paths, bytes or images")
    if chosen.caption is not None and not _is_text(table.types[chosen.caption]):
        raise _wrong_type(table, chosen.caption, "texts")
    return chosen


def _wrong_type(table: Columns, name: str, wanted: str) -> CorruptFile:
    hint = "Write one row for each caption." if "list" in str(table.types[name]) else None
    return refused(table.place, f"the column {excerpt(name)} holds {excerpt(table.types[name])}, not {wanted}", hint)


def _shown(types: dict[str, Any]) -> str:
    return some([f"{name} ({kind})" for name, kind in types.items()])


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _is_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_pair(kind: Any) -> bool:
    """Whether it is an image as ``datasets`` has it: bytes, or else a path."""
    return str(kind).startswith("struct<") and "bytes: binary" in str(kind)


def _in_memory(tables: Sequence[Columns], chosen: _Chosen, folder: Path) -> Listed:
    found: dict[str, list[str]] = {name: [] for name in chosen.names}
    for table in tables:
        row = 0
        for piece in table.pieces(chosen.names):
            for name in chosen.names:
                for offset, value in enumerate(piece[name], start=row + 1):
                    place = f"{table.place}, row {offset}"
                    found[name].append(_cell(place, name, value, is_path=name == chosen.image))
            row += len(piece[chosen.names[0]])
    images, captions = (None if name is None else tuple(found[name]) for name in (chosen.image, chosen.caption))
    return Listed(folder, images, captions)


def _unpack(tables: Sequence[Columns], chosen: _Chosen, place: Path, advance: Callable[[int], None]) -> None:
    assert chosen.image is not None
    with atomic_writer(place) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number, table in enumerate(tables):
            names = [*chosen.names, *([_STATUS] if _STATUS in table.types else [])]
            row = 0
            for piece in table.pieces(names):
                for values in zip(*(piece[name] for name in names), strict=True):
                    row += 1
                    _add_row(tar, table.place, number, row, dict(zip(names, values, strict=True)), chosen)
                    advance(1)


def _add_row(tar: tarfile.TarFile, table: str, number: int, row: int, values: dict[str, Any], chosen: _Chosen) -> None:
    assert chosen.image is not None
    image, place = values[chosen.image], f"{table}, row {row}"
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if image is None and values.get(_STATUS) not in (None, "success"):
        return  # img2dataset could not download it
    if image is None:
        raise refused(place, f"the {chosen.image} is missing")
    if isinstance(image, str):
        what = f"its image is the path {excerpt(image)}, and the bytes are not in the table"
        raise refused(place, what, "Save the data set with its images.")
    members = [(_suffix(place, image), image)]
    if chosen.caption is not None:
        members.append(("txt", _cell(place, chosen.caption, values[chosen.caption], is_path=False).encode()))
    for suffix, content in members:
        member = tarfile.TarInfo(f"table-{number + 1:05d}/row-{row:09d}.{suffix}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _suffix(place: str, content: bytes) -> str:
    """The suffix of an image, by what its first bytes say."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = str(image.format).lower()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise refused(place, f"its image is of no format that Pillow knows; it begins with {content[:8]!r}") from error
    return {"jpeg": "jpg", "mpo": "jpg"}.get(kind, kind)
