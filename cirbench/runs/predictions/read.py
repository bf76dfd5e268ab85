"""Read ranked lists in three formats: the CIRCO server's JSON, JSON lines, and a TREC run.

A file's format is recognised by its suffix where that is ``.jsonl``, ``.ndjson``, ``.trec`` or ``.run``, and by its content
otherwise. Only the form is checked here; `cirbench.runs.predictions.lists.check` holds the lists against a protocol.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cirbench.errors import InvalidPredictions, MissingData
from cirbench.runs.predictions.lists import RankedLists

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

MAX_BYTES = 1 << 29
"""Larger files are refused: a thousand ids for each of CIRR's 4,181 queries take a third of it as a TREC run."""

SERVER_LENGTH = 50
"""How many ids the CIRCO server takes per query."""

_FORMATS = (
    'Accepted are {"query": [ids], ...}, lines of {"query_id": ..., "ranking": [ids]}, and TREC runs '
    "(docs/predictions.md)."
)


class _Line(msgspec.Struct, frozen=True):
    query_id: str | int
    ranking: list[str | int]
    group_ranking: list[str | int] | None = None


def read_rankings(path: Path) -> RankedLists:
    """Read the ranked lists of a file.

    Raises:
        MissingData: The file is not there or cannot be read.
        InvalidPredictions: It is in none of the formats, or names a query twice; the message names file and place.
    """
    text = read_text(path)
    return _format(path, text)(str(path), text)


def read_text(path: Path) -> str:
    """Read a whole text file, a byte order mark aside.

    Raises:
        MissingData: The file is not there or cannot be read.
        InvalidPredictions: It is empty, too large or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidPredictions(
                f"{path} is too large: {size:,} bytes, and {MAX_BYTES:,} are allowed.",
                hint="Keep the first ids of each list only.",
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InvalidPredictions(f"{path} is not UTF-8 text: byte {error.start} is invalid.", hint=_FORMATS) from error
    if not text.strip():
        raise InvalidPredictions(f"{path} is empty.", hint=_FORMATS)
    return text


def parse_json(source: str, text: str) -> Any:
    """Decode JSON in which no object has a key twice and every number is finite.

    Raises:
        InvalidPredictions: It is not such JSON; the message names the place.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = next(name for name, count in counts.items() if count > 1)
            raise InvalidPredictions(f"{source}: the key {twice!r} occurs twice.", hint="Keep one list per query.")
        return content

    def refuse(constant: str) -> None:
        raise InvalidPredictions(f"{source}: {constant} is not a valid id.", hint=_FORMATS)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated string")
        cut = " The file seems to be cut off." if ended else ""
        raise InvalidPredictions(
            f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.{cut}", hint=_FORMATS
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidPredictions(f"{source} is not JSON of ids: {error}.", hint=_FORMATS) from error


def _format(path: Path, text: str) -> Callable[[str, str], RankedLists]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _json_lines
    if suffix in (".trec", ".run"):
        return _trec_run
    if text.lstrip()[0] == "{":
        return _json_lines if _opens_with_a_line(text) else _server_json
    return _server_json if suffix == ".json" or text.lstrip()[0] in '["' else _trec_run


def _opens_with_a_line(text: str) -> bool:
    """Whether the first line alone is an object with a query id, as in JSON lines."""
    try:
        first = json.loads(text.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "query_id" in first


def _server_json(source: str, text: str) -> RankedLists:
    """Read CIRCO's server format: one object from query id to a list of exactly 50 ids."""
    content = parse_json(source, text)
    if not isinstance(content, dict):
        raise InvalidPredictions(
            f"{source} must hold one JSON object from query id to a list of ids, not {_kind(content)}.", hint=_FORMATS
        )
    rankings = {query: _typed(source, f"query {query!r}", value, list[str | int]) for query, value in content.items()}
    return RankedLists(source, {query: _ids(ids) for query, ids in rankings.items()}, exact_length=SERVER_LENGTH)


def _json_lines(source: str, text: str) -> RankedLists:
    """Read lines of ``{"query_id", "ranking", "group_ranking"}``; the last is optional, other fields are ignored."""
    rankings: dict[str, tuple[str, ...]] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        row = _typed(source, place, parse_json(f"{source}: {place}", line), _Line)
        query = str(row.query_id)
        if query in rankings:
            raise InvalidPredictions(
                f"{source}: {place}: query {query!r} occurs twice.", hint="Keep one line per query."
            )
        rankings[query] = _ids(row.ranking)
        if row.group_ranking is not None:
            groups[query] = _ids(row.group_ranking)
    return RankedLists(source, rankings, groups)


def _trec_run(source: str, text: str) -> RankedLists:
    """Read lines of ``query Q0 item rank score tag``.

    Lists are ordered by descending score; equal scores by the given rank, and then in the order of the file.
    """
    rows: dict[str, list[tuple[float, int, str]]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        place = f"{source}: line {number}"
        if len(fields) != 6:
            raise InvalidPredictions(
                f"{place} holds {len(fields)} fields, and a TREC run has six: query Q0 item rank score tag.",
                hint=_FORMATS,
            )
        query, _, item, rank, score, _ = fields
        try:
            row = (-float(score), int(rank), item)
        except ValueError as error:
            raise InvalidPredictions(
                f"{place}: query {query!r}: rank {rank!r} must be a whole number and score {score!r} a number.",
                hint=_FORMATS,
            ) from error
        if not math.isfinite(row[0]):
            raise InvalidPredictions(f"{place}: query {query!r}: the score {score} is not finite.", hint=_FORMATS)
        rows.setdefault(query, []).append(row)
    for ranked in rows.values():
        ranked.sort(key=lambda row: row[:2])
    return RankedLists(source, {query: tuple(item for _, _, item in ranked) for query, ranked in rows.items()})


def _typed(source: str, place: str, value: Any, type: type[T]) -> T:
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        raise InvalidPredictions(
            f"{source}: {place} has the wrong form: {error}.", hint=f"Ids are text or whole numbers. {_FORMATS}"
        ) from error


def _ids(names: list[str | int]) -> tuple[str, ...]:
    return tuple(str(name) for name in names)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
    return names.get(type(value), "null")
