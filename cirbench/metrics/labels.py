"""From the label of a number back to what was asked for."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from cirbench.metrics.table import CIRR_AVERAGE, METRICS, Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL = re.compile(r"(?P<metric>.+?)(?:@(?P<k>\d+))?(?:\[(?P<slice>[^\[\]]+)\])?", re.DOTALL)
_MEAN = "mean over "


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A label in its parts.

    Attributes:
        metric: A name in `METRICS`.
        k: The cut-off.
        by: The kind of slice, or ``None``.
        part: The slice; ``None`` for all queries, and for the mean over the slices of ``by``.
    """

    metric: str
    k: int
    by: str | None = None
    part: str | None = None


def parse_label(text: str) -> Label:
    """Take apart ``"mAP@5"``, ``"mAP@10[aspect=negation]"`` or ``"Recall@10[mean over category]"``.

    Raises:
        ValueError: It is no label of a number.
    """
    if text == CIRR_AVERAGE:
        return Label(CIRR_AVERAGE, 5)
    match = _LABEL.fullmatch(text)
    if match is None or match["metric"] not in METRICS or match["k"] is None or len(match["k"]) > 9:
        raise ValueError(f"{text!r} is no label of a number")
    sliced = match["slice"]
    if sliced is None:
        return Label(match["metric"], int(match["k"]))
    if sliced.startswith(_MEAN):
        return Label(match["metric"], int(match["k"]), by=sliced.removeprefix(_MEAN))
    by, separator, part = sliced.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is no label of a number")
    return Label(match["metric"], int(match["k"]), by=by, part=part)


def measures_of(labels: Sequence[str]) -> tuple[Measure, ...]:
    """Return what a protocol asked for, from the labels of all that it reports, in their order.

    Raises:
        ValueError: One is no label of a number.
    """
    found: dict[tuple[str, int, str | None], Measure] = {}
    for label in map(parse_label, labels):
        key = (label.metric, label.k, label.by)
        known = found.get(key, Measure(label.metric, label.k, by=label.by))
        if label.by is not None and label.part is None:
            known = dataclasses.replace(known, macro=True)
        elif label.part is not None:
            known = dataclasses.replace(known, labels=(*known.labels, label.part))
        found[key] = known
    return tuple(found.values())
