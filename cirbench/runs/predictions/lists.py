"""Ranked lists: read into a ranking under a protocol, and written from one.

The suffix says the format if it is ``.jsonl``, ``.ndjson``, ``.trec``, ``.run``, ``.csv``, ``.tsv`` or ``.parquet``;
otherwise the content does. Only the form is checked here, and `cirbench.runs.predictions.rules` checks the rest against
a protocol.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from cirbench.errors import CheckFailed, CorruptFile, InvalidPredictions, MissingData, UsageError, excerpt, quoted, some
from cirbench.runs.predictions.tables import RankedRow, looks_like_table, parquet_rows, ranked_rows
from cirbench.support.files import write_text
from cirbench.support.textfiles import decode_text, numbered_lines, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

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
    for query, names, right in zip(protocol.queries, protocol.labels.relevant, protocol.labels.right, strict=True):
        _refuse_spaces([query.id, *names], path)
        lines += [f"{query.id} 0 {name} 1" for name in itertools.compress(names, right)]
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
"""Which column orders the lists of a file that has both."""

MAX_BYTES = 1 << 29
"""Larger files are refused: a thousand ids for each of CIRR's 4,181 queries take a third of it as a TREC run."""

_FORMATS = (
    'Accepted are {"query": [ids]}, {"query": {"id": score}}, lines of {"query_id": ..., "ranking": [ids]}, TREC runs, '
    "tables (.csv, .tsv, .parquet) and the files of CIRR's server (docs/predictions.md)."
)


@dataclasses.dataclass(frozen=True)
class RankedLists:
    """What somebody ranked, best first, read from a file and not checked yet.

    Attributes:
        source: The file, for messages.
        rankings: Per query id, gallery ids.
        group_rankings: Per query id, the ids of its group without the reference; empty where the file has none.
        scores: Per query id, the score of each id, where these alone order the list: equal ones are ordered by the rule
            of the protocol, whatever their order here. Empty where the file says an order.
        notes: How the file was understood, where it could be done in several ways.
    """

    source: str
    rankings: Mapping[str, tuple[str, ...]]
    group_rankings: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_rankings(path: Path, *, trust: Column | None = None) -> RankedLists:
    """Read the ranked lists of a file.

    Args:
        path: The file.
        trust: What orders the lists of a TREC run or table with ranks and scores; if not given, one whose ranks
            contradict its scores is refused.

    Raises:
        MissingData: The file does not exist or cannot be read, or a package for it is missing.
        InvalidPredictions: It is in none of the formats, names a query twice, or contradicts itself; the message names
            file and place.
        UsageError: ``trust`` is given for a file that does not have both columns.
    """
    source = str(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        read_content(path)  # which says what is wrong with it
        rows, notes = parquet_rows(path)
        return _of_rows(source, rows, trust, notes)
    text = read_text(path)
    format = _format(path, text)
    if format == "TREC":
        return _of_rows(source, _trec_rows(source, text), trust, ())
    if format == "table":
        rows, notes = ranked_rows(source, text)
        return _of_rows(source, rows, trust, notes)
    if trust is not None:
        raise UsageError(f"--trust chooses between the columns of a TREC run or a table, and {path} is not one.")
    return _of_object(source, parse_json(source, text)) if format == "JSON" else _json_lines(source, text)


def merge(parts: Sequence[RankedLists]) -> RankedLists:
    """Put the lists of several files together, each of some queries, or of the groups alone.

    Raises:
        InvalidPredictions: Two files rank one query.
    """
    if len(parts) == 1:
        return parts[0]
    for kind in ("rankings", "group_rankings"):
        seen: dict[str, str] = {}
        for part in parts:
            for query in getattr(part, kind):
                if query in seen:
                    what = "its group" if kind == "group_rankings" else "the gallery"
                    raise InvalidPredictions(
                        f"{seen[query]} and {part.source} both rank {what} for query {quoted(query)}.",
                        hint="Give one file for each query.",
                    )
                seen[query] = part.source
    return RankedLists(
        some([part.source for part in parts]),
        {query: ids for part in parts for query, ids in part.rankings.items()},
        {query: ids for part in parts for query, ids in part.group_rankings.items()},
        {query: scores for part in parts for query, scores in part.scores.items()},
        tuple(note for part in parts for note in part.notes),
    )


def lists_of(source: str, rankings: Mapping[Any, Any]) -> RankedLists:
    """Take lists that are in memory, ids or scores by id; ``source`` is what messages call them.

    Raises:
        InvalidPredictions: They are something else.
    """
    plain = {str(query): dict(value) if isinstance(value, Mapping) else [*value] for query, value in rankings.items()}
    return _of_object(source, plain)


def read_text(path: Path) -> str:
    """Read a whole text file, a byte order mark aside.

    Raises:
        MissingData: The file does not exist or cannot be read.
        InvalidPredictions: It is empty, too large or not UTF-8.
    """
    text = decoded(path, read_content(path))
    if not text.strip():
        raise InvalidPredictions(f"{path} is empty.", hint=_FORMATS)
    return text


def read_content(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        MissingData: It does not exist or cannot be read.
        InvalidPredictions: It is too large.
    """
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


def decoded(path: Path, content: bytes) -> str:
    """Decode the content of a text file.

    Raises:
        InvalidPredictions: It is not UTF-8.
    """
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


def _format(path: Path, text: str) -> Literal["JSON", "lines", "TREC", "table"]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return "lines"
    if suffix in (".csv", ".tsv"):
        return "table"
    if suffix in (".trec", ".run"):
        return "TREC"
    if text.lstrip()[0] == "{":
        return "lines" if _opens_with_a_line(text) else "JSON"
    if suffix == ".json" or text.lstrip()[0] == "[":
        return "JSON"
    if looks_like_table(text):
        return "table"
    return "JSON" if text.lstrip()[0] == '"' else "TREC"


def _opens_with_a_line(text: str) -> bool:
    """Whether the first line alone is an object with a query id, as in JSON lines."""
    try:
        first = json.loads(text.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "query_id" in first


def _of_object(source: str, content: Any) -> RankedLists:
    """Read an object from query id to a list of ids (CIRCO's server; with a head, CIRR's), or to scores by id.

    Scores by id are the form of BEIR and ranx.
    """
    if not isinstance(content, dict):
        raise InvalidPredictions(
            f"{source} must hold one JSON object from query id to a list of ids, not {_kind(content)}.", hint=_FORMATS
        )
    metric, version = content.get("metric"), content.get("version")
    of_cirr = metric in ("recall", "recall_subset") and isinstance(version, str)
    if of_cirr:
        content = {query: value for query, value in content.items() if query not in ("metric", "version")}
    if content and isinstance(next(iter(content.values())), dict):
        return _of_scores(source, content)
    ranked = {
        query: _ids(_typed(source, f"query {quoted(query)}", value, list[str | int]))
        for query, value in content.items()
    }
    if not of_cirr:
        return RankedLists(source, ranked)
    notes = (f"{source} is the file of CIRR's server for {metric}",)
    if metric == "recall":
        return RankedLists(source, ranked, notes=notes)
    return RankedLists(source, {}, ranked, notes=notes)


def _of_scores(source: str, content: dict[str, Any]) -> RankedLists:
    scored: dict[str, dict[str, float]] = {}
    for query, value in content.items():
        scored[query] = _typed(source, f"query {quoted(query)}", value, dict[str, float])
        if not all(map(math.isfinite, scored[query].values())):
            raise InvalidPredictions(f"{source}: query {quoted(query)} has a score that is not finite.", hint=_FORMATS)
    return _scored(source, scored, (f"{source} holds scores by id, the highest first",))


def _scored(source: str, scored: Mapping[str, Mapping[str, float]], notes: tuple[str, ...]) -> RankedLists:
    """Lists that scores alone order."""
    ordered = {
        query: sorted(scores.items(), key=lambda each: each[1], reverse=True) for query, scores in scored.items()
    }
    return RankedLists(
        source,
        {query: tuple(name for name, _ in each) for query, each in ordered.items()},
        scores={query: tuple(score for _, score in each) for query, each in ordered.items()},
        notes=notes,
    )


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


def _trec_rows(source: str, text: str) -> list[RankedRow]:
    """Read lines of ``query Q0 item rank score tag``."""
    rows = []
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
            row = RankedRow(query, item, int(rank), float(score))
        except ValueError as error:
            raise InvalidPredictions(
                f"{place}: query {quoted(query)}: rank {quoted(rank)} must be a whole number and score "
                f"{quoted(score)} a number.",
                hint=_FORMATS,
            ) from error
        if not math.isfinite(float(score)):
            raise InvalidPredictions(
                f"{place}: query {quoted(query)}: the score {excerpt(score)} is not finite.", hint=_FORMATS
            )
        rows.append(row)
    return rows


def _of_rows(source: str, rows: Sequence[RankedRow], trust: Column | None, notes: tuple[str, ...]) -> RankedLists:
    """Order the rows of each query by descending score, equal scores by rank, and then as they are in the file.

    They are ordered by rank first where ranks are trusted, or are all there is; without ranks, by score alone.
    """
    if not rows:
        raise InvalidPredictions(f"{source} holds no rows.", hint=_FORMATS)
    by_query: dict[str, list[RankedRow]] = {}
    for row in rows:
        by_query.setdefault(row.query, []).append(row)
    ranks, scores = rows[0].rank is not None, rows[0].score is not None
    if trust is not None and not (ranks and scores):
        raise UsageError(f"--trust chooses between ranks and scores, and {source} does not have both.")
    if not ranks:
        for query, given in by_query.items():
            if (twice := first_repeated([row.item for row in given])) is not None:
                raise InvalidPredictions(f"{source}: query {quoted(query)} has two scores for {quoted(twice)}.")
        plain = {query: {row.item: row.score or 0.0 for row in given} for query, given in by_query.items()}
        return _scored(source, plain, notes)
    by_rank = {query: sorted(given, key=_rank) for query, given in by_query.items()}
    if not scores:
        for query, given in by_rank.items():
            if (rank := first_repeated([row.rank for row in given])) is not None:
                raise InvalidPredictions(
                    f"{source}: query {quoted(query)} has two items at rank {rank}, and no scores that order them."
                )
        ordered = by_rank
    else:
        by_score = {query: sorted(given, key=_score) for query, given in by_query.items()}
        if trust is None:
            _refuse_contradictions(source, by_rank, by_score)
        ordered = by_rank if trust == "ranks" else by_score
    return RankedLists(
        source, {query: tuple(row.item for row in given) for query, given in ordered.items()}, notes=notes
    )


def _rank(row: RankedRow) -> tuple[int, float]:
    return row.rank or 0, -(row.score or 0.0)


def _score(row: RankedRow) -> tuple[float, int]:
    return -(row.score or 0.0), row.rank or 0


def first_repeated(values: Sequence[T]) -> T | None:
    """Return the first value that is there more than once, or ``None``."""
    if len(set(values)) == len(values):
        return None
    return next(value for value, count in Counter(values).items() if count > 1)


def _refuse_contradictions(
    source: str, by_rank: Mapping[str, Sequence[RankedRow]], by_score: Mapping[str, Sequence[RankedRow]]
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


def _first_rise(ranked: Sequence[RankedRow]) -> int | None:
    """The place of the first row whose successor has a higher score."""
    scores = [row.score or 0.0 for row in ranked]
    return next((place for place in range(len(scores) - 1) if scores[place] < scores[place + 1]), None)


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
