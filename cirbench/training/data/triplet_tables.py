"""Triplets from tables: one's own, and those of LaSCo, WebVid-CoVR and MegaPairs in the form that is published.

| file | columns or fields | from |
|---|---|---|
| .csv, .tsv, .jsonl, .json, .parquet | ``reference``, ``text``, ``target``, and what `_Own` may have besides | you |
| .json | a list of ``query-image``, ``query-text``, ``target-image`` | LaSCo |
| .csv | ``pth1``, ``edit``, ``pth2`` | WebVid-CoVR, CC-CoIR |
| .jsonl | ``q_img``, ``q_text``, ``t_img``, ``hns`` | MegaPairs |

In JSON ``text`` may be a list, all of one triplet; a table has ``text2`` and so on. Several texts of MegaPairs, and
several edits of CC-CoIR, are alternatives: each makes a triplet. Images are paths relative to the folder of images;
those without a suffix, as WebVid's are, are looked for with those of images.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from cirbench.backbones.images.decode import FileImage, image_suffixes
from cirbench.errors import CorruptFile, UsageError, excerpt, quoted, some
from cirbench.protocol import Item, Triplet
from cirbench.support import extras
from cirbench.support.files import sha256_of_file, spelled
from cirbench.support.textfiles import csv_rows, json_rows, numbered_lines, read_bytes, read_text, refused
from cirbench.training.data.columnar import read_parquet
from cirbench.training.data.source import Lazy, Source, identified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

BAR = "|"
"""Separates the negatives in a cell."""
TRIPLET_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Suffixes of files that may list triplets."""

_Weight = Annotated[float, msgspec.Meta(gt=0)]


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


class _Form(msgspec.Struct):
    """A row as a file has it."""

    def rows(self, place: str) -> Iterator[Row]:
        """The triplets that it stands for."""
        raise NotImplementedError


class _Own(_Form):
    reference: str
    text: str | list[str]
    target: str
    negatives: str | list[str] = ""
    group: str | int | None = None
    category: str | None = None
    weight: _Weight = 1.0

    def rows(self, place: str) -> Iterator[Row]:
        texts = (self.text,) if isinstance(self.text, str) else tuple(self.text)
        named = self.negatives.split(BAR) if isinstance(self.negatives, str) else self.negatives
        negatives = tuple(name.strip() for name in named if name.strip())
        group = None if self.group in (None, "") else str(self.group)
        yield Row(place, self.reference, texts, self.target, negatives, group, self.category or None, self.weight)


class _MegaPairs(_Form):
    q_img: str
    q_text: str | list[str]
    t_img: str
    hns: list[str] = []

    def rows(self, place: str) -> Iterator[Row]:
        # The query image is among its own hard negatives.
        negatives = tuple(name for name in self.hns if name != self.q_img)
        for text in [self.q_text] if isinstance(self.q_text, str) else self.q_text:
            yield Row(place, self.q_img, (text,), self.t_img, negatives)


class _Lasco(_Form, rename={"image": "query-image", "text": "query-text", "target": "target-image"}):
    image: tuple[Any, str]
    text: str
    target: tuple[Any, str]

    def rows(self, place: str) -> Iterator[Row]:
        yield Row(place, self.image[1], (self.text,), self.target[1])


class _Covr(_Form):
    pth1: str
    edit: str
    pth2: str

    def rows(self, place: str) -> Iterator[Row]:
        for edit in _alternatives(self.edit):
            yield Row(place, self.pth1, (edit,), self.pth2)


_FORMS: tuple[type[_Form], ...] = (_Own, _MegaPairs, _Lasco, _Covr)
_SHOWN = ("reference, text and target", "q_img, q_text and t_img", "query-image, query-text and target-image",
          "pth1, edit and pth2")  # fmt: skip


def _alternatives(edit: str) -> list[str]:
    """The texts of a cell that may hold the list of a Python program, as CC-CoIR's does."""
    if edit.startswith("[") and edit.endswith("]"):
        try:
            values = ast.literal_eval(edit)
        except (ValueError, SyntaxError):
            return [edit]
        return [str(value) for value in values]
    return [edit]


def names_triplets(fields: Sequence[str]) -> bool:
    """Whether columns or fields are those of a table of triplets, perhaps an incomplete one."""
    return _form_of(fields) is not None or {"reference", "target"} <= set(fields)


def _form_of(fields: Sequence[str]) -> type[_Form] | None:
    given = set(fields)
    return next((form for form in _FORMS if given >= _needed(form)), None)


def _needed(form: type[_Form]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(form) if field.required}


def lists_triplets(path: Path) -> bool:
    """Whether a file lists triplets, by the names of its columns or fields.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not such text.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet" and path.is_file():
        return names_triplets([*read_parquet(path).types])
    if suffix not in TRIPLET_TABLES:
        return False
    text = read_text(path)
    if suffix in (".csv", ".tsv"):
        first = next(numbered_lines(text), (0, ""))[1]
        return names_triplets([name.strip(' "') for name in first.split(_separator(path))])
    keys = re.match(r"\s*\[?\s*(\{.*?[\}\n])", text, re.DOTALL)
    return keys is not None and names_triplets(re.findall(r'"([\w-]+)"\s*:', keys[1]))


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Read a table; return its rows, and the columns or fields that are not used.

    Raises:
        MissingData: It cannot be read, or pyarrow is not installed for a .parquet file.
        CorruptFile: It breaks a rule of its form; the message names the line.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _csv(path, read_text(path))
    if suffix == ".jsonl":
        return _jsonl(path, read_text(path))
    return _objects(path, _json(path) if suffix == ".json" else _parquet(path))


def _csv(path: Path, text: str) -> tuple[list[Row], list[str]]:
    header: list[str] = []

    def check(place: str, names: Sequence[str]) -> None:
        header.extend(names)
        if _form_of(_plain(names)) is None:
            raise refused(place, f"there are no columns {_SHOWN[0]} in {excerpt(', '.join(names))}")

    rows: list[Row] = []
    for number, cells in csv_rows(str(path), text, check, _separator(path)):
        place = f"line {number}"
        named = {name: cells[name] for name in header if name in ("text", "caption") or re.fullmatch(r"text\d+", name)}
        rest = {name: value for name, value in cells.items() if name not in named and value.strip()}
        form = _form_of(_plain(header))
        assert form is not None
        rows += _converted({**rest, "text": list(named.values())} if form is _Own else cells, form, path, place)
    return rows, _unused(_plain(header))


def _plain(names: Sequence[str]) -> list[str]:
    return ["text" if name == "caption" or re.fullmatch(r"text\d+", name) else name for name in names]


def _jsonl(path: Path, text: str) -> tuple[list[Row], list[str]]:
    lines = numbered_lines(text)
    number, first = next(lines, (0, "{}"))
    fields = _fields(first, f"{path}, line {number}")
    form = _required_form(fields, f"{path}, line {number}")
    rows = [row for line, found in json_rows(str(path), text, form) for row in found.rows(f"line {line}")]
    return rows, _unused(fields)


def _fields(line: str, place: str) -> list[str]:
    try:
        return list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise refused(place, excerpt(error)) from error


def _required_form(fields: Sequence[str], place: str) -> type[_Form]:
    form = _form_of(fields)
    if form is None:
        raise refused(place, f"it has none of {some(_SHOWN)}: its fields are {excerpt(', '.join(fields))}")
    return form


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(read_bytes(path), type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptFile(f"{path} is not a list of triplets: {excerpt(error)}.") from error


def _parquet_module() -> Any:
    return extras.require("pyarrow.parquet", extra="parquet", purpose="A .parquet file")


def _parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _parquet_module().read_table(path).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _objects(path: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[str]]:
    if not rows:
        return [], []
    form = _required_form(list(rows[0]), f"{path}, row 1")
    numbered = enumerate(rows, start=1)
    return [row for n, each in numbered for row in _converted(each, form, path, f"row {n}")], _unused(list(rows[0]))


def _converted(values: Mapping[str, Any], form: type[_Form], path: Path, place: str) -> list[Row]:
    try:
        return list(msgspec.convert(values, form, strict=False).rows(place))
    except msgspec.ValidationError as error:
        raise refused(f"{path}, {place}", excerpt(error)) from error


def _unused(fields: Sequence[str]) -> list[str]:
    form = _form_of(fields)
    known = set() if form is None else {field.encode_name for field in msgspec.structs.fields(form)}
    return [excerpt(name) or quoted(name) for name in fields if name not in known]


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
    if unknown := [name for name in named if name not in image_of]:
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
        raise UsageError(f"{path} holds no triplets.", hint=f"Its columns are {_SHOWN[0]}.")
    if unused:
        say(f"{path}: not used: {some(unused)}.")
    names = dict.fromkeys(name for row in rows for name in (row.reference, row.target, *row.negatives))
    found = {each: file for each in names if (file := _file(folder, each)) is not None}
    return triplets_of(name, rows, found, listing=sha256_of_file(path))


def _file(folder: Path, name: str) -> FileImage | None:
    if not name.strip() or "\0" in name:
        return None
    path = spelled(folder, name)
    if path.is_file():
        return FileImage(path)
    if path.suffix.lower().lstrip(".") in image_suffixes():
        return None
    with_suffix = (path.with_name(f"{path.name}.{suffix.lstrip('.')}") for suffix in image_suffixes())
    return next((FileImage(each) for each in with_suffix if each.is_file()), None)
