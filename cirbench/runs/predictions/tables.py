"""Rankings in tables: CSV, TSV and Parquet with a query, an item, and a rank, a score or a distance in each row."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from cirbench.errors import CorruptFile, InvalidPredictions, excerpt, quoted, some
from cirbench.support.needs import require
from cirbench.support.textfiles import SEPARATORS, csv_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = {
    "query": ("query", "query_id", "qid", "q_id", "pairid", "pair_id", "topic"),
    "item": (
        *("item", "item_id", "doc", "doc_id", "docid", "docno", "corpus_id", "candidate", "candidate_id"),
        *("image", "image_id", "img_id", "gallery_id", "retrieved"),
    ),
    "rank": ("rank", "position"),
    "score": ("score", "similarity", "sim"),
    "distance": ("distance", "dist"),
}
"""By what a column is, the names that it may have; case, blanks and hyphens aside."""

_COLUMNS = "Its columns must be a query, an item, and a rank, a score or a distance (docs/predictions.md)."


@dataclasses.dataclass(frozen=True, slots=True)
class RankedRow:
    """One row of a ranking.

    Attributes:
        query: Its id.
        item: The id of the item.
        rank: Its place in the list of the query, the smallest first; ``None`` where there are scores alone.
        score: The higher, the better; ``None`` where there are ranks alone.
    """

    query: str
    item: str
    rank: int | None
    score: float | None

    def __str__(self) -> str:
        return f"{quoted(self.item, 40)} (rank {self.rank}, score {self.score:.9g})"


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        columns: Their names, as they are compared: lower case, with underscores.
        rows: Each with the number of its line.
        separator: What separates cells.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]
    separator: str


def looks_like_table(text: str) -> bool:
    """Whether the first line names the columns of a ranking."""
    first = text.lstrip().split("\n", 1)[0]
    return any({"query", "item"} <= _roles(_plain(first.split(sign))).keys() for sign in SEPARATORS)


def read_table(source: str, text: str) -> TextTable:
    """Read a table of text whose first line names the columns.

    Raises:
        InvalidPredictions: Its quotes or cells are out of order; the message names the line.
    """
    first = text.lstrip("\n").split("\n", 1)[0]
    separator = max(SEPARATORS, key=first.count)
    names: list[str] = []

    def take(place: str, header: Sequence[str]) -> None:
        names.extend(_plain(header))
        if len(set(names)) < len(names):
            raise InvalidPredictions(f"{place}: two columns have one name: {some(header)}.")

    try:
        rows = [
            (line, dict(zip(names, row.values(), strict=True)))
            for line, row in csv_rows(source, text, take, separator=separator)
        ]
    except CorruptFile as error:
        raise InvalidPredictions(error.message, hint=error.hint) from error
    return TextTable(tuple(names), rows, separator)


def ranked_rows(source: str, text: str) -> tuple[list[RankedRow], tuple[str, ...]]:
    """Read the rows of a ranking from a table of text, and how it was understood.

    Raises:
        InvalidPredictions: It has no such columns, or a row breaks a rule; the message names the line.
    """
    table = read_table(source, text)
    roles = _required(source, table.columns)
    rows = [
        _row(f"{source}: line {line}", {role: row[name] for role, name in roles.items()}) for line, row in table.rows
    ]
    return rows, _said(source, table.columns, roles, f"its columns are separated by {SEPARATORS[table.separator]}")


def parquet_rows(path: Path) -> tuple[list[RankedRow], tuple[str, ...]]:
    """Read the rows of a ranking from a Parquet file, and how it was understood.

    Raises:
        MissingData: pyarrow is not installed.
        InvalidPredictions: The file is damaged, has no such columns, or a row breaks a rule.
    """
    parquet = require("pyarrow.parquet", extra="parquet", purpose="A Parquet file")
    try:
        names = parquet.read_schema(path).names
        roles = _required(str(path), _plain(names))
        wanted = {role: names[_plain(names).index(name)] for role, name in roles.items()}
        columns = parquet.read_table(path, columns=[*wanted.values()]).to_pydict()
    except (OSError, ValueError) as error:
        raise InvalidPredictions(f"{path} is not a whole Parquet file: {excerpt(error)}.") from error
    cells = zip(*(columns[name] for name in wanted.values()), strict=True)
    rows = [_row(f"{path}: row {at}", dict(zip(wanted, row, strict=True))) for at, row in enumerate(cells, start=1)]
    return rows, _said(str(path), _plain(names), roles)


def _plain(names: Sequence[str]) -> list[str]:
    return ["_".join(name.strip().strip('"').lower().replace("-", " ").split()) for name in names]


def _roles(columns: Sequence[str]) -> dict[str, str]:
    """By what a column is, its name; nothing where two columns may be the same."""
    found = {role: [name for name in columns if name in names] for role, names in NAMES.items()}
    return {role: names[0] for role, names in found.items() if len(names) == 1}


def _required(source: str, columns: Sequence[str]) -> dict[str, str]:
    roles = _roles(columns)
    for role, names in NAMES.items():
        if len(several := [name for name in columns if name in names]) > 1:
            raise InvalidPredictions(
                f"{source}: {' and '.join(several)} may both be the {role} of a row.",
                hint="Remove or rename one of them.",
            )
    lacking = [role for role in ("query", "item") if role not in roles]
    if lacking or not {"rank", "score", "distance"} & roles.keys():
        needs = " and the ".join(lacking) if lacking else "rank, a score or a distance"
        shown = some([name or "(no name)" for name in columns])
        raise InvalidPredictions(f"{source} has no column for the {needs}: its columns are {shown}.", hint=_COLUMNS)
    if {"score", "distance"} <= roles.keys():
        raise InvalidPredictions(
            f"{source} has scores and distances, which may order rows differently.", hint="Keep the one that is meant."
        )
    return roles


def _said(source: str, columns: Sequence[str], roles: dict[str, str], *facts: str) -> tuple[str, ...]:
    taken = ", ".join(f"{name} as {role}" if name != role else role for role, name in roles.items())
    unused = [name or "(no name)" for name in columns if name not in roles.values()]
    return (
        f"{'; '.join([f'{source} is a table of {taken}', *facts])}" + (f"; not used: {some(unused)}" if unused else ""),
    )


def _row(place: str, cells: dict[str, Any]) -> RankedRow:
    rank = _number(place, "rank", cells["rank"]) if "rank" in cells else None
    if rank is not None and not rank.is_integer():
        raise InvalidPredictions(f"{place}: the rank {quoted(cells['rank'])} is not a whole number.")
    score = _number(place, "score", cells["score"]) if "score" in cells else None
    if "distance" in cells:
        score = -_number(place, "distance", cells["distance"])
    return RankedRow(
        _id(place, "query", cells["query"]),
        _id(place, "item", cells["item"]),
        None if rank is None else int(rank),
        score,
    )


def _id(place: str, kind: str, value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, float):
        raise InvalidPredictions(
            f"{place}: the {kind} is {value}, a fractional number, and ids are text or whole numbers.",
            hint="pandas makes fractions of whole numbers where some are missing: read the column with dtype=str.",
        )
    if type(value) not in (str, int) or not (text := str(value).strip()):
        raise InvalidPredictions(f"{place}: the {kind} is missing.", hint="Each row has a query and an item.")
    return text


def _number(place: str, kind: str, value: Any) -> float:
    try:
        if isinstance(value, str) and "_" in value:  # which Python would take
            raise ValueError
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidPredictions(f"{place}: the {kind} {quoted(value)} is not a number.") from error
    if not math.isfinite(number):
        raise InvalidPredictions(f"{place}: the {kind} {quoted(value)} is not finite.")
    return number
