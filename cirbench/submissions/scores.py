"""A server's scores as a person types or pastes them, read into the labels of `cirbench run`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from cirbench.datasets import circo, cirr
from cirbench.datasets.catalogue import protocols
from cirbench.errors import UnknownName, UsageError
from cirbench.predictions.read import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator


def parse_scores(text: str, protocol: str) -> dict[str, float]:
    """Read a server's scores: ``mAP@5=12.3,mAP@10=11.9``, or a JSON object; in percent.

    Names are known in any case, and an aspect of CIRCO by itself: ``cardinality=10.1``.

    Raises:
        UsageError: A score is no percentage, or is given twice, or there is none.
        UnknownName: A score is none of the protocol's.
    """
    labels = {label.lower(): label for label in score_labels(protocol)}
    labels |= dict(_aspects(protocol))
    scores: dict[str, float] = {}
    for name, value in _pairs(text):
        label = labels.get(name.strip().lower())
        if label is None:
            raise UnknownName(f"score of {protocol}", name, score_labels(protocol))
        if label in scores:
            raise UsageError(f"The score {label} is given twice.")
        scores[label] = _percent(label, value)
    if not scores:
        raise UsageError("No score is given.", hint="Give --scores 'mAP@5=12.3,mAP@10=11.9', or a JSON object.")
    return scores


def score_labels(protocol: str) -> tuple[str, ...]:
    """Return the labels under which the server of a protocol reports."""
    if protocols()[protocol].dataset == "cirr":
        return tuple(measure.label for measure in cirr.MEASURES)
    return (*(measure.label for measure in circo.MEASURES), *(label for _, label in _aspects(protocol)))


def _aspects(protocol: str) -> Iterator[tuple[str, str]]:
    if protocols()[protocol].dataset == "circo":
        sliced = circo.ASPECT_MEASURE
        yield from ((name, f"{sliced.label}[{sliced.by}={name}]") for name in sliced.labels)


def _pairs(text: str) -> list[tuple[str, object]]:
    if text.lstrip().startswith("{"):
        return list(parse_json("--scores", text).items())
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if odd := next((part for part in parts if "=" not in part), None):
        raise UsageError(f"{odd!r} is no score.", hint="Scores look like mAP@5=12.3,mAP@10=11.9.")
    # The label of a slice holds a sign of its own: mAP@10[aspect=negation]=6.5.
    return [(name, value) for name, _, value in (part.rpartition("=") for part in parts)]


def _percent(label: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:
        raise UsageError(f"The score {label} is {json.dumps(value)}, and must be a number of percent, from 0 to 100.")
    return number
