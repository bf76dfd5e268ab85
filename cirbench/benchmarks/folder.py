"""Your own data: a folder of images with a table of queries.

| column | |
|---|---|
| `query_id` | unique, without white space |
| `reference` | an image |
| `text` | what to change; in JSON also a list of several texts |
| `targets` | the right answers, separated by a vertical bar; left out where nobody knows them |
| `group` | optional: similar images among which the target must be found, separated by a vertical bar |
| `aspect` | optional: labels to report separately, separated by a vertical bar |

    my-data/
      gallery/          what is ranked, in any layout below; may be called images/ instead
      queries.csv       or queries.jsonl: one query a row

An image's id is its path below the gallery without the suffix. The table names images by id, by id with the suffix, or
by their path below the folder; a reference may be anywhere in the folder. What is reported follows from what the table
holds, see `measures`; `cirbench new dataset PATH` writes an example.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from cirbench.backbones.images.decode import FileImage, image_suffixes, is_image
from cirbench.benchmarks.images import files_below
from cirbench.benchmarks.interface import Benchmark, ProtocolEntry
from cirbench.errors import CheckFailed, CorruptFile, MissingData, excerpt, quoted, some
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.console import say_once
from cirbench.support.files import digest, spelled
from cirbench.support.textfiles import csv_rows, json_rows, nfc, read_text, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cirbench.errors import CirbenchError

TABLES = ("queries.csv", "queries.jsonl")
BAR = "|"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One query as written, images not looked for yet.

    Attributes:
        place: The file and line, for messages.
        id: Unique.
        reference: Names an image.
        texts: At least one, none of them empty.
        targets: Name images.
        group: Name images.
        aspects: Labels.
    """

    place: str
    id: str
    reference: str
    texts: tuple[str, ...]
    targets: tuple[str, ...]
    group: tuple[str, ...]
    aspects: tuple[str, ...]


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query_id: str | int
    reference: str
    text: str | list[str]
    targets: str | list[str] = ""
    group: str | list[str] = ""
    aspect: str | list[str] = ""


REQUIRED = ("query_id", "reference", "text")
COLUMNS = _Fields.__struct_fields__


def read_table(path: Path) -> list[Row]:
    """Read a table of queries.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It breaks a rule; the message names the line.
    """
    text = _text(path)
    rows = list(_csv_rows(path, text) if path.suffix == ".csv" else _json_rows(path, text))
    if not rows:
        raise CorruptFile(f"{path} holds no queries.", hint=f"Its columns are {', '.join(COLUMNS)}.")
    lines: dict[str, str] = {}
    for row in rows:
        if row.id in lines:
            raise refused(
                row.place, f"the query id {excerpt(row.id)} is already in {lines[row.id].rpartition(', ')[2]}"
            )
        lines[row.id] = row.place
        for what in ("targets", "group"):
            if bool(getattr(row, what)) != bool(getattr(rows[0], what)):
                raise refused(row.place, f"{what} must be given for every query or for none")
    return rows


def _text(path: Path) -> str:
    text = read_text(path)
    if not text.strip():
        raise CorruptFile(f"{path} is empty.", hint=f"Its columns are {', '.join(COLUMNS)}.")
    return text


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    for number, cells in csv_rows(str(path), text, _check_header):
        yield _row(f"{path}, line {number}", _Fields(**cells))


def _check_header(place: str, header: Sequence[str]) -> None:
    for name in REQUIRED:
        if name not in header:
            raise refused(place, f"there is no column {name}", f"The first line must name {', '.join(REQUIRED)}.")
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"Nearest: {near[0]}." if near else f"Columns are {', '.join(COLUMNS)}."
            raise refused(place, f"the column {quoted(name)} means nothing here", hint)


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    for number, fields in json_rows(str(path), text, _Fields, f"Fields are {', '.join(COLUMNS)}."):
        yield _row(f"{path}, line {number}", fields)


def _row(place: str, fields: _Fields) -> Row:
    name, reference = nfc(str(fields.query_id).strip()), nfc(fields.reference.strip())
    texts = (fields.text,) if isinstance(fields.text, str) else tuple(fields.text)
    if name.split() != [name]:
        why = f"the query id {quoted(name)} holds white space, which separates the fields of TREC files"
        raise refused(place, why if name else "the query id is empty")
    if not reference:
        raise refused(place, "the reference is empty")
    if not texts or not all(map(str.strip, texts)):
        raise refused(place, "the text is empty")
    return Row(place, name, reference, texts, _parts(fields.targets), _parts(fields.group), _parts(fields.aspect))


def _parts(written: str | Sequence[str]) -> tuple[str, ...]:
    parts = written.split(BAR) if isinstance(written, str) else written
    return tuple(nfc(part.strip()) for part in parts if part.strip())


GALLERIES = ("gallery", "images")
"""What the folder of ranked images may be called; the earlier one wins."""

EXAMPLE = "Type `cirbench new dataset PATH` to get an example to change."


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The images of a folder by the names that a table may use.

    Attributes:
        folder: The folder.
        below_gallery: The name of the gallery in it.
        gallery: Each image that is ranked, by its id.
        ids: The id of each image that is ranked, by its path below the gallery.
        unused: Paths below the gallery of the files that are not images.
    """

    folder: Path
    below_gallery: str
    gallery: Mapping[str, FileImage]
    ids: Mapping[str, str]
    unused: tuple[str, ...]

    @classmethod
    def below(cls, folder: Path) -> Pictures:
        """List the gallery of a folder.

        Raises:
            MissingData: There is no gallery, or no image in it.
            CorruptFile: Two images have one id, or an id would hold white space.
            CheckFailed: A link in the gallery leads out of it.
        """
        place = next((name for name in GALLERIES if (folder / name).is_dir()), None)
        if place is None:
            raise MissingData(f"{folder} holds no folder gallery (or images).", hint=EXAMPLE)
        root = folder / place
        inside = root.resolve()
        gallery: dict[str, FileImage] = {}
        ids: dict[str, str] = {}
        unused: list[str] = []
        for path in sorted(Path(below, name) for below, name in files_below(root)):
            written = nfc(path.relative_to(root).as_posix())
            if not is_image(path):
                unused.append(written)
                continue
            _refuse_outside(path, inside)
            name = without_suffix(written)
            if name.split() != [name]:
                raise CorruptFile(
                    f"The image {path} has white space in its path, and its id must not: TREC files separate by it.",
                    hint="Rename the file, for instance with underscores.",
                )
            if name in gallery:
                raise CorruptFile(
                    f"The images {gallery[name]} and {path} have one id, {excerpt(name)}.",
                    hint="Rename or remove one of them.",
                )
            gallery[name], ids[written] = FileImage(path), name
        if not gallery:
            raise MissingData(f"{root} holds no images.", hint=f"Its files: {some(unused)}." if unused else EXAMPLE)
        return cls(folder, place, gallery, ids, tuple(unused))

    def ranked(self, written: str) -> str | None:
        """Return the id of the gallery image that a table names, or ``None``."""
        for name in (written, written.removeprefix(f"{self.below_gallery}/")):
            if name in self.gallery or name in self.ids:
                return name if name in self.gallery else self.ids[name]
        return None

    def find(self, written: str) -> Item | None:
        """Return the image that a table names, in the gallery or elsewhere in the folder, or ``None``.

        Raises:
            CheckFailed: A link leads out of the folder.
        """
        name = self.ranked(written)
        if name is not None:
            return Item(name, self.gallery[name])
        for suffix in ("", *image_suffixes()):
            path = spelled(self.folder, f"{written}{suffix}")
            if _is_file(path) and is_image(path):
                _refuse_outside(path, self.folder.resolve())
                return Item(without_suffix(f"{written}{suffix}"), FileImage(path))
        return None

    def nearest(self, written: str) -> str:
        """Offer ids that look like what a table names."""
        wanted = without_suffix(written.removeprefix(f"{self.below_gallery}/"))
        near = difflib.get_close_matches(wanted, self.gallery, n=3, cutoff=0.5)
        return f"Nearest: {some(near)}." if near else f"The gallery holds, for instance, {excerpt(min(self.gallery))}."


def without_suffix(written: str) -> str:
    """Return a path without its suffix, if that is one of images."""
    stem, dot, suffix = written.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in image_suffixes() else written


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a cell of a table may be too long for a path
        return False


def _refuse_outside(path: Path, inside: Path) -> None:
    """Refuse links out of a folder: a copied folder must not make other files of this machine part of a result."""
    if not (real := path.resolve()).is_relative_to(inside):
        raise CheckFailed(
            f"{path} leads out of {inside}, to {real}.",
            hint="Copy the image into the folder, or make the whole gallery a link.",
        )


SPLIT = "all"


def folder_benchmark(folder: Path) -> Benchmark:
    """Describe a folder as a benchmark; its table is read, its images are not.

    Raises:
        MissingData: There is no table of queries.
        CorruptFile: The table breaks a rule; the message names the line.
    """
    name = _name(folder)
    labelled = bool(read_table(_table(folder))[0].targets)
    protocol = ProtocolEntry(name, f"Your own data in {folder}", SPLIT, None, None, labelled, folder=str(folder))
    return Benchmark(
        name=str(folder),
        title=protocol.title,
        licence="your own",
        load=lambda variant, root: folder_protocol(folder),
        protocols=(protocol,),
        default_split=SPLIT,
    )


def folder_protocol(folder: Path) -> EvaluationProtocol:
    """Load a folder: every image's content is hashed, because the images are what fixes the numbers.

    The reference is removed from the candidates of its own query. Queries that share a reference form a cluster.

    Raises:
        MissingData: There is no gallery, no table, or no image.
        CorruptFile: The table or the gallery breaks a rule; the message names the line or the file.
        CheckFailed: A path or a link leads out of the folder.
    """
    rows = read_table(_table(folder))
    pictures = Pictures.below(folder)
    if pictures.unused:
        where, count = folder / pictures.below_gallery, len(pictures.unused)
        say_once(f"{where}: {count:,} files are not images and are not ranked: {some(pictures.unused)}.")
    resolved = [_resolve(row, pictures) for row in rows]
    references = tuple(each.reference for each in resolved)
    ids = tuple(sorted(pictures.gallery))
    images = [pictures.gallery[name] for name in ids]
    targets = tuple(each.targets for each in resolved)
    groups = tuple(each.group for each in resolved)
    aspects = tuple(row.aspects for row in rows)
    elsewhere = {item.id: item.image for item in references if item.id not in pictures.gallery}
    contents = [[name, image.content] for name, image in sorted({**pictures.gallery, **elsewhere}.items())]
    return EvaluationProtocol(
        id=_name(folder),
        version=1,
        title=f"Your own data in {folder}",
        queries=tuple(Query(row.id, item, row.texts) for row, item in zip(rows, references, strict=True)),
        gallery=Gallery(ids, images),
        labels=Labels(targets) if targets[0] else None,
        measures=measures(targets, grouped=bool(groups[0]), sliced=any(aspects)),
        exclude_reference=True,
        groups=groups if groups[0] else None,
        slices={"aspect": aspects} if any(aspects) else {},
        clusters=tuple(item.id for item in references),
        captions="the text as written",
        licence="your own",
        data_digests={"images": digest(contents)},
    )


def measures(targets: Sequence[Sequence[str]], *, grouped: bool, sliced: bool) -> tuple[Measure, ...]:
    """Say what a table's targets allow to report; none allow nothing but rankings.

    One target each: Recall@1, 5, 10, 50. Several: mAP@5, 10, 25, 50, and how often any of them is among the first 1, 5,
    10, 50. With groups: also Recall_subset@1, 2, 3 of the first target. With aspects: the number at 10, each.
    """
    most = max(map(len, targets))
    if not most:
        return ()
    headline = "Recall" if most == 1 else "mAP"
    asked = [Measure(headline, k) for k in ((1, 5, 10, 50) if most == 1 else (5, 10, 25, 50))]
    if most > 1:
        asked += [Measure("Hit_rate", k) for k in (1, 5, 10, 50)]
    if grouped:
        asked += [Measure("Recall_subset", k) for k in (1, 2, 3)]
    if sliced:
        asked.append(Measure(headline, 10, by="aspect"))
    return tuple(asked)


@dataclasses.dataclass(frozen=True, slots=True)
class _Resolved:
    """The images that one query names."""

    reference: Item
    targets: tuple[str, ...]
    group: tuple[str, ...]


def _resolve(row: Row, pictures: Pictures) -> _Resolved:
    reference = pictures.find(_inside(row, "reference", row.reference))
    if reference is None:
        raise _unknown(row, "reference", row.reference, pictures)
    targets, group = (_ranked(row, what, getattr(row, what), pictures) for what in ("targets", "group"))
    if reference.id in targets:
        raise refused(row.place, f"the reference {excerpt(reference.id)} is its own target, and is never ranked")
    if group and targets and targets[0] not in group:
        raise refused(row.place, f"the target {excerpt(targets[0])} is not in the group of the query")
    return _Resolved(reference, targets, group)


def _ranked(row: Row, what: str, written: Sequence[str], pictures: Pictures) -> tuple[str, ...]:
    """Return the ids of gallery images, each of which must exist and occur once."""
    found: list[str] = []
    for each in written:
        name = pictures.ranked(_inside(row, what, each))
        if name is None:
            raise _unknown(row, what, each, pictures)
        if name in found:
            raise refused(row.place, f"{what} names {excerpt(name)} twice")
        found.append(name)
    return tuple(found)


def _inside(row: Row, what: str, written: str) -> str:
    """Return a path in its plain form.

    Raises:
        CorruptFile: It leaves the folder.
    """
    path = PurePosixPath(written)
    if path.is_absolute() or ".." in path.parts:
        raise refused(
            row.place, f"{what} names {quoted(written)}, which leaves the folder", "Copy the image into the folder."
        )
    return path.as_posix()


def _unknown(row: Row, what: str, written: str, pictures: Pictures) -> CirbenchError:
    where = "folder" if what == "reference" else pictures.below_gallery
    return refused(
        row.place, f"{what} names {quoted(written)}, and no image of the {where} is that", pictures.nearest(written)
    )


def _table(folder: Path) -> Path:
    there = [folder / name for name in TABLES if (folder / name).is_file()]
    if not there:
        raise MissingData(f"{folder} holds no {' and no '.join(TABLES)}.", hint=EXAMPLE)
    if len(there) > 1:
        raise CorruptFile(f"{folder} holds {' and '.join(TABLES)}.", hint="Keep the one that counts.")
    return there[0]


def _name(folder: Path) -> str:
    return f"own/{folder.resolve().name}"
