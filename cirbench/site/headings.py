"""Short names for the numbers of a board, and which of them a table shows at first."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.metrics.labels import Label, parse_label
from cirbench.metrics.table import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = {"Recall": "R", "Recall_subset": "Rs", "Recall_fractional": "R", "Hit_rate": "Hit"}
_MOST = 10


@dataclasses.dataclass(frozen=True)
class Heading:
    """A column of numbers.

    Attributes:
        label: As results have it.
        short: As a table shows it.
        text: What it is, in a sentence.
        key: What the page's address calls it.
        shown: Whether the table shows it before anybody chose.
    """

    label: str
    short: str
    text: str
    key: str
    shown: bool


def headings(labels: Sequence[str]) -> tuple[Heading, ...]:
    """Name the columns of a board.

    Where there are many, the first two cut-offs of each metric are shown, and slices at the cut-off of the headline.
    """
    first = parse(labels[0])
    cutoffs: dict[str, list[int]] = {}
    found = []
    for text in labels:
        label = parse(text)
        if label.part is None:
            cutoffs.setdefault(label.metric, []).append(label.k)
            shown = label.k in cutoffs[label.metric][:2]
        else:
            shown = (label.metric, label.k) == (first.metric, first.k)
        key = text.replace(" ", "-").replace("[", ".").replace("]", "").replace("=", ".")
        found.append(Heading(text, short_label(text), long_label(text), key, shown or len(labels) <= _MOST))
    return tuple(found)


def parse(text: str) -> Label:
    """Take a label apart; one that no protocol of ours reports, such as mAP without a cut-off, as far as it goes."""
    try:
        return parse_label(text)
    except ValueError:
        metric, _, rest = text.partition("[")
        by, _, part = rest.rstrip("]").partition("=")
        return Label(metric, 0, by=by.removeprefix("mean over ") or None, part=part or None)


def short_label(text: str) -> str:
    """Write ``"R@10 shirt"`` for ``"Recall@10[category=shirt]"``, ``"R@10 mean"`` for the mean over categories."""
    label = parse(text)
    return f"{_name(label, _SHORT.get(label.metric, label.metric))}{_slice(label)}"


def long_label(text: str) -> str:
    """Say what a number is: the metric's own sentence, the cut-off, and the slice."""
    label = parse(text)
    part = f"; {label.by}: {label.part}" if label.part else f"; mean over each {label.by}" if label.by else ""
    known = METRICS.get(label.metric)
    meaning = f": {known.title.rstrip('.')}" if known else ""
    return f"{_name(label, label.metric)}{meaning}{part}"


def _name(label: Label, metric: str) -> str:
    known = METRICS.get(label.metric)
    return metric if label.k == 0 or (known and known.names_cutoffs) else f"{metric}@{label.k}"


def _slice(label: Label) -> str:
    if label.part is not None:
        return f" {label.part.replace('_', ' ')}"
    return " mean" if label.by else ""
