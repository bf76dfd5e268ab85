"""Check a file by every rule of the server that it is for, without the server; and a server form by its own files."""

from __future__ import annotations

import codecs
import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks import annotation_files
from cirbench.benchmarks.catalogue import find_protocol, load_protocol
from cirbench.errors import CheckFailed, CorruptFile, InvalidPredictions, MissingData, UsageError
from cirbench.metrics.table import parse_label
from cirbench.runs.predictions.lists import RankedLists, parse_json
from cirbench.submissions import circo, cirr
from cirbench.submissions.form import SERVERS, Problem, encode, form_of, kind
from cirbench.support.console import typed
from cirbench.support.files import write_bytes
from cirbench.support.plugins import Finding, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.submissions.form import ServerForm

    ProtocolLoader = Callable[[str], EvaluationProtocol | None]


_READ_LIMIT = 50_000_000
"""Larger files are not read: ten times what the servers take is some other file."""


@dataclasses.dataclass(frozen=True)
class SubmissionCheck:
    """The outcome of checking one file by the rules of its server.

    Attributes:
        path: The file.
        protocol: What it is for; ``None`` where it is unknown.
        metric: Which of CIRR's two files it is.
        queries: How many queries it has.
        problems: Every broken rule.
        notes: What could not be checked, and what to know before uploading it.
    """

    path: Path
    protocol: str | None
    metric: str | None = None
    queries: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not self.problems

    def require(self) -> None:
        """Refuse a file that breaks a rule.

        Raises:
            CheckFailed: It does.
        """
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise CheckFailed(
                f"{self.path}: {self.problems[0]}{more}.",
                hint=f"`cirbench submit check {typed(self.path)}` lists all of them.",
            )


def protocol_loader(data_root: Path | None) -> ProtocolLoader:
    """Return a function that loads a protocol, or gives ``None`` where its annotations are not there.

    Raises:
        MissingData: ``data_root`` is given and is not a folder.
        CorruptFile: From the function: annotations are there, and are not what was published.
    """
    if data_root is not None:
        annotation_files.data_root(data_root)

    def load(name: str) -> EvaluationProtocol | None:
        try:
            return load_protocol(name, data_root)
        except CorruptFile:
            raise
        except MissingData:
            return None

    return load


def check_files(
    paths: Sequence[Path], annotations: ProtocolLoader, protocol_id: str | None = None
) -> tuple[SubmissionCheck, ...]:
    """Check files that are to be uploaded together; see `check_file`."""
    reports = [check_file(path, annotations, protocol_id) for path in paths]
    for form in SERVERS.all()[0].values():
        found = {report.metric for report in reports if report.protocol in form.protocols}
        for absent in (part for part in form.parts if found and part not in found):
            note = f'the server also needs the other file, of metric "{absent}", which was not checked now'
            reports = [
                dataclasses.replace(report, notes=(*report.notes, note))
                if report.protocol in form.protocols
                else report
                for report in reports
            ]
    return tuple(reports)


def check_file(path: Path, annotations: ProtocolLoader, protocol_id: str | None = None) -> SubmissionCheck:
    """Find what a file is for, and check every rule.

    Args:
        path: The file.
        annotations: See `protocol_loader`.
        protocol_id: One of `protocols_with_form`; found from the content of the file where it is ``None``.

    Raises:
        MissingData: The file cannot be read.
        CorruptFile: The annotations that it is compared with are not what was published.
    """
    raw = _content(path)
    if raw is None:
        message = f"the file has {path.stat().st_size:,} bytes; no server takes more than {_READ_LIMIT // 10:,}"
        return SubmissionCheck(path, protocol_id, problems=(Problem("size", message),))
    return check_content(path, raw, annotations, protocol_id)


def check_content(
    path: Path, raw: bytes, annotations: ProtocolLoader, protocol_id: str | None = None
) -> SubmissionCheck:
    """Check the bytes of a file, wherever they come from; see `check_file`."""
    values = _read(raw)
    if isinstance(values, Problem):
        return SubmissionCheck(path, protocol_id, problems=(values,))
    return check_values(path, values, len(raw), annotations, protocol_id)


def check_values(
    path: Path, values: Mapping[str, object], size: int, annotations: ProtocolLoader, protocol_id: str | None = None
) -> SubmissionCheck:
    """Check the object of a file; see `check_file`."""
    found_id = _protocol_of(values, protocol_id)
    protocol = protocol_id or found_id
    form = form_of(protocol)
    if found_id not in form.protocols:
        problem = Problem("benchmark", f"the file has the form of {found_id}, and is meant for {protocol}")
        return SubmissionCheck(path, protocol, queries=len(values), problems=(problem,))
    known = annotations(protocol)
    found = form.inspect(values, size, protocol, known)
    notes = found.notes
    if known is None or known.gallery is None:
        notes = (*notes, f"not checked, {form.unchecked}")
    return SubmissionCheck(path, protocol, found.part, found.queries, tuple(found.problems), notes)


def _protocol_of(values: Mapping[str, object], asked: str | None) -> str:
    """Tell what an object is for by its form; one that is asked for by name, and is neither's, is taken as that."""
    if asked is not None and (not values or asked not in (*circo.FORM.protocols, *cirr.FORM.protocols)):
        return asked
    return cirr.TEST if cirr.looks_like(values) else circo.split_of(values)


def write_corrected(path: Path) -> Path | None:
    """Write next to a file what can be corrected in it without guessing, as ``NAME.fixed.json``; return its path.

    Ids of CIRCO that are text of digits become whole numbers; folders and suffixes of CIRR's names and a byte order
    mark are removed. The file itself stays as it is.

    Returns:
        ``None`` where there is nothing of that kind, or the file cannot be read as an object.

    Raises:
        MissingData: The file cannot be read.
        UsageError: Another file has that name.
    """
    raw = _content(path)
    values = None if raw is None else _read(raw.removeprefix(codecs.BOM_UTF8))
    if raw is None or not isinstance(values, dict):
        return None
    corrected, count = (cirr.FORM if cirr.looks_like(values) else circo.FORM).correct(values)
    if not count and not raw.startswith(codecs.BOM_UTF8):
        return None
    output, content = path.with_suffix(".fixed.json"), encode(corrected)
    if output.exists() and output.read_bytes() != content:
        raise UsageError(f"{output} exists and is another file.", hint="Move it away.")
    write_bytes(output, content)
    return output


def _content(path: Path) -> bytes | None:
    """Read a file, unless it is too large to be one of a server.

    Raises:
        MissingData: It cannot be read.
    """
    try:
        return path.read_bytes() if path.stat().st_size <= _READ_LIMIT else None
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error


def _read(raw: bytes) -> dict[str, Any] | Problem:
    if raw.startswith(codecs.BOM_UTF8):
        return Problem("text", "the file begins with a byte order mark, which JSON must not have")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return Problem("text", f"byte {error.start} of the file is not UTF-8")
    if not text.strip():
        return Problem("text", "the file is empty")
    try:
        values = parse_json("the file", text)
    except InvalidPredictions as error:
        return Problem("json", error.message.rstrip("."), _query_before(text, error))
    if not isinstance(values, dict):
        return Problem("object", f"the file holds {kind(values)}, and must hold one object from query id to list")
    return values


def _query_before(text: str, error: InvalidPredictions) -> str | None:
    """The query in whose list the JSON is broken, as far as the text before that place tells."""
    cause = error.__cause__
    if isinstance(cause, json.JSONDecodeError):
        end = cause.pos
    elif (constant := re.search(r"[:\[,]\s*(NaN|-?Infinity)", text)) is not None:
        end = constant.start() + 1
    else:
        return None
    keys = re.findall(r'"([^"\\]*)"\s*:', text[:end])
    return keys[-1] if keys else None


_DEPTH = 100
"""Images in each list that a form is checked on."""


def check_server(form: ServerForm, known: EvaluationProtocol | None) -> list[Finding]:
    """Check a form on a ranking in the order of the gallery.

    Args:
        form: The form.
        known: The protocol that the server scores, where its annotations are available.
    """
    scored = form.protocols[0] if form.protocols else ""

    def declared() -> str | None:
        for label in form.labels:
            parse_label(label)
        if find_protocol(scored) is None:
            return f"no benchmark has the protocol {scored!r}"
        return None

    def written() -> str | None:
        assert known is not None
        for ending, values in form.files(_lists(known)).items():
            if broken := _problems(form, values, scored, known):
                return f"*.{ending}: {broken[0]}" + (f" (and {len(broken) - 1} more)" if len(broken) > 1 else "")
        return None

    def refused() -> str | None:
        assert known is not None
        for ending, values in form.files(_lists(known)).items():
            short = {key: value[:-1] if isinstance(value, list) else value for key, value in values.items()}
            if not _problems(form, short, scored, known):
                return f"*.{ending}: lists without their last id are taken"
        return None

    findings = [rule("its protocol is one of a benchmark, and its labels are those of numbers", declared)]
    if known is None or known.gallery is None:
        return [
            *findings,
            Finding(f"files: not checked, since {scored or 'its protocol'} cannot be loaded (--data-root)"),
        ]
    return [
        *findings,
        rule("the files that it writes keep its own rules", written),
        rule("lists that are too short are refused", refused),
    ]


def _problems(
    form: ServerForm, values: Mapping[str, object], protocol: str, known: EvaluationProtocol
) -> list[Problem]:
    return [*form.inspect(values, len(encode(values)), protocol, known).problems]


def _lists(protocol: EvaluationProtocol) -> RankedLists:
    assert protocol.gallery is not None
    first = protocol.gallery.ids[: _DEPTH + 1]
    rankings = {
        query.id: tuple(name for name in first if name != query.reference.id or not protocol.exclude_reference)[:_DEPTH]
        for query in protocol.queries
    }
    groups = (
        {}
        if protocol.groups is None
        else {
            query.id: tuple(name for name in group if name != query.reference.id)
            for query, group in zip(protocol.queries, protocol.groups, strict=True)
        }
    )
    return RankedLists("a ranking in the order of the gallery", rankings, groups)
