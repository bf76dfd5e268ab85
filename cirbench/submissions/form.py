"""What a test server takes: one object a server, named by an entry point, and the rules that its files must keep.

A check yields `Problem` values, so that everything that is wrong with a file is reported at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import queries
from cirbench.benchmarks.interface import BENCHMARKS
from cirbench.errors import some
from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from cirbench.benchmarks.interface import ProtocolEntry
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.lists import RankedLists


RULES: Mapping[str, str] = {
    "text": "The file is UTF-8 text without a byte order mark, and not empty.",
    "size": "The file is not larger than the server takes.",
    "json": "The file is whole JSON in which no key occurs twice and every number is finite.",
    "object": "The file is one object from query id to a list of ids.",
    "benchmark": "The file is of the benchmark that it is meant for.",
    "version": 'CIRR: "version" is "rc2".',
    "metric": 'CIRR: "metric" is "recall" or "recall_subset".',
    "split": "The queries are those of the split that the server scores.",
    "queries": "Every query of the split has a list, and nothing else has.",
    "list": "The value of a query is a list of ids.",
    "id": "An id has the benchmark's form: a whole number in CIRCO, a name in CIRR.",
    "suffix": "CIRR: a name has neither a folder nor a file suffix.",
    "length": "A list has as many ids as the server takes.",
    "unique": "A list holds no id twice.",
    "gallery": "A list holds images of the gallery only.",
    "reference": "CIRR: a list does not hold the reference image of its query.",
    "group": 'CIRR: a list for "recall_subset" holds images of the query\'s group only.',
}
"""Every rule by its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A broken rule.

    Attributes:
        rule: A name in `RULES`.
        message: What is wrong.
        query: Where, if it is in one query.
    """

    rule: str
    message: str
    query: str | None = None

    def __str__(self) -> str:
        place = "" if self.query is None else f"query {self.query!r}: "
        return f"rule {self.rule}: {place}{self.message}"


Odd = tuple[str, str]
"""The rule that an id breaks, and how."""


def broken_queries(given: Collection[str], expected: Collection[str], split: str) -> Iterator[Problem]:
    """Compare the queries of a file with those of its split, in any order."""
    inside, known = frozenset(given), frozenset(expected)
    if unknown := [repr(name) for name in given if name not in known]:
        yield Problem("queries", f"it has {queries(unknown)}, not in {split}")
    if missing := [repr(name) for name in expected if name not in inside]:
        yield Problem("queries", f"it lacks {queries(missing)} of {split}")


def broken_list(query: str, value: object, length: int, odd: Callable[[object], Odd | None]) -> Iterator[Problem]:
    """Check the form of one list: its type, each id by ``odd``, its length, and that no id occurs twice."""
    if not isinstance(value, list):
        yield Problem("list", f"its value is {kind(value)}, and must be a list of {length} ids", query)
        return
    first: dict[str, str] = {}
    count: Counter[str] = Counter()
    for name in value:
        if (found := odd(name)) is not None:
            rule, problem = found
            first.setdefault(rule, problem)
            count[rule] += 1
    for rule, problem in first.items():
        more = f" (and {count[rule] - 1} more like it)" if count[rule] > 1 else ""
        yield Problem(rule, f"{problem}{more}", query)
    if len(value) != length:
        yield Problem("length", f"its list has {len(value)} ids, and must have exactly {length}", query)
    if twice := _twice(value):
        yield Problem("unique", f"its list holds {some(twice)} more than once", query)


def _twice(names: list[object]) -> list[str]:
    """The ids that occur more than once; only what can be an id is looked at."""
    known = [name for name in names if isinstance(name, int | str)]
    if len(set(known)) == len(known):
        return []
    return [shown(name) for name, count in Counter(known).items() if count > 1]


def kind(value: object) -> str:
    """Say what a JSON value is."""
    if value is None:
        return "null"
    names = {bool: "a truth value", int: "a whole number", float: "a fractional number", str: "text", list: "a list"}
    return names.get(type(value), "an object")


def shown(value: object, limit: int = 40) -> str:
    """Write a JSON value as in the file, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}..."


@dataclasses.dataclass(frozen=True)
class Inspected:
    """What was found in the object of a file.

    Attributes:
        queries: How many queries it has.
        problems: Every broken rule.
        part: Which of the server's files it is, where the server takes several together.
        notes: What to know before uploading it.
    """

    queries: int
    problems: Iterable[Problem]
    part: str | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerForm:
    """A test server and the form of its files: JSON objects.

    Attributes:
        name: A benchmark names it so.
        title: One line for people.
        upload: Where files go.
        answers: What comes back.
        protocols: Whose files have this form; the server scores the first.
        labels: Of the numbers that come back.
        files: From ranked lists to the object of each file, by the suffix after the name of the run.
        inspect: Checks an object: the object, the size of the file in bytes, the id of its protocol, and the protocol
            where its annotations are available.
        unchecked: Why and what cannot be checked where the gallery of the protocol is not available.
        parts: The files that a server takes together, as `Inspected.part` names them.
        max_bytes: The largest file that the server takes.
        correct: Corrects what can be corrected without guessing, and counts it.
        aliases: Further names of labels, as the server writes them.
        needs_groups: Whether a file is made of the rankings of groups.
    """

    name: str
    title: str
    upload: str
    answers: str
    protocols: tuple[str, ...]
    labels: tuple[str, ...]
    files: Callable[[RankedLists], Mapping[str, Mapping[str, object]]]
    inspect: Callable[[Mapping[str, object], int, str, EvaluationProtocol | None], Inspected]
    unchecked: str = "since annotations are not available (--data-root): whether ids are in the gallery"
    parts: tuple[str, ...] = ()
    max_bytes: int = 5_000_000
    correct: Callable[[Mapping[str, object]], tuple[dict[str, object], int]] = lambda values: (dict(values), 0)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs_groups: bool = False


SERVERS = Plugins("server form", "cirbench.servers", ServerForm, "docs/adding-a-plugin.md")


def server_of(dataset: str) -> ServerForm | None:
    """Return the form of a benchmark's server; ``None`` where it names none, or is not a benchmark.

    Raises:
        UnknownName: It names one that is not installed.
        PluginFailed: The form cannot be loaded.
    """
    named = BENCHMARKS.find(dataset).server if dataset in BENCHMARKS.names() else None
    return None if named is None else SERVERS.find(named)


def takes_files(entry: ProtocolEntry) -> bool:
    """Whether a test server scores a protocol, so that its files are worth writing."""
    return not entry.labelled and entry.folder is None and server_of(entry.dataset) is not None


def form_of(protocol: str) -> ServerForm:
    """Return the form of the files of a protocol, one of `protocols_with_form`."""
    return next(form for form in SERVERS.all()[0].values() if protocol in form.protocols)


def protocols_with_form() -> tuple[str, ...]:
    """Name the protocols whose files are checked."""
    return tuple(id for form in SERVERS.all()[0].values() for id in form.protocols)


def encode(values: Mapping[str, object]) -> bytes:
    """Write JSON without spaces."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
