"""The table of queries of your own data: CSV with a header, or one JSON object a line.

| column | |
|---|---|
| `query_id` | unique, without white space |
| `reference` | an image |
| `text` | what to change; in JSON also a list of several texts |
| `targets` | the right answers, separated by a vertical bar; left out where nobody knows them |
| `group` | optional: similar images among which the target is to be told, separated by a vertical bar |
| `aspect` | optional: labels to report separately, separated by a vertical bar |
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
from typing import TYPE_CHECKING

import msgspec

from cirbench.datasets.annotation import read
from cirbench.errors import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

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
            raise refused(row.place, f"the query id {row.id} stands already in {lines[row.id].rpartition(', ')[2]}")
        lines[row.id] = row.place
        for what in ("targets", "group"):
            if bool(getattr(row, what)) != bool(getattr(rows[0], what)):
                raise refused(row.place, f"{what} must be given for every query or for none")
    return rows


def refused(place: str, problem: str, hint: str | None = None) -> CorruptFile:
    """Say what is wrong in a line."""
    return CorruptFile(f"{place}: {problem}.", hint=hint)


def _text(path: Path) -> str:
    content = read(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refused(f"{path}, line {line}", "it is not UTF-8", "Save the file as UTF-8.") from error
    if not text.strip():
        raise CorruptFile(f"{path} is empty.", hint=f"Its columns are {', '.join(COLUMNS)}.")
    return text


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        _check_header(f"{path}, line 1", header)
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                hint = "Put a text that holds a comma between double quotes."
                raise refused(place, f"it has {len(cells)} cells, and the header has {len(header)}", hint)
            yield _row(place, _Fields(**dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise refused(f"{path}, line {reader.line_num}", str(error)) from error


def _check_header(place: str, header: Sequence[str]) -> None:
    for name in REQUIRED:
        if name not in header:
            raise refused(place, f"there is no column {name}", f"The first line must name {', '.join(REQUIRED)}.")
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"Nearest: {near[0]}." if near else f"Columns are {', '.join(COLUMNS)}."
            raise refused(place, f"the column {name!r} means nothing here", hint)
        if header.count(name) > 1:
            raise refused(place, f"the column {name} stands twice")


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                fields = msgspec.json.decode(line, type=_Fields)
            except (msgspec.DecodeError, RecursionError) as error:
                raise refused(place, str(error), f"Fields are {', '.join(COLUMNS)}.") from error
            yield _row(place, fields)


def _row(place: str, fields: _Fields) -> Row:
    name, reference = str(fields.query_id).strip(), fields.reference.strip()
    texts = (fields.text,) if isinstance(fields.text, str) else tuple(fields.text)
    if name.split() != [name]:
        why = f"the query id {name!r} holds white space, which separates the fields of TREC files"
        raise refused(place, why if name else "the query id is empty")
    if not reference:
        raise refused(place, "the reference is empty")
    if not texts or not all(map(str.strip, texts)):
        raise refused(place, "the text is empty")
    return Row(place, name, reference, texts, _parts(fields.targets), _parts(fields.group), _parts(fields.aspect))


def _parts(written: str | Sequence[str]) -> tuple[str, ...]:
    parts = written.split(BAR) if isinstance(written, str) else written
    return tuple(filter(None, map(str.strip, parts)))
