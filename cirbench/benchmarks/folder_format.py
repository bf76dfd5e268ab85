"""What is written in a folder of one's own: tables of queries, and ``dataset.toml``.

A table, one query a row:

| column | |
|---|---|
| `query_id` | unique, without white space |
| `reference` | an image |
| `text` | what to change; in JSON also a list of several texts |
| `targets` | the right answers, separated by a vertical bar; left out where nobody knows them |
| `group` | optional: similar images among which the target must be found, separated by a vertical bar |
| `aspect` | optional: labels to report separately, separated by a vertical bar |
| `candidates` | optional: the only images that the query ranks, separated by a vertical bar |
| `negatives` | optional: images that are known to be wrong answers, separated by a vertical bar |
| any other | kept: a number can be asked for by it (``--by category``) |

``dataset.toml`` says what goes beyond images and a table; it is optional, like every key in it:

    title = "Chairs, photographed twice"
    licence = "CC BY 4.0"
    citation = "..."
    keep_reference = true                           # the reference stays among the candidates of its own query
    measures = ["Recall@1", "Recall@10 by category"]  # the first is the headline; by: each part, and their mean
    gallery_by = "category"                         # a query ranks gallery/VALUE only, by a column of the table

    [splits.val]                                    # several tables; without any, queries.csv is the split "all"
    queries = "val.csv"
    [splits.test]
    queries = "test.csv"
    gallery = "test-images"
    hidden_labels = true                            # rankings are written, and nothing is measured

A split takes each key of the second kind (`SPLIT_KEYS`) from the top where it does not say it itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.errors import CirbenchError, CorruptFile, excerpt, quoted
from cirbench.metrics.table import METRICS, Measure
from cirbench.support.console import say_once
from cirbench.support.textfiles import SEPARATORS, csv_rows, json_rows, nfc, numbered_lines, read_text, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

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
        candidates: Name images; empty where the query ranks the gallery.
        negatives: Name images.
        more: Further columns.
    """

    place: str
    id: str
    reference: str
    texts: tuple[str, ...]
    targets: tuple[str, ...]
    group: tuple[str, ...]
    aspects: tuple[str, ...]
    candidates: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    more: Mapping[str, str] = dataclasses.field(default_factory=dict)


class _Fields(msgspec.Struct, frozen=True):
    query_id: str | int
    reference: str
    text: str | list[str]
    targets: str | list[str] = ""
    group: str | list[str] = ""
    aspect: str | list[str] = ""
    candidates: str | list[str] = ""
    negatives: str | list[str] = ""


REQUIRED = ("query_id", "reference", "text")
COLUMNS = _Fields.__struct_fields__


def read_table(path: Path) -> list[Row]:
    """Read a table of queries.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It breaks a rule; the message names the line.
    """
    text = _text(path)
    rows = list(_json_rows(path, text) if path.suffix == ".jsonl" else _csv_rows(path, text))
    if not rows:
        raise CorruptFile(f"{path} holds no queries.", hint=f"Its columns are {', '.join(COLUMNS)}.")
    lines: dict[str, str] = {}
    for row in rows:
        if row.id in lines:
            raise refused(
                row.place, f"the query id {excerpt(row.id)} is already in {lines[row.id].rpartition(', ')[2]}"
            )
        lines[row.id] = row.place
        for what in ("targets", "group", "candidates"):
            if bool(getattr(row, what)) != bool(getattr(rows[0], what)):
                raise refused(row.place, f"{what} must be given for every query or for none")
    return rows


def _text(path: Path) -> str:
    text = read_text(path)
    if not text.strip():
        raise CorruptFile(f"{path} is empty.", hint=f"Its columns are {', '.join(COLUMNS)}.")
    return text


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    for number, cells in csv_rows(str(path), text, _check_header, _separator(path, text)):
        known = {name: cell for name, cell in cells.items() if name in COLUMNS}
        more = {name: cell for name, cell in cells.items() if name not in COLUMNS}
        yield _row(f"{path}, line {number}", _Fields(**known), more)


def _separator(path: Path, text: str) -> str:
    """Find what parts the cells: the sign of the file's name, or the only other one that gives the columns."""
    usual = "\t" if path.suffix == ".tsv" else ","
    header = text.partition("\n")[0]
    fitting = [sign for sign in SEPARATORS if {*REQUIRED} <= {name.strip(' \r"') for name in header.split(sign)}]
    if usual in fitting or len(fitting) != 1:
        return usual
    say_once(f"{path}: its columns are separated by {SEPARATORS[fitting[0]]}.")
    return fitting[0]


def _check_header(place: str, header: Sequence[str]) -> None:
    for name in REQUIRED:
        if name not in header:
            raise refused(place, f"there is no column {name}", f"The first line must name {', '.join(REQUIRED)}.")
    for name in header:
        _check_column(place, name)


def _check_column(place: str, name: str) -> None:
    """Refuse a column that is a slip of the pen, or cannot be asked for; keep any other."""
    if name in COLUMNS:
        return
    if near := difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.8):
        raise refused(place, f"the column {quoted(name)} means nothing here", f"Nearest: {near[0]}.")
    if not re.fullmatch(r"\w[\w -]*", name):
        why = f"the column {quoted(name)} cannot be asked for by its name"
        raise refused(place, why, "Name it by letters, digits, spaces, - and _; pandas: df.to_csv(..., index=False).")


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    lines = dict(numbered_lines(text))
    for number, fields in json_rows(str(path), text, _Fields, f"Fields are {', '.join(COLUMNS)}."):
        place, more = f"{path}, line {number}", {}
        for name, value in msgspec.json.decode(lines[number], type=dict[str, object]).items():
            _check_column(place, name)
            if isinstance(value, dict | list) and name not in COLUMNS:
                raise refused(place, f"the field {quoted(name)} holds neither a text nor a number")
            if name not in COLUMNS and value is not None:
                more[name] = str(value)
        yield _row(place, fields, more)


NOT_A_NUMBER = {"nan", "NaN", "<NA>"}
FRACTION = re.compile(r"\d+\.0")


def _row(place: str, fields: _Fields, more: Mapping[str, str]) -> Row:
    _refuse_missing(place, fields)
    name, reference = nfc(str(fields.query_id).strip()), nfc(fields.reference.strip())
    texts = (fields.text,) if isinstance(fields.text, str) else tuple(fields.text)
    if name.split() != [name]:
        why = f"the query id {quoted(name)} holds white space, which separates the fields of TREC files"
        raise refused(place, why if name else "the query id is empty")
    if not reference:
        raise refused(place, "the reference is empty")
    if not texts or not all(map(str.strip, texts)):
        raise refused(place, "the text is empty")
    return Row(
        place,
        name,
        reference,
        texts,
        _parts(fields.targets),
        _parts(fields.group),
        _parts(fields.aspect),
        _parts(fields.candidates),
        _parts(fields.negatives),
        {key: nfc(value.strip()) for key, value in more.items()},
    )


def _refuse_missing(place: str, fields: _Fields) -> None:
    """Refuse what pandas writes for a missing value, and for a whole number in a column with missing ones."""
    for column in COLUMNS:
        value = getattr(fields, column)
        if isinstance(value, str) and value.strip() in NOT_A_NUMBER:
            why = f"{column} is {quoted(value.strip())}, which is how pandas writes a missing value"
            raise refused(place, why, "Drop the row, or write an empty cell: df.fillna('').")
    if isinstance(fields.query_id, str) and FRACTION.fullmatch(fields.query_id.strip()):
        why = f"the query id is {quoted(fields.query_id)}, which is how pandas writes a whole number among missing ones"
        raise refused(place, why, "Write whole numbers: df['query_id'].astype('Int64').")


def _parts(written: str | Sequence[str]) -> tuple[str, ...]:
    parts = written.split(BAR) if isinstance(written, str) else written
    return tuple(nfc(part.strip()) for part in parts if part.strip())


FILE = "dataset.toml"
ALL = "all"
"""The split of a folder that names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class SplitSettings:
    """One split of a folder.

    Attributes:
        queries: Its table, relative to the folder; ``None`` for the usual names.
        gallery: The folder of its images; ``None`` for the usual names.
        gallery_by: The column that says which folder of the gallery a query ranks; ``None`` for all of it.
        keep_reference: Whether the reference is a candidate of its own query.
        measures: What is reported; ``None`` for what the table allows.
        hidden_labels: Whether targets are kept back, so that there are rankings and no numbers.
    """

    queries: str | None = None
    gallery: str | None = None
    gallery_by: str | None = None
    keep_reference: bool = False
    measures: tuple[Measure, ...] | None = None
    hidden_labels: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FolderSettings:
    """What ``dataset.toml`` says.

    Attributes:
        title: One line; ``None`` for the usual one.
        licence: Of the annotations.
        citation: The paper.
        default_split: The split of runs that name none.
        splits: By name, at least one.
    """

    title: str | None = None
    licence: str = "your own"
    citation: str = ""
    default_split: str = ALL
    splits: Mapping[str, SplitSettings] = dataclasses.field(default_factory=lambda: {ALL: SplitSettings()})


SPLIT_KEYS = tuple(field.name for field in dataclasses.fields(SplitSettings))
TOP_KEYS = ("title", "licence", "citation", "default_split", "splits", *SPLIT_KEYS)
_TYPES = {"keep_reference": bool, "hidden_labels": bool, "measures": list, "splits": dict}
_WORDS = {bool: "true or false", list: "a list of texts", dict: "a table of splits", str: "a text in quotes"}


def read_settings(folder: Path) -> FolderSettings:
    """Read ``dataset.toml`` of a folder, or return what holds without one.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not TOML, or a key or value means nothing; the message names it, and near names.
    """
    path = folder / FILE
    if not path.is_file():
        return FolderSettings()
    try:
        content = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise refused(str(path), f"it is not TOML: {excerpt(error)}") from error
    _check_keys(str(path), content, TOP_KEYS)
    shared = {key: value for key, value in content.items() if key in SPLIT_KEYS}
    tables = content.get("splits", {})
    if tables and "queries" in shared:
        raise refused(str(path), "queries is said at the top and by splits", "Leave it out at the top.")
    splits: dict[str, SplitSettings] = {}
    for name, table in tables.items():
        place = f"{path}, splits.{name}"
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise refused(place, f"{quoted(name)} cannot be the name of a split", "Use a-z, 0-9, - and _.")
        if not isinstance(table, dict):
            raise refused(place, "it is not a table", f"Write [splits.{name}] and its keys below.")
        _check_keys(place, table, SPLIT_KEYS)
        splits[name] = _split(place, {**shared, **table})
        if splits[name].queries is None:
            raise refused(place, "it does not say its table of queries", f'For instance: queries = "{name}.csv"')
    splits = splits or {ALL: _split(str(path), shared)}
    default = content.get("default_split", next((each for each in ("val", ALL) if each in splits), next(iter(splits))))
    if default not in splits:
        near = f"Splits are {', '.join(splits)}."
        raise refused(str(path), f"default_split is {quoted(default)}, and there is no such split", near)
    return FolderSettings(
        title=content.get("title"),
        licence=content.get("licence", "your own"),
        citation=content.get("citation", ""),
        default_split=default,
        splits=splits,
    )


def _check_keys(place: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Nearest: {near[0]}." if near else f"Keys are {', '.join(known)}."
            raise refused(place, f"the key {quoted(key)} means nothing here", hint)
        wanted = _TYPES.get(key, str)
        if not isinstance(value, wanted):
            raise refused(place, f"{key} is {quoted(value)}, and must be {_WORDS[wanted]}")
        if isinstance(value, str) and not value.strip():
            raise refused(place, f"{key} is empty", "Leave it out, or say something.")


def _split(place: str, table: Mapping[str, Any]) -> SplitSettings:
    for key in ("queries", "gallery"):
        path = PurePosixPath(table.get(key, ""))
        if path.is_absolute() or ".." in path.parts:
            raise refused(place, f"{key} is {quoted(table[key])}, which leaves the folder", "Copy it into the folder.")
    measures = None if "measures" not in table else tuple(_measure(place, text) for text in table["measures"])
    if measures == ():
        raise refused(place, "measures is empty", 'For instance: measures = ["Recall@1", "Recall@10"]')
    return SplitSettings(**{**table, "measures": measures})


def _measure(place: str, text: object) -> Measure:
    """Read ``"Recall@10"`` or ``"Recall@10 by category"``."""
    if not isinstance(text, str):
        raise refused(place, f"measures holds {quoted(text)}, and must be {_WORDS[list]}")
    label, _, by = (part.strip() for part in text.partition(" by "))
    name, at, k = label.partition("@")
    try:
        metric = METRICS.find(name) if ":" not in name else None
    except CirbenchError as error:
        raise refused(place, f"measures: {error.message.rstrip('.')}", error.hint) from error
    if at and not (k.isascii() and k.isdecimal()):
        raise refused(place, f"measures: {quoted(text)} has no cut-off", 'For instance: "Recall@10"')
    cutoff = None if metric is None else metric.cutoff(k if at else None)
    if metric is None or cutoff is None:
        raise refused(place, f"measures: {quoted(text)} is not a metric at a cut-off", 'For instance: "Recall@10"')
    if metric.unit != "%" or metric.needs == "gains":
        why = "is a median" if metric.unit != "%" else "needs soft labels, which a folder cannot hold"
        raise refused(
            place, f"measures: {name} {why}", f"`--metric {name}` reports it." if metric.unit != "%" else None
        )
    return Measure(name, cutoff, by=by or None, macro=bool(by))
