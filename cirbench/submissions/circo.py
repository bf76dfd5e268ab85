"""CIRCO's server file: one JSON object, ``{"0": [50 image ids], ..., "799": [...]}``.

The evaluation code that CIRCO publishes casts ids to whole numbers, so that text of digits passes there; its README and
its examples have whole numbers. A file is held to what is written down: a server may change what it forgives.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import protocols
from cirbench.errors import some
from cirbench.submissions.rules import Odd, Problem, broken_list, broken_queries, kind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.read import RankedLists

TEST, VAL = "circo/test", "circo/val"
LENGTH = 50


def content(lists: RankedLists) -> dict[str, list[int]]:
    """Return what the server reads: the first 50 ids of each list as whole numbers."""
    return {query: [int(name) for name in ids[:LENGTH]] for query, ids in lists.rankings.items()}


def encode(values: Mapping[str, object]) -> bytes:
    """Write JSON without spaces."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()


def split_of(values: Mapping[str, object]) -> str:
    """Tell the protocol of a file by how many queries it has."""
    return VAL if len(values) <= _count(VAL) else TEST


def problems(values: Mapping[str, object], meant: str, at_hand: EvaluationProtocol | None) -> Iterator[Problem]:
    """Check a file's object.

    Args:
        values: The object.
        meant: The protocol whose queries it must have, ``"circo/test"`` or ``"circo/val"``.
        at_hand: That protocol, where its annotations are available; ids are checked against its gallery if it has one.
    """
    expected = [str(number) for number in range(_count(meant))]
    other = VAL if meant == TEST else TEST
    if set(values) == {str(number) for number in range(_count(other))}:
        yield Problem("split", f"it has the {len(values)} queries of {other}, not the {len(expected)} of {meant}")
    else:
        yield from broken_queries(values, expected, meant)
    gallery = None if at_hand is None or at_hand.gallery is None else at_hand.gallery.positions
    for query, value in values.items():
        yield from broken_list(query, value, LENGTH, _odd)
        if gallery is None or not isinstance(value, list):
            continue
        if outside := [name for name in value if _odd(name) is None and str(name) not in gallery]:
            yield Problem("gallery", f"not in the gallery: {some(outside)}", query)


def _odd(name: object) -> Odd | None:
    if type(name) is int:
        return None if name >= 0 else ("id", f"{shown(name)} is negative")
    hint = f"; write {int(name)}" if isinstance(name, str) and name.isascii() and name.isdecimal() else ""
    return "id", f"{shown(name)} is {kind(name)}, and an id is a whole number{hint}"


def _count(name: str) -> int:
    count = protocols()[name].queries
    assert count is not None
    return count
