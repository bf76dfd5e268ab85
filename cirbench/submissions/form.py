"""What a test server takes: one object a server, named by an entry point."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from cirbench.benchmarks.interface import BENCHMARKS
from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cirbench.benchmarks.interface import ProtocolEntry
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.lists import RankedLists
    from cirbench.submissions.rules import Problem


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
        files: From ranked lists to the object of each file, by what stands behind the name of the run.
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
    """Return the form of a benchmark's server; ``None`` where it names none, or is no benchmark.

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
