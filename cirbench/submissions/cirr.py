"""CIRR's two server files: 50 names per query by ``recall``, and 3 of the query's group by ``recall_subset``.

Both are one JSON object, ``{"version": "rc2", "metric": "recall", "<pair id>": [names], ...}``; names have no suffix,
the reference is left out, and a file is at most 5 MB.
"""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING, Literal

from cirbench.benchmarks import cirr
from cirbench.benchmarks.annotation_files import queries
from cirbench.benchmarks.catalogue import find_protocol
from cirbench.errors import some
from cirbench.submissions.form import Inspected, Odd, Problem, ServerForm, broken_list, broken_queries, kind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.lists import RankedLists

TEST = "cirr/test1"
VERSION = "rc2"
LENGTHS = {"recall": 50, "recall_subset": 3}
MAX_BYTES = 5_000_000
"""The server says 5 MB; the smaller of its two readings is safe by both."""

Metric = Literal["recall", "recall_subset"]

HEAD = ("version", "metric")
_SUFFIX = re.compile(r"\.(png|jpe?g)\s*$", re.IGNORECASE)
_NAME = re.compile(r"test1-\d+-\d+-img\d+")
_OTHER_SPLIT = re.compile(r"(dev|train)-\d+-\d+-img\d+")


def content(lists: RankedLists, metric: Metric) -> dict[str, object]:
    """Return what the server reads: the first names of each list, or of each ranked group."""
    ranked = lists.rankings if metric == "recall" else lists.group_rankings
    names = {query: list(ids[: LENGTHS[metric]]) for query, ids in ranked.items()}
    return {"version": VERSION, "metric": metric, **names}


def with_names(values: Mapping[str, object]) -> tuple[dict[str, object], int]:
    """Return an object whose names have neither a folder nor a suffix, and how many of them had."""
    count = 0
    corrected: dict[str, object] = {}
    for query, value in values.items():
        if query not in HEAD and isinstance(value, list):
            names = [_SUFFIX.sub("", name.rpartition("/")[2]) if isinstance(name, str) else name for name in value]
            count += sum(one != other for one, other in zip(names, value, strict=True))
            value = names
        corrected[query] = value
    return corrected, count


def looks_like(values: Mapping[str, object]) -> bool:
    """Whether an object is of CIRR: by its head, and without one by its first id."""
    if any(name in values for name in HEAD):
        return True
    lists = (value for value in values.values() if isinstance(value, list) and value)
    first = next(lists, [0])[0]
    return isinstance(first, str) and not first.strip().isdecimal()


def metric_of(values: Mapping[str, object]) -> Metric:
    """Tell which of the two files an object is: by its metric, and without a known one by its median list."""
    named = values.get("metric")
    if named == "recall" or named == "recall_subset":
        return "recall" if named == "recall" else "recall_subset"
    lengths = [len(value) for value in values.values() if isinstance(value, list)] or [LENGTHS["recall"]]
    return "recall_subset" if statistics.median(lengths) <= 2 * LENGTHS["recall_subset"] else "recall"


def problems(values: Mapping[str, object], size: int, known: EvaluationProtocol | None) -> Iterator[Problem]:
    """Check a file's object.

    Args:
        values: The object.
        size: Of the file, in bytes.
        known: The protocol, where its annotations are available; without it, neither pair ids nor groups are known.
    """
    metric = metric_of(values)
    if size > MAX_BYTES:
        yield Problem(
            "size", f"the file has {size:,} bytes, and {MAX_BYTES:,} are allowed; leave out spaces and breaks"
        )
    yield from _broken_head(values)
    lists = {query: value for query, value in values.items() if query not in HEAD}
    if (other := _other_split(lists, known)) is not None:
        yield Problem("split", f"its names are not of test1, which is what the server scores: {some(other)}")
        return
    if known is None:
        yield from _broken_count(lists)
    else:
        yield from broken_queries(lists, [query.id for query in known.queries], TEST)
    for query, value in lists.items():
        yield from broken_list(query, value, LENGTHS[metric], _odd)
    yield from _outside_form(lists) if known is None else _misplaced(lists, metric, known)


def _broken_head(values: Mapping[str, object]) -> Iterator[Problem]:
    accepted = {"version": (VERSION,), "metric": tuple(LENGTHS)}
    for name, allowed in accepted.items():
        wanted = " or ".join(shown(each) for each in allowed)
        if name not in values:
            yield Problem(name, f"{name!r} is missing; it must be {wanted}")
        elif values[name] not in allowed:
            yield Problem(name, f"{name!r} is {shown(values[name])}, and must be {wanted}")


def _broken_count(lists: Mapping[str, object]) -> Iterator[Problem]:
    """What can be said of the queries without annotations."""
    entry = find_protocol(TEST)
    expected = None if entry is None else entry.queries
    if len(lists) != expected:
        yield Problem("queries", f"it has {len(lists)} queries, and {TEST} has {expected}")
    if odd := [repr(query) for query in lists if not (query.isascii() and query.isdecimal() and query[0] != "0")]:
        yield Problem("queries", f"it has {queries(odd)}, not a pair id")


def _outside_form(lists: Mapping[str, object]) -> Iterator[Problem]:
    for query, value in lists.items():
        names = value if isinstance(value, list) else []
        if outside := [shown(name) for name in names if _odd(name) is None and not _NAME.fullmatch(name)]:
            yield Problem("gallery", f"not a name of test1: {some(outside)}", query)


def _misplaced(lists: Mapping[str, object], metric: Metric, known: EvaluationProtocol) -> Iterator[Problem]:
    """Yield the lists that hold images which their query must not have."""
    assert known.gallery is not None
    assert known.groups is not None
    for query, group in zip(known.queries, known.groups, strict=True):
        value = lists.get(query.id)
        names = [name for name in value if _odd(name) is None] if isinstance(value, list) else []
        if outside := [shown(name) for name in names if name not in known.gallery.positions]:
            yield Problem("gallery", f"not in the gallery: {some(outside)}", query.id)
        elif metric == "recall_subset" and (outside := [shown(name) for name in names if name not in group]):
            yield Problem("group", f"not in its group ({', '.join(group)}): {some(outside)}", query.id)
        if query.reference.id in names:
            yield Problem("reference", f"its list holds its own reference image {query.reference.id!r}", query.id)


def _other_split(lists: Mapping[str, object], known: EvaluationProtocol | None) -> list[str] | None:
    """The first name of each list, if all of them are of CIRR's other splits."""
    inside = {} if known is None or known.gallery is None else known.gallery.positions
    firsts = [value[0] for value in lists.values() if isinstance(value, list) and value]
    names = [name for name in firsts if isinstance(name, str) and _OTHER_SPLIT.match(name) and name not in inside]
    return names if names and len(names) == len(firsts) else None


def _odd(name: object) -> Odd | None:
    if not isinstance(name, str):
        return "id", f"{shown(name)} is {kind(name)}, and an id is a name"
    if _SUFFIX.search(name) or "/" in name:
        return "suffix", f"{shown(name)} has a folder or a file suffix"
    if name.split() != [name]:
        return "id", f"{shown(name)} is empty or holds white space"
    return None


def _inspect(values: Mapping[str, object], size: int, _protocol: str, known: EvaluationProtocol | None) -> Inspected:
    return Inspected(sum(name not in HEAD for name in values), problems(values, size, known), metric_of(values))


def _files(lists: RankedLists) -> dict[str, dict[str, object]]:
    return {"recall.json": content(lists, "recall"), "recall_subset.json": content(lists, "recall_subset")}


FORM = ServerForm(
    name="cirr",
    title="CIRR: two objects from pair id to image names, 50 of the gallery and 3 of the group",
    upload="https://cirr.cecs.anu.edu.au (when it is down: https://cirr.junjie.au)",
    answers="Recall@1/5/10/50 to the file *.recall.json, Recall_subset@1/2/3 to the file *.recall_subset.json",
    protocols=(TEST,),
    labels=tuple(measure.label for measure in cirr.MEASURES),
    files=_files,
    inspect=_inspect,
    unchecked="since CIRR's annotations are not available (--data-root): pair ids, references, groups, and "
    "the gallery beyond the form of its names",
    parts=tuple(LENGTHS),
    max_bytes=MAX_BYTES,
    correct=with_names,
    needs_groups=True,
)
