"""Ranked lists: read into a ranking under a protocol, and written from one.

The suffix says the format if it is ``.jsonl``, ``.ndjson``, ``.trec`` or ``.run``; otherwise the content does. Only the
form is checked here; `cirbench.runs.predictions.score` checks it against a protocol.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np

from cirbench.errors import CheckFailed, CorruptFile, InvalidPredictions, MissingData, UsageError, excerpt, quoted
from cirbench.support.files import write_text
from cirbench.support.textfiles import decode_text, numbered_lines, read_bytes, refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.ranking.task import Ranking


def write_jsonl(path: Path, protocol: EvaluationProtocol, ranking: Ranking) -> None:
    """Write one line per query: its id, the first gallery ids, and the ranking of its group where there is one."""
    ids = _gallery_ids(protocol)
    lines = []
    for place, query in enumerate(protocol.queries):
        row: dict[str, object] = {"query_id": query.id, "ranking": _names(ranking.top_QK[place], ids)}
        if ranking.group_top_QK is not None:
            row["group_ranking"] = _names(ranking.group_top_QK[place], ids)
        lines.append(json.dumps(row, ensure_ascii=False))
    write_text(path, _joined(lines))


def write_trec(path: Path, protocol: EvaluationProtocol, ranking: Ranking, *, tag: str = "cirbench") -> None:
    """Write a TREC run: ``query Q0 item rank score tag``, scores with the nine digits that keep a float32.

    Raises:
        CheckFailed: An id holds white space, which separates the fields of this format.
    """
    ids = _gallery_ids(protocol)
    lines = []
    for place, query in enumerate(protocol.queries):
        names = _names(ranking.top_QK[place], ids)
        _refuse_spaces([query.id, *names], path)
        scores = ranking.scores_QK[place].tolist()
        lines += [
            f"{query.id} Q0 {name} {rank} {score:.9g} {tag}"
            for rank, (name, score) in enumerate(zip(names, scores, strict=False), start=1)
        ]
    write_text(path, _joined(lines))


def write_qrels(path: Path, protocol: EvaluationProtocol) -> None:
    """Write the ground truths as TREC qrels: ``query 0 item 1``.

    Raises:
        MissingData: The protocol has no public labels.
        CheckFailed: An id holds white space, which separates the fields of this format.
    """
    if protocol.labels is None:
        raise MissingData(f"The ground truths of {protocol.name} are not public.")
    lines = []
    for query, names in zip(protocol.queries, protocol.labels.relevant, strict=True):
        _refuse_spaces([query.id, *names], path)
        lines += [f"{query.id} 0 {name} 1" for name in names]
    write_text(path, _joined(lines))


def _gallery_ids(protocol: EvaluationProtocol) -> tuple[str, ...]:
    if protocol.gallery is None:
        raise MissingData(f"The gallery of {protocol.name} is not available, so positions cannot be named.")
    return protocol.gallery.ids


def _names(top_K: NDArray[np.int64], ids: tuple[str, ...]) -> list[str]:
    return [ids[position] for position in top_K.tolist() if position >= 0]


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _refuse_spaces(names: Iterable[str], path: Path) -> None:
    for name in names:
        if not name or name.split() != [name]:
            raise CheckFailed(
                f"The id {quoted(name)} cannot be written to {path}: white space separates the fields of a TREC file.",
                hint="Give the items ids without white space.",
            )


T = TypeVar("T")
Column: TypeAlias = Literal["ranks", "scores"]
"""Which column of a TREC run orders its lists."""

MAX_BYTES = 1 << 29
"""Larger files are refused: a thousand ids for each of CIRR's 4,181 queries take a third of it as a TREC run."""

SERVER_LENGTH = 50
"""How many ids the CIRCO server takes per query."""

_FORMATS = (
    'Accepted are {"query": [ids], ...}, lines of {"query_id": ..., "ranking": [ids]}, and TREC runs '
    "(docs/predictions.md)."
)


@dataclasses.dataclass(frozen=True)
class RankedLists:
    """What somebody ranked, best first, read from a file and not checked yet.

    Attributes:
        source: The file, for messages.
        rankings: Per query id, gallery ids.
        group_rankings: Per query id, the ids of its group without the reference; empty where the file has none.
        exact_length: How long each list must be where the format fixes it (the JSON of CIRCO's server).
    """

    source: str
    rankings: Mapping[str, tuple[str, ...]]
    group_rankings: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    exact_length: int | None = None


def read_rankings(path: Path, *, trust: Column | None = None) -> RankedLists:
    """Read the ranked lists of a file.

    Args:
        path: The file.
        trust: What orders the lists of a TREC run; if not given, one whose ranks contradict its scores is refused.

    Raises:
        MissingData: The file does not exist or cannot be read.
        InvalidPredictions: It is in none of the formats, names a query twice, or contradicts itself; the message names
            file and place.
        UsageError: ``trust`` is given for a file that is not a TREC run.
    """
    text = read_text(path)
    format = _format(path, text)
    if format == "TREC":
        return _trec_run(str(path), text, trust)
    if trust is not None:
        raise UsageError(f"--trust chooses between the columns of a TREC run, and {path} is not one.")
    return _server_json(str(path), text) if format == "JSON" else _json_lines(str(path), text)


def read_text(path: Path) -> str:
    """Read a whole text file, a byte order mark aside.

    Raises:
        MissingData: The file does not exist or cannot be read.
        InvalidPredictions: It is empty, too large or not UTF-8.
    """
    text = _decoded(path, _content(path))
    if not text.strip():
        raise InvalidPredictions(f"{path} is empty.", hint=_FORMATS)
    return text


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # reading it says why
    if size > MAX_BYTES:
        raise InvalidPredictions(
            f"{path} is too large: {size:,} bytes, and {MAX_BYTES:,} are allowed.",
            hint="Keep the first ids of each list only.",
        )
    return read_bytes(path)


def _decoded(path: Path, content: bytes) -> str:
    try:
        return decode_text(content, str(path))
    except CorruptFile as error:
        raise InvalidPredictions(error.message, hint=error.hint) from error


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
            raise InvalidPredictions(
                f"{source}: the key {quoted(twice)} occurs twice.", hint="Keep one list per query."
            )
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
        raise InvalidPredictions(f"{source} is not JSON of ids: {excerpt(error)}.", hint=_FORMATS) from error


def _format(path: Path, text: str) -> Literal["JSON", "lines", "TREC"]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return "lines"
    if suffix in (".trec", ".run"):
        return "TREC"
    if text.lstrip()[0] == "{":
        return "lines" if _opens_with_a_line(text) else "JSON"
    return "JSON" if suffix == ".json" or text.lstrip()[0] in '["' else "TREC"


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
    rankings = {
        query: _typed(source, f"query {quoted(query)}", value, list[str | int]) for query, value in content.items()
    }
    return RankedLists(source, {query: _ids(ids) for query, ids in rankings.items()}, exact_length=SERVER_LENGTH)


class _Line(msgspec.Struct, frozen=True):
    query_id: str | int
    ranking: list[str | int]
    group_ranking: list[str | int] | None = None


def _json_lines(source: str, text: str) -> RankedLists:
    """Read lines of ``{"query_id", "ranking", "group_ranking"}``; the last is optional, other fields are ignored."""
    rankings: dict[str, tuple[str, ...]] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for number, line in numbered_lines(text):
        place = f"line {number}"
        row = _typed(source, place, parse_json(f"{source}: {place}", line), _Line)
        query = str(row.query_id)
        if query in rankings:
            raise InvalidPredictions(
                f"{source}: {place}: query {quoted(query)} occurs twice.", hint="Keep one line per query."
            )
        rankings[query] = _ids(row.ranking)
        if row.group_ranking is not None:
            groups[query] = _ids(row.group_ranking)
    return RankedLists(source, rankings, groups)


@dataclasses.dataclass(frozen=True, slots=True)
class _TrecRow:
    item: str
    rank: int
    score: float

    def __str__(self) -> str:
        return f"{quoted(self.item, 40)} (rank {self.rank}, score {self.score:.9g})"


def _trec_run(source: str, text: str, trust: Column | None) -> RankedLists:
    """Read lines of ``query Q0 item rank score tag``.

    Lists are ordered by descending score, equal scores by the given rank, and then as they are in the file; by rank
    first where ranks are trusted.
    """
    rows: dict[str, list[_TrecRow]] = {}
    for number, line in numbered_lines(text):
        fields = line.split()
        place = f"{source}: line {number}"
        if len(fields) != 6:
            raise InvalidPredictions(
                f"{place} holds {len(fields)} fields, and a TREC run has six: query Q0 item rank score tag.",
                hint=_FORMATS,
            )
        query, _, item, rank, score, _ = fields
        try:
            if "_" in rank + score:  # which Python would take
                raise ValueError
            row = _TrecRow(item, int(rank), float(score))
        except ValueError as error:
            raise InvalidPredictions(
                f"{place}: query {quoted(query)}: rank {quoted(rank)} must be a whole number and score "
                f"{quoted(score)} a number.",
                hint=_FORMATS,
            ) from error
        if not math.isfinite(row.score):
            raise InvalidPredictions(
                f"{place}: query {quoted(query)}: the score {excerpt(score)} is not finite.", hint=_FORMATS
            )
        rows.setdefault(query, []).append(row)
    by_rank = {query: sorted(ranked, key=lambda row: (row.rank, -row.score)) for query, ranked in rows.items()}
    by_score = {query: sorted(ranked, key=lambda row: (-row.score, row.rank)) for query, ranked in rows.items()}
    if trust is None:
        _refuse_contradictions(source, by_rank, by_score)
    ordered = by_rank if trust == "ranks" else by_score
    return RankedLists(source, {query: tuple(row.item for row in ranked) for query, ranked in ordered.items()})


def _refuse_contradictions(
    source: str, by_rank: Mapping[str, Sequence[_TrecRow]], by_score: Mapping[str, Sequence[_TrecRow]]
) -> None:
    """Refuse lists in which an item of a later rank has a higher score; equal ranks and equal scores decide nothing."""
    rising = {query: _first_rise(ranked) for query, ranked in by_rank.items()}
    contradicted = [query for query, place in rising.items() if place is not None]
    if not contradicted:
        return
    query = contradicted[0]
    place = rising[query]
    assert place is not None
    first = by_rank[query][place]
    later = by_rank[query][place + 1]
    raise InvalidPredictions(
        f"{source}: in {len(contradicted)} of {len(by_rank)} queries the ranks contradict the scores. In query "
        f"{quoted(query, 40)}, {first} comes before {later} by rank and after it by score; by rank the list begins "
        f"with {by_rank[query][0]}, by score with {by_score[query][0]}.",
        hint="Give --trust ranks if the ranks are meant (as with distances), or --trust scores.",
    )


def _first_rise(ranked: Sequence[_TrecRow]) -> int | None:
    """The place of the first row whose successor has a higher score."""
    return next((place for place in range(len(ranked) - 1) if ranked[place].score < ranked[place + 1].score), None)


def _typed(source: str, place: str, value: Any, type: type[T]) -> T:
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        raise InvalidPredictions(
            f"{source}: {place} has the wrong form: {excerpt(error)}.",
            hint=f"Ids are text or whole numbers. {_FORMATS}",
        ) from error


def _ids(names: Iterable[str | int]) -> tuple[str, ...]:
    return tuple(str(name) for name in names)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
    return names.get(type(value), "null")


def read_features(path: Path) -> NDArray[np.floating]:
    """Map an ``.npy`` file of floating-point rows into memory; nothing in it is ever executed.

    Raises:
        MissingData: The file is not there or cannot be read.
        InvalidPredictions: It is not a complete ``.npy`` file, or does not hold rows of float16, float32 or float64.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        refuse_placeholder(path, "file")
        raise InvalidPredictions(
            f"{path} is not a whole .npy file of numbers: {excerpt(error)}.",
            hint="Write it with numpy.save(path, array) from a float32 array.",
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InvalidPredictions(f"{path} is an archive of arrays.", hint="Write one array with numpy.save.")
    return _features(str(path), array)


def features_of(source: str, rows: ArrayLike) -> NDArray[np.floating]:
    """Take features that are in memory; ``source`` is what messages call them.

    Raises:
        InvalidPredictions: They are not rows of float16, float32 or float64.
    """
    try:
        return _features(source, np.asarray(rows))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidPredictions(
            f"{source} is a {type(rows).__name__} that NumPy cannot read: {excerpt(error)}.",
            hint="Give a NumPy array; of a torch tensor, tensor.detach().float().cpu().numpy().",
        ) from error


def _features(source: str, array: NDArray[Any]) -> NDArray[np.floating]:
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise InvalidPredictions(f"{source} holds {array.dtype}, not float16, float32 or float64.")
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidPredictions(f"{source} has the shape {array.shape}, not (rows, columns).")
    return array


_ID_FIELDS = ("query_id", "pairid", "id")
"""Where an object of a benchmark's annotations has its id: one's own queries, CIRR's captions, CIRCO's annotations."""

_ID_FORMS = (
    "Accepted are lines of ids, a JSON list of ids, an object whose keys are ids (as CIRR's split files), a list of "
    "objects with query_id, pairid or id (as CIRR's captions), COCO's lists of images, and .npy files of text."
)
_NUMPY = b"\x93NUMPY"


def read_ids(path: Path) -> tuple[str, ...]:
    """Read the ids of rows, from any of the forms in which people and benchmarks have them.

    These are: a line each; a JSON list of texts or whole numbers; a JSON object whose keys are the ids, as CIRR's split
    files; a JSON list or JSON lines of objects with ``query_id``, ``pairid`` (CIRR's captions) or ``id`` (CIRCO's
    annotations); COCO's ``{"images": [{"id": ...}]}``; an ``.npy`` file of text or whole numbers.

    Raises:
        MissingData: The file does not exist or cannot be read.
        InvalidPredictions: It is empty, in no such form, or holds an id twice.
    """
    content = _content(path)
    names = _ids_of_array(path) if content.startswith(_NUMPY) else _ids_of_text(path, _decoded(path, content))
    return _distinct(str(path), names)


def ids_of(source: str, ids: Iterable[Any]) -> tuple[str, ...]:
    """Take ids that are in memory, texts or whole numbers; ``source`` is what messages call them.

    Raises:
        InvalidPredictions: There are none, one is neither, or one is there twice.
    """
    plain = (each.item() if isinstance(each, np.generic) else each for each in ids)
    return _distinct(source, _ids(_id(source, each) for each in plain))


def _distinct(source: str, names: tuple[str, ...]) -> tuple[str, ...]:
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
        return _ids(name.decode() if isinstance(name, bytes) else name for name in array.tolist())
    except UnicodeDecodeError as error:
        raise InvalidPredictions(f"{path} holds bytes that are not UTF-8.", hint=how) from error


def _ids_of_text(path: Path, text: str) -> tuple[str, ...]:
    if not text.strip():
        raise InvalidPredictions(f"{path} is empty.", hint=_ID_FORMS)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        lines = [(number, parse_json(f"{path}: line {number}", line)) for number, line in numbered_lines(text)]
        return _ids(_id(f"{path}: line {number}", value) for number, value in lines)
    if text.lstrip()[0] not in "[{":
        return _ids(line.strip() for line in text.rstrip().split("\n"))
    content = parse_json(str(path), text)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content = content["images"]
    return _ids(content if isinstance(content, dict) else [_id(f"{path}", value) for value in content])


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
