"""Triplets from tables: one's own, and those of LaSCo, WebVid-CoVR and MegaPairs in the form that is published.

| file | columns or fields | from |
|---|---|---|
| .csv, .tsv, .jsonl, .json, .parquet | ``reference``, ``text``, ``target``, and what `_Own` may have besides | you |
| .json | a list of ``query-image``, ``query-text``, ``target-image`` | LaSCo |
| .csv | ``pth1``, ``edit``, ``pth2`` | WebVid-CoVR, CC-CoIR |
| .jsonl | ``q_img``, ``q_text``, ``t_img``, ``hns`` | MegaPairs |

A table has ``text2`` and so on for further captions of a triplet, in JSON ``text`` may be a list; ``caption`` is read
like ``text``. Several texts of MegaPairs, and several edits of CC-CoIR, are alternatives: each makes a triplet. Images
are paths relative to the folder of images; without a suffix, as WebVid's are, they are looked for with those of images.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from cirbench.backbones.images import FileImage, image_suffixes
from cirbench.benchmarks.folder_format import NOT_A_NUMBER
from cirbench.errors import CorruptFile, UsageError, excerpt, quoted, some
from cirbench.protocol import Item, Triplet
from cirbench.support.files import sha256_of_file, spelled
from cirbench.support.textfiles import (
    SEPARATORS,
    csv_rows,
    decode_utf8,
    json_object,
    numbered_lines,
    read_bytes,
    read_text,
    refused,
)
from cirbench.training.data.listed import read_parquet
from cirbench.training.data.source import Lazy, Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

BAR = "|"
"""Separates the negatives in a cell."""
TRIPLET_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Suffixes of files that may list triplets."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A triplet as written, images not looked for yet.

    Attributes:
        place: Where it is in its file, for messages.
        reference: Names an image.
        texts: Its captions.
        target: Names an image.
        negatives: Name images.
        group: See `Triplet`.
        category: See `Triplet`.
        weight: See `Triplet`.
    """

    place: str
    reference: str
    texts: tuple[str, ...]
    target: str
    negatives: tuple[str, ...] = ()
    group: str | None = None
    category: str | None = None
    weight: float = 1.0


_Name = str | int | None
_Text = str | list[str | None] | None
_Weight = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class _Form(msgspec.Struct):
    """A row as a file has it; null stands for an empty cell."""

    def rows(self, place: str) -> Iterator[Row]:
        """Its triplets."""
        raise NotImplementedError


class _Own(_Form):
    reference: _Name
    text: _Text
    target: _Name
    negatives: str | list[str | int] | None = None
    group: str | int | float | None = None
    category: str | int | None = None
    weight: _Weight | None = None

    def rows(self, place: str) -> Iterator[Row]:
        negatives = self.negatives.split(BAR) if isinstance(self.negatives, str) else self.negatives
        if isinstance(self.negatives, str) and (listed := _listed(self.negatives)) is not None:
            negatives = [*listed]
        yield Row(
            place,
            _name(self.reference),
            tuple(_texts(self.text)),
            _name(self.target),
            tuple(dict.fromkeys(filter(None, map(_name, negatives or ())))),
            _label(self.group),
            _label(self.category),
            1.0 if self.weight is None else self.weight,
        )


class _MegaPairs(_Form):
    q_img: _Name
    q_text: _Text
    t_img: _Name
    hns: list[str | int] | None = None

    def rows(self, place: str) -> Iterator[Row]:
        query = _name(self.q_img)
        # The query image is among its own hard negatives.
        negatives = tuple(name for name in map(_name, self.hns or ()) if name != query)
        for text in _texts(self.q_text):
            yield Row(place, query, (text,), _name(self.t_img), negatives)


class _Lasco(_Form, rename={"image": "query-image", "text": "query-text", "target": "target-image"}):
    image: tuple[Any, _Name]
    text: str | None
    target: tuple[Any, _Name]

    def rows(self, place: str) -> Iterator[Row]:
        yield Row(place, _name(self.image[1]), (self.text or "",), _name(self.target[1]))


class _Covr(_Form):
    pth1: _Name
    edit: str | None
    pth2: _Name

    def rows(self, place: str) -> Iterator[Row]:
        for edit in _texts(self.edit):
            yield Row(place, _name(self.pth1), (edit,), _name(self.pth2))


_FORMS: tuple[type[_Form], ...] = (_Own, _MegaPairs, _Lasco, _Covr)
_PLAIN_TEXT = ("text", "caption", "captions")
_OWN = "reference, text and target"
_HINT = (
    "Or those of MegaPairs (q_img, q_text, t_img), LaSCo (query-image, query-text, target-image) or CoVR (pth1, edit, "
    "pth2)."
)


def _name(written: _Name) -> str:
    return "" if written is None else str(written).strip()


def _label(written: str | float | None) -> str | None:
    """A group or a category; a whole number that was written as a float, since others are missing, is one."""
    whole = isinstance(written, float) and written.is_integer()
    return None if written in (None, "") else str(int(written) if whole else written)


def _texts(written: _Text) -> list[str]:
    """One text or several, of which null is an empty one; never none."""
    if written is None or isinstance(written, str):
        listed = _listed(written or "")
        return [written or ""] if listed is None else listed or [""]
    return [text or "" for text in written] or [""]


def _listed(cell: str) -> list[str] | None:
    """The texts of a cell that holds the list of a Python program, as CC-CoIR's do and as pandas writes lists."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes
            values = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return values if isinstance(values, list) and all(isinstance(value, str) for value in values) else None


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Makes triplets of rows that have the same columns or fields.

    Attributes:
        path: The file.
        form: Whose rows these are.
        strict: Whether a number may not be written as a text.
    """

    path: Path
    form: type[_Form]
    strict: bool

    @classmethod
    def of(cls, path: Path, place: str, names: Sequence[str]) -> _Reader:
        """Choose the form by the names of columns or fields.

        Raises:
            CorruptFile: They are of no form, or two of them could hold the text.
        """
        form, kind = _form_of(names), "columns" if path.suffix.lower() in _CELLS else "fields"
        if form is None:
            raise refused(place, f"there are no {kind} {_OWN} in {excerpt(', '.join(names))}", _HINT)
        if form is _Own:
            _captions(place, dict.fromkeys(names))
        return cls(path, form, path.suffix.lower() not in (".csv", ".tsv"))

    def rows(self, place: str, values: Mapping[str, Any]) -> Iterator[Row]:
        """The triplets of one row.

        Raises:
            CorruptFile: A value is of another type, or one that is needed is absent, or given by two names.
        """
        place_in_file = f"{self.path}, {place}"
        if self.form is _Own:
            values = {**values, "text": _captions(place_in_file, values)}
        try:
            yield from msgspec.convert(values, self.form, strict=self.strict).rows(place)
        except msgspec.ValidationError as error:
            raise refused(place_in_file, excerpt(error)) from error

    def unused(self, names: Iterable[str]) -> list[str]:
        """The columns or fields that it makes nothing of."""
        known = {field.encode_name for field in msgspec.structs.fields(self.form)}
        return [name for name in names if not (name in known or (self.form is _Own and _is_text(name)))]


def _captions(place: str, values: Mapping[str, Any]) -> Any:
    """The captions of a row of one's own form: those without a number, and then the others by their numbers."""
    plain, numbered = _text_columns((*values,))
    if len(plain) > 1:
        why = f"it has both {plain[0]} and {plain[1]}, and only one of them can be used"
        raise refused(place, why, "Rename one of them.")
    given = [values[name] for name in (*plain, *numbered)]
    if len(given) == 1:
        return given[0]
    return [text for value in given for text in (value if isinstance(value, list) else [value])]


@functools.lru_cache
def _text_columns(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    numbered = [name for name in names if _is_text(name) and name not in _PLAIN_TEXT]
    return [name for name in names if name in _PLAIN_TEXT], sorted(numbered, key=lambda name: int(name[len("text") :]))


_CELLS = (".csv", ".tsv", ".parquet")


def _is_text(name: str) -> bool:
    return name in _PLAIN_TEXT or re.fullmatch(r"text\d{1,3}", name) is not None


def _form_of(names: Iterable[str]) -> type[_Form] | None:
    given = {"text" if _is_text(name) else name for name in names}
    return next((form for form in _FORMS if given >= _needed(form)), None)


def _needed(form: type[_Form]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(form) if field.required}


def lists_triplets(path: Path) -> bool:
    """Whether a file lists triplets, perhaps incomplete ones, by the names of its columns or fields.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not such text.
    """
    names = {*_first_names(path)} if path.suffix.lower() in TRIPLET_TABLES else set[str]()
    return _form_of(names) is not None or {"reference", "target"} <= names


def _first_names(path: Path) -> Sequence[str]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return [*read_parquet(path).types] if path.is_file() else []
    text = read_text(path) if suffix != ".json" else decode_utf8(read_bytes(path), str(path))
    first = next(numbered_lines(text), (0, ""))[1]
    if suffix in (".csv", ".tsv"):
        return [name.strip(' "') for name in first.split(_separator(path, text))]
    try:
        row = first if suffix == ".jsonl" else (*msgspec.json.decode(text, type=list[msgspec.Raw]), b"{}")[0]
        return [*msgspec.json.decode(row, type=dict[str, msgspec.Raw])]
    except (msgspec.DecodeError, RecursionError):  # whoever reads it says so
        return []


def _separator(path: Path, text: str) -> str:
    """What parts the cells: the sign of the file's name, or the only other one that gives the columns of a form."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    header = text.partition("\n")[0]
    fitting = [sign for sign in SEPARATORS if _form_of(name.strip(' \r"') for name in header.split(sign)) is not None]
    return fitting[0] if len(fitting) == 1 else usual


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Read a table; return its rows, and the columns or fields that are not used.

    Raises:
        MissingData: It cannot be read, or pyarrow is not installed for a .parquet file.
        CorruptFile: It breaks a rule of its form; the message names the line.
    """
    read = {".jsonl": _json_lines, ".json": _json, ".parquet": _parquet}.get(path.suffix.lower(), _csv)
    table = read(path)
    if not table.names:
        return [], []
    reader = _Reader.of(path, f"{path}, {table.place}", table.names)
    rows: list[Row] = []
    names = dict.fromkeys(table.names)
    for place, values in table.rows:
        rows += reader.rows(place, values)
        names.update(dict.fromkeys(values))
    return rows, [excerpt(name) or quoted(name) for name in reader.unused(names)]


_Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _Table:
    """What a file holds.

    Attributes:
        place: Where its columns, or the fields of its first row, are named.
        names: They; none where it is empty.
        rows: The place of each row, and its values by name.
    """

    place: str
    names: Sequence[str]
    rows: Iterable[tuple[str, _Values]]

    @classmethod
    def of(cls, rows: Iterator[tuple[str, _Values]]) -> _Table:
        """A table without a header."""
        first = next(rows, None)
        return cls("", [], ()) if first is None else cls(first[0], [*first[1]], itertools.chain([first], rows))


_LINES = "A .jsonl file has one object in each line; a list in brackets is called .json."
_LIST = "A .json file is one list in brackets; objects in lines are called .jsonl."


def _csv(path: Path) -> _Table:
    header: list[str] = []
    text = read_text(path)
    rows = csv_rows(str(path), text, lambda place, names: header.extend(names), _separator(path, text))
    first = [*itertools.islice(rows, 1)]  # with it the header has been read
    said = (
        # An empty cell is left out, but for those that every row needs.
        (f"line {number}", {name: cell for name, cell in cells.items() if cell.strip() or name not in _DEFAULTED})
        for number, cells in itertools.chain(first, rows)
    )
    return _Table("line 1", header, said)


_DEFAULTED = frozenset(field.name for field in msgspec.structs.fields(_Own) if not field.required)


def _json_lines(path: Path) -> _Table:
    lines = numbered_lines(read_text(path))
    return _Table.of((f"line {number}", json_object(f"{path}, line {number}", line, _LINES)) for number, line in lines)


def _json(path: Path) -> _Table:
    try:
        rows = msgspec.json.decode(decode_utf8(read_bytes(path), str(path)), type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptFile(f"{path} is not a list of triplets: {excerpt(error)}.", hint=_LIST) from error
    numbered = enumerate(rows, start=1)
    return _Table.of(
        (f"row {number}", json_object(f"{path}, row {number}", bytes(row).decode())) for number, row in numbered
    )


def _parquet(path: Path) -> _Table:
    table = read_parquet(path)
    for name in ("reference", "target"):
        if str(table.types.get(name, "")).startswith(("struct", "binary", "large_binary")):
            raise CorruptFile(
                f"{path} holds images in its column {name}, and those of triplets are named by their paths.",
                hint="Write them to files; or pack shards with 000123.reference.jpg, 000123.target.jpg and 000123.txt.",
            )
    pieces = table.pieces([*table.types])
    rows = (dict(zip(piece, cells, strict=True)) for piece in pieces for cells in zip(*piece.values(), strict=True))
    return _Table("its columns", [*table.types], ((f"row {number}", row) for number, row in enumerate(rows, start=1)))


@dataclasses.dataclass(frozen=True)
class Rows(Lazy):
    """Triplets of rows, whose images are found already.

    Attributes:
        rows: The rows.
        image_of: The image of each name; none for a name that is of no image.
    """

    rows: Sequence[Row]
    image_of: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, place: int) -> Triplet:
        """Make one triplet."""
        row = self.rows[place]
        reference, target, *negatives = (
            Item(name, self.image_of.get(name) or FileImage(Path(name)))
            for name in (row.reference, row.target, *row.negatives)
        )
        return Triplet(reference, row.texts, target, tuple(negatives), row.group, row.category, row.weight)


def triplets_of(name: str, rows: Sequence[Row], image_of: Mapping[str, Any], *, listing: str) -> Source:
    """Make rows a source, and find those that cannot be trained on.

    Args:
        name: As the user asked for it.
        rows: The triplets.
        image_of: The image of each name; none for a name that is of no image.
        listing: Identifies the list; see `identified`.

    Raises:
        UsageError: There are no rows.
    """
    flaws = {place: flaw for place, row in enumerate(rows) if (flaw := _flaw(row, image_of)) is not None}
    return identified(name, Rows(rows, image_of), listing=listing, unusable=flaws)


def _flaw(row: Row, image_of: Mapping[str, Any]) -> str | None:
    """Why a row cannot be trained on."""
    named = (row.reference, row.target, *row.negatives)
    labels = {"text": row.texts, "negatives": row.negatives, "group": (row.group,), "category": (row.category,)}
    if empty := [what for what in ("reference", "target") if not getattr(row, what)]:
        flaw = f"it has no {' and no '.join(empty)}"
    elif missing := [what for what, values in labels.items() if not NOT_A_NUMBER.isdisjoint(values)]:
        flaw = f"nan is given as its {missing[0]}, which is how pandas writes a missing value"
    elif unknown := [name for name in named if name not in image_of]:
        flaw = f"there is no image {some([quoted(name) for name in unknown], 2)}"
    elif row.reference == row.target:
        flaw = f"its reference is its target, {quoted(row.target)}"
    elif row.target in row.negatives:
        flaw = f"its negatives contain its target, {quoted(row.target)}"
    elif not any(text.strip(".?, \t\n") for text in row.texts):
        flaw = "its text is empty"
    else:
        return None
    return f"{row.place}: {flaw}"


def open_triplets(name: str, path: Path, folder: Path, say: Callable[[str], None]) -> Source:
    """Open a table of triplets whose images are paths relative to a folder.

    Raises:
        MissingData: The table cannot be read, or needs pyarrow.
        CorruptFile: It breaks a rule of its form; the message names the line.
        UsageError: It is empty.
    """
    rows, unused = read_rows(path)
    if not rows:
        raise UsageError(f"{path} holds no triplets.", hint=f"Its columns are {_OWN}.")
    if unused:
        say(f"{path}: not used: {some(unused)}.")
    names = dict.fromkeys(name for row in rows for name in (row.reference, row.target, *row.negatives))
    found = {each: file for each in names if (file := _file(folder, each)) is not None}
    return triplets_of(name, _named_alike(rows, found), found, listing=sha256_of_file(path))


def _named_alike(rows: list[Row], found: Mapping[str, FileImage]) -> list[Row]:
    """Call an image that is written in several ways (a, a.png, ./a.png) by the first of them everywhere."""
    first: dict[str, str] = {}
    alias = {name: first.setdefault(os.path.normpath(image.path), name) for name, image in found.items()}
    if len(first) == len(found):
        return rows

    def plain(name: str) -> str:
        return alias.get(name, name)

    return [
        dataclasses.replace(
            row,
            reference=plain(row.reference),
            target=plain(row.target),
            negatives=tuple(dict.fromkeys(map(plain, row.negatives))),
        )
        for row in rows
    ]


def _file(folder: Path, name: str) -> FileImage | None:
    if not name or "\0" in name:
        return None
    path = spelled(folder, name)
    if path.is_file():
        return FileImage(path)
    if path.suffix.lower() in image_suffixes():
        return None
    with_suffix = (path.with_name(f"{path.name}{suffix}") for suffix in image_suffixes())
    return next((FileImage(each) for each in with_suffix if each.is_file()), None)
