"""The ids of rows: read from the forms in which people and benchmarks have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.errors import InvalidPredictions, excerpt, quoted, some
from cirbench.runs.predictions.lists import decoded, parse_json, read_content
from cirbench.runs.predictions.tables import read_table
from cirbench.support.textfiles import numbered_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cirbench.protocol import Query

_ID_FIELDS = ("query_id", "pairid", "id")
"""Where an object of a benchmark's annotations has its id: one's own queries, CIRR's captions, CIRCO's annotations."""
_CAPTION_FIELDS = ("captions", "caption", "relative_caption", "condition")
_ID_COLUMNS = ("id", "query_id", "pairid", "item_id", "image_id", "query", "item", "image")

_ID_FORMS = (
    "Accepted are lines of ids, a JSON list of ids, an object whose keys are ids (as CIRR's split files), a list of "
    "objects with query_id, pairid or id (as CIRR's captions), COCO's lists of images, tables with a column of ids, "
    "and .npy files of text."
)
_NUMPY = b"\x93NUMPY"


def read_ids(path: Path, queries: Sequence[Query] = ()) -> tuple[str, ...]:
    """Read the ids of rows, from any of the forms in which people and benchmarks have them.

    These are: a line each; a JSON list of texts or whole numbers; a JSON object whose keys are the ids, as CIRR's split
    files; a JSON list or JSON lines of objects with ``query_id``, ``pairid`` (CIRR's captions) or ``id`` (CIRCO's
    annotations); COCO's ``{"images": [{"id": ...}]}``; a table (``.csv``, ``.tsv``) with a column of ids; an ``.npy``
    file of text or whole numbers. Annotations without ids, such as those of FashionIQ and GeneCIS, are found among the
    queries of the protocol by their captions.

    Args:
        path: The file.
        queries: Those of the protocol, for annotations without ids.

    Raises:
        MissingData: The file does not exist or cannot be read.
        InvalidPredictions: It is empty, in no such form, or holds an id twice.
    """
    content = read_content(path)
    if content.startswith(_NUMPY):
        return distinct(str(path), _ids_of_array(path))
    return distinct(str(path), _ids_of_text(path, decoded(path, content), queries))


def ids_of(source: str, ids: Iterable[Any]) -> tuple[str, ...]:
    """Take ids that are in memory, texts or whole numbers; ``source`` is what messages call them.

    Raises:
        InvalidPredictions: There are none, one is neither, or one is there twice.
    """
    return distinct(source, plain_ids(source, ids))


def plain_ids(source: str, ids: Iterable[Any]) -> tuple[str, ...]:
    """Take ids as `ids_of` does, whether or not they differ."""
    plain = (each.item() if isinstance(each, np.generic) else each for each in ids)
    return tuple(str(_id(source, each)) for each in plain)


def distinct(source: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse ids of which there are none, one is empty, or one is there twice.

    Raises:
        InvalidPredictions: They are; the message names the places.
    """
    if not names:
        raise InvalidPredictions(f"{source} holds no ids.", hint=_ID_FORMS)
    if "" in names:
        raise InvalidPredictions(f"{source}: the id at place {names.index('') + 1} is empty.")
    if len(set(names)) < len(names):
        seen: dict[str, int] = {}
        for place, name in enumerate(names, start=1):
            if name in seen:
                raise InvalidPredictions(f"{source}: the id {quoted(name)} is at places {seen[name]} and {place}.")
            seen[name] = place
    return names


def _ids_of_array(path: Path) -> tuple[str, ...]:
    how = "Write it with numpy.save(path, numpy.array(ids, dtype=str))."
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        raise InvalidPredictions(f"{path} is not a whole .npy file of ids: {excerpt(error)}.", hint=how) from error
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise InvalidPredictions(f"{path} holds {array.dtype} of shape {array.shape}, not a row of ids.", hint=how)
    try:
        return tuple(str(name.decode() if isinstance(name, bytes) else name) for name in array.tolist())
    except UnicodeDecodeError as error:
        raise InvalidPredictions(f"{path} holds bytes that are not UTF-8.", hint=how) from error


def _ids_of_text(path: Path, text: str, queries: Sequence[Query]) -> tuple[str, ...]:
    if not text.strip():
        raise InvalidPredictions(f"{path} is empty.", hint=_ID_FORMS)
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        lines = [(number, parse_json(f"{path}: line {number}", line)) for number, line in numbered_lines(text)]
        return tuple(str(_id(f"{path}: line {number}", value)) for number, value in lines)
    if suffix in (".csv", ".tsv"):
        return _ids_of_table(path, text)
    if text.lstrip()[0] not in "[{":
        return tuple(line.strip() for line in text.rstrip().split("\n"))
    content = parse_json(str(path), text)
    if isinstance(content, dict):
        content = content["images"] if isinstance(content.get("images"), list) else [*content]
    if content and all(
        isinstance(value, dict) and not any(field in value for field in _ID_FIELDS) for value in content
    ):
        return _ids_by_captions(path, content, queries)
    return tuple(str(_id(f"{path}", value)) for value in content)


def _ids_of_table(path: Path, text: str) -> tuple[str, ...]:
    table = read_table(str(path), text)
    column = next((name for name in _ID_COLUMNS if name in table.columns), None)
    if column is None and len(table.columns) == 1:
        (column,) = table.columns
    if column is None:
        raise InvalidPredictions(
            f"{path} has no column of ids: {some(table.columns)}.",
            hint=f"Name it {_ID_COLUMNS[0]}, or give a list of ids.",
        )
    return tuple(row[column] for _, row in table.rows)


def _ids_by_captions(path: Path, rows: Sequence[Mapping[str, Any]], queries: Sequence[Query]) -> tuple[str, ...]:
    """Find annotations without ids as a run of queries of the protocol with the same captions in the same order."""
    given = [_captions(row) for row in rows]
    asked = [query.captions for query in queries]
    starts = [at for at in range(len(asked) - len(given) + 1) if asked[at : at + len(given)] == given]
    if None in given or not starts:
        raise InvalidPredictions(
            f"{path}: {quoted(rows[0])} has no {', '.join(_ID_FIELDS[:-1])} or {_ID_FIELDS[-1]}, and the captions of "
            f"its {len(rows)} entries are not those of queries in their order.",
            hint=_ID_FORMS,
        )
    if len(starts) > 1:
        raise InvalidPredictions(f"{path} may be of the queries from {some([queries[at].id for at in starts])} on.")
    return tuple(query.id for query in queries[starts[0] : starts[0] + len(given)])


def _captions(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    found = next((row[field] for field in _CAPTION_FIELDS if field in row), None)
    return (found,) if isinstance(found, str) else tuple(found) if isinstance(found, list) else None


def _id(place: str, value: Any) -> str | int:
    """The id that an entry of a list is, or has."""
    if isinstance(value, dict):
        field = next((name for name in _ID_FIELDS if name in value), None)
        if field is None:
            raise InvalidPredictions(
                f"{place}: {quoted(value)} has no {', '.join(_ID_FIELDS[:-1])} or {_ID_FIELDS[-1]}.", hint=_ID_FORMS
            )
        value = value[field]
    if type(value) not in (str, int):
        raise InvalidPredictions(f"{place}: {quoted(value)} is not a valid id.", hint="Ids are text or whole numbers.")
    return value  # type: ignore[no-any-return]
