"""Answers that authors have released, in the forms in which they released them, joined to the queries of a protocol.

LDRE (Yang et al., SIGIR 2024) and SEIZE (MM 2024) release the benchmark's annotations with fifteen captions and fifteen
edited ones added to each query, and IP-CIR (Li et al., CVPR 2025) reads the same of CIRR and FashionIQ; CIReVL (Karthik
et al., ICLR 2024) writes three lists in the order of the queries; EgoCVR (Hummel et al., ECCV 2024) has a column of
edited captions. Nothing of theirs comes with cirbench.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from cirbench.artefacts.answers import Answer, Sample
from cirbench.errors import CheckFailed, CorruptFile, UnknownName, UsageError, excerpt, quoted, some
from cirbench.support.textfiles import csv_rows, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol, Query


@dataclasses.dataclass(frozen=True)
class Form:
    """How a release is written.

    Attributes:
        reference: The columns that may name the reference image.
        caption: The columns that may hold the relative caption.
        id: The columns that may hold the id of the query.
        concept: The column of the shared concept, which is compared where both sides have it.
        fields: What is taken: by the field of the answers, the column of the release.
    """

    reference: tuple[str, ...]
    caption: tuple[str, ...]
    id: tuple[str, ...]
    concept: str
    fields: Mapping[str, str]


_ANNOTATIONS = Form(
    ("reference_img_id", "reference", "candidate"),
    ("relative_caption", "caption", "captions"),
    ("id", "pairid"),
    "shared_concept",
    {"caption": "multi_caption_opt", "edited": "multi_gpt-3.5_opt"},
)
FORMS: Mapping[str, Form] = {
    "ldre": _ANNOTATIONS,
    "seize": _ANNOTATIONS,
    "ip-cir": _ANNOTATIONS,
    "cirevl": Form((), ("instruction",), (), "", {"caption": "base_caption", "edited": "modified_captions"}),
    "egocvr": Form(("video_clip_id",), ("instruction",), (), "", {"edited": "modified_captions"}),
}


@dataclasses.dataclass(frozen=True)
class Joined:
    """Answers to the queries of a protocol.

    Attributes:
        answers: One for each query that the release answers.
        unanswered: The ids of the other queries.
    """

    answers: tuple[Answer, ...]
    unanswered: tuple[str, ...]


def read_released(
    path: Path, form: str, protocol: EvaluationProtocol, fields: Mapping[str, str] | None = None
) -> Joined:
    """Join a release to a protocol by reference image and relative caption, and by order where it names no image.

    Args:
        path: A JSON list of rows, a JSON object of lists, or a CSV file with a head.
        form: A key of `FORMS`.
        protocol: With the images of its queries, since answers are kept by content.
        fields: What to take in place of the form's own columns: by the field of the answers, the column.

    Raises:
        UnknownName: There is no such form.
        UsageError: The file has no such column.
        MissingData: The file, or the image of a query, is not there.
        CorruptFile: It is not of this form.
        CheckFailed: Rows fit no query, or say otherwise than the query that they fit; each is named.
    """
    if form not in FORMS:
        raise UnknownName("form of released answers", form, FORMS)
    known = FORMS[form]
    taken = dict(fields or known.fields)
    rows = _rows(path)
    for column in taken.values():
        if column not in rows[0]:
            others = [name for name in rows[0] if name not in (*known.reference, *known.caption, *known.id)]
            raise UsageError(f"{path} has no column {quoted(column)}.", hint=f"It has {some(others)}.")
    placed = _by_order(path, rows, known, protocol) if not known.reference else _by_name(path, rows, known, protocol)
    answers = tuple(
        Answer(
            (query.reference.image.content,),
            query.captions,
            _fields(rows[placed[query.id]], taken, f"{path}, row {placed[query.id] + 1}"),
        )
        for query in protocol.queries
        if query.id in placed
    )
    unanswered = tuple(query.id for query in protocol.queries if query.id not in placed)
    return Joined(answers, unanswered)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of any of the three kinds; at least one."""
    if path.suffix == ".csv":
        rows: list[dict[str, Any]] = [
            dict(row) for _, row in csv_rows(str(path), read_text(path), lambda place, names: None)
        ]
    else:
        try:
            content = json.loads(read_text(path))
        except (json.JSONDecodeError, RecursionError) as error:
            raise CorruptFile(f"{path} is not JSON: {excerpt(error)}.", hint="Fetch it again.") from error
        if isinstance(content, dict) and content and all(isinstance(column, list) for column in content.values()):
            lengths = {name: len(column) for name, column in content.items()}
            if len({*lengths.values()}) > 1:
                raise CorruptFile(f"The lists in {path} are not equally long: {lengths}.")
            rows = [dict(zip(content, values, strict=True)) for values in zip(*content.values(), strict=True)]
        else:
            rows = content if isinstance(content, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise CorruptFile(f"{path} holds no rows: neither a list of objects, nor an object of lists.")
    return rows


def _fields(row: Mapping[str, Any], taken: Mapping[str, str], place: str) -> dict[str, tuple[Sample, ...]]:
    return {field: _texts(row[column], place) for field, column in taken.items()}


def _texts(value: Any, place: str) -> tuple[str, ...]:
    texts = tuple(value) if isinstance(value, list) else (value,)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise CorruptFile(f"{place} has an empty answer, or one that is not a text: {excerpt(value)}.")
    return tuple(text.strip() for text in texts)


def _plain(text: object) -> str:
    """A text for comparison: releases have squeezed and added blanks."""
    return " ".join(str(text).split())


def _cell(row: Mapping[str, Any], columns: Sequence[str]) -> object:
    """What the first of the columns that a row has holds; several captions of a query are joined."""
    cell = next((row[column] for column in columns if column in row), None)
    return " and ".join(map(str, cell)) if isinstance(cell, list) else cell


def _by_name(path: Path, rows: Sequence[dict[str, Any]], form: Form, protocol: EvaluationProtocol) -> dict[str, int]:
    queries: dict[tuple[str, str], list[Query]] = {}
    for query in protocol.queries:
        for caption in (*query.captions, " and ".join(query.captions)):
            held = queries.setdefault((_bare(query.reference.id), _plain(caption)), [])
            held.extend([query] if query.id not in {other.id for other in held} else [])
    placed: dict[str, int] = {}
    lost, other = [], []
    for place, row in enumerate(rows):
        named, said = _cell(row, form.reference), _plain(_cell(row, form.caption))
        id = _cell(row, form.id)
        found = queries.get((_bare(named), said), [])
        several = [query for query in found if len(found) == 1 or str(id) == query.id]
        if not several:
            lost.append(f"row {place + 1} ({excerpt(named)}, {quoted(said)})")
        elif (why := _differs(row, id, several[0], form)) is not None:
            other.append(f"row {place + 1} {why}")
        elif several[0].id in placed:
            other.append(f"row {place + 1} answers query {several[0].id} again")
        else:
            placed[several[0].id] = place
    _refuse(path, protocol, lost, other)
    return placed


def _bare(name: object) -> str:
    """An image's name without what releases write differently: zeros in front of COCO's ids."""
    text = str(name)
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _differs(row: Mapping[str, Any], id: object, query: Query, form: Form) -> str | None:
    if id is not None and str(id) != query.id:
        return f"has the id {excerpt(id)}, and its query {query.id}"
    concept = row.get(form.concept)
    if concept is not None and query.shared_concept is not None and _plain(concept) != _plain(query.shared_concept):
        return f"has the shared concept {quoted(concept)}, and its query {quoted(query.shared_concept)}"
    return None


def _by_order(path: Path, rows: Sequence[dict[str, Any]], form: Form, protocol: EvaluationProtocol) -> dict[str, int]:
    if len(rows) != len(protocol.queries):
        raise CheckFailed(
            f"{path} has {len(rows):,} rows in the order of the queries, and {protocol.name} has "
            f"{len(protocol.queries):,} queries."
        )
    lost = []
    for place, (row, query) in enumerate(zip(rows, protocol.queries, strict=True)):
        said = _plain(_cell(row, form.caption))
        stripped = " and ".join(caption.strip(".?, ") for caption in query.captions)
        if said not in {_plain(text) for text in (*query.captions, " and ".join(query.captions), stripped)}:
            lost.append(f"row {place + 1} ({quoted(said)}; query {query.id} says {quoted(query.captions[0])})")
    _refuse(path, protocol, lost, [])
    return {query.id: place for place, query in enumerate(protocol.queries)}


def _refuse(path: Path, protocol: EvaluationProtocol, lost: Sequence[str], other: Sequence[str]) -> None:
    problems = [f"{len(lost):,} rows fit no query: {some(lost)}"] if lost else []
    problems += [f"{len(other):,} rows contradict their query: {some(other)}"] if other else []
    if problems:
        raise CheckFailed(
            f"{path} does not answer the queries of {protocol.name}; {'; '.join(problems)}.",
            hint="It may belong to another split or version of the benchmark.",
        )
