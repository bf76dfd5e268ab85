"""CIRCO's server file: one JSON object, ``{"0": [50 image ids], ..., "799": [...]}``.

CIRCO's README and examples have whole numbers. Its published evaluation code also casts text of digits, which the
public code of several methods writes, so such a file passes here with a warning; `with_numbers` makes it like the
examples.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cirbench.benchmarks import circo
from cirbench.benchmarks.catalogue import find_protocol
from cirbench.errors import some
from cirbench.submissions.form import Inspected, Odd, Problem, ServerForm, broken_list, broken_queries, kind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.lists import RankedLists

TEST, VAL = "circo/test", "circo/val"
LENGTH = 50
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")


def content(lists: RankedLists) -> dict[str, list[int]]:
    """Return what the server reads: the first 50 ids of each list as whole numbers."""
    return {query: [int(name) for name in ids[:LENGTH]] for query, ids in lists.rankings.items()}


def with_numbers(values: Mapping[str, object]) -> tuple[dict[str, object], int]:
    """Return an object with whole numbers for ids that are text of digits, and how many of those there were."""
    count = 0
    corrected: dict[str, object] = {}
    for query, value in values.items():
        if isinstance(value, list) and (texts := sum(map(_is_digits, value))):
            count += texts
            value = [int(name) if _is_digits(name) else name for name in value]
        corrected[query] = value
    return corrected, count


def _is_digits(name: object) -> bool:
    return isinstance(name, str) and _NUMBER.fullmatch(name) is not None


def split_of(values: Mapping[str, object]) -> str:
    """Tell the protocol of a file by how many queries it has."""
    return VAL if len(values) <= _count(VAL) else TEST


def problems(values: Mapping[str, object], protocol_id: str, known: EvaluationProtocol | None) -> Iterator[Problem]:
    """Check a file's object.

    Args:
        values: The object, its ids as `with_numbers` gives them.
        protocol_id: The id of the protocol whose queries it must have, ``"circo/test"`` or ``"circo/val"``.
        known: That protocol, where its annotations are available; ids are checked against its gallery if it has one.
    """
    expected = [str(number) for number in range(_count(protocol_id))]
    other = VAL if protocol_id == TEST else TEST
    if set(values) == {str(number) for number in range(_count(other))}:
        yield Problem("split", f"it has the {len(values)} queries of {other}, not the {len(expected)} of {protocol_id}")
    else:
        yield from broken_queries(values, expected, protocol_id)
    gallery = None if known is None or known.gallery is None else known.gallery.positions
    for query, value in values.items():
        yield from broken_list(query, value, LENGTH, _odd)
        if gallery is None or not isinstance(value, list):
            continue
        if outside := [name for name in value if _odd(name) is None and str(name) not in gallery]:
            yield Problem("gallery", f"not in the gallery: {some(outside)}", query)


def _odd(name: object) -> Odd | None:
    if type(name) is int:
        return None if name >= 0 else ("id", f"{shown(name)} is negative")
    return "id", f"{shown(name)} is {kind(name)}, and an id is a whole number"


def _count(name: str) -> int:
    entry = find_protocol(name)
    assert entry is not None and entry.queries is not None
    return entry.queries


def _inspect(values: Mapping[str, object], _size: int, protocol: str, known: EvaluationProtocol | None) -> Inspected:
    numbers, texts = with_numbers(values)
    notes: tuple[str, ...] = ()
    if texts:
        notes = (f"{texts:,} ids are text; `cirbench submit check --fix` writes whole numbers, as in CIRCO's examples",)
    if protocol == VAL:
        notes = ("this is val, and the server scores test only; val is scored by `cirbench score`", *notes)
    return Inspected(len(values), problems(numbers, protocol, known), notes=notes)


_BY_ASPECT = {
    name: f"{circo.ASPECT_MEASURE.label}[{circo.ASPECT_MEASURE.by}={name}]" for name in circo.ASPECT_MEASURE.labels
}

FORM = ServerForm(
    name="circo",
    title="CIRCO: one object from query id to 50 image ids",
    upload="https://circo.micc.unifi.it",
    answers="by e-mail, mAP@5/10/25/50, Recall@5/10/25/50 and mAP@10 of the nine aspects",
    protocols=(TEST, VAL),
    labels=(*(measure.label for measure in circo.MEASURES), *_BY_ASPECT.values()),
    aliases=_BY_ASPECT,
    files=lambda lists: {"json": content(lists)},
    inspect=_inspect,
    unchecked="since COCO's image_info_unlabeled2017.json is not available (--data-root): whether ids are in the "
    "gallery",
    correct=with_numbers,
)
