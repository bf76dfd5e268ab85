"""The table of metrics, and the labels under which their values are stored."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Literal

from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.metrics.functions import Ranks


NO_CUTOFF = 1 << 62
"""The cut-off of a metric that looks at the whole ranking."""

CIRR_AVERAGE = "(R@5+Rs@1)/2"


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table of metrics.

    Attributes:
        name: As papers write it.
        title: What it measures, in one sentence.
        source: The paper or the evaluation code that defines it.
        function: From ranks and the cut-off to one value per query, NaN where a query takes no part. Values of the unit
            % are fractions, whose mean is the number; of another unit, the number is their median.
        needs: What it is made of beside the ranks of ground truths: ranks inside groups, soft labels, or the ranks of
            negatives. Unless it needs soft labels, it is given no item whose soft label is below 0 as a ground truth.
        higher_is_better: The direction.
        unit: Of reported numbers: % or rank.
        on_all: Whether it looks at every ground truth, and not at the target alone.
        fixed_k: The cut-off of a metric whose name says it, so that a label needs none.
        whole: Whether a label without a cut-off means the whole ranking.
    """

    name: str
    title: str
    source: str
    function: Callable[[Ranks, int], NDArray[np.float64]]
    needs: Literal["ranks", "groups", "gains", "negatives"] = "ranks"
    higher_is_better: bool = True
    unit: str = "%"
    on_all: bool = False
    fixed_k: int | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][\w.+-]*", self.name) and self.name != CIRR_AVERAGE:
            raise ValueError(
                f"{self.name!r} cannot be the name of a metric: a letter, then letters, digits and _ . + -"
            )

    def label(self, k: int) -> str:
        """Return ``"mAP@5"``; the name alone, where it says the cut-off."""
        return self.name if k in (self.fixed_k, NO_CUTOFF) else f"{self.name}@{k}"

    def cutoff(self, text: str | None) -> int | None:
        """Return the cut-off of a label with ``text`` behind its @; ``None`` where a label cannot be so."""
        if text is None:
            return NO_CUTOFF if self.whole else self.fixed_k
        return int(text) if self.fixed_k is None and len(text) < 10 and int(text) > 0 else None


METRICS = Plugins("metric", "cirbench.metrics", Metric, "docs/adding-a-plugin.md")


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """A metric at a cut-off, as a protocol reports it.

    Attributes:
        metric: The name of one of `METRICS`.
        k: The cut-off.
        by: The kind of slice (``"aspect"``) to report each value of, or ``None`` for all queries.
        macro: With ``by``: also report the unweighted mean over the slices.
        labels: With ``by``: the slices to report, in the benchmark's own order; empty for all of them by name.
    """

    metric: str
    k: int
    by: str | None = None
    macro: bool = False
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        METRICS.find(self.metric)

    @property
    def label(self) -> str:
        """``"mAP@5"``; slices aside."""
        return METRICS.find(self.metric).label(self.k)

    def __str__(self) -> str:
        sliced = "" if self.by is None else f" per {self.by}"
        return f"{self.label}{sliced}{' and macro mean' if self.macro else ''}"


_LABEL = re.compile(r"(?P<metric>.+?)(?:@(?P<k>\d+))?(?:\[(?P<slice>[^\[\]]+)\])?", re.DOTALL)
_MEAN = "mean over "


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A label in its parts.

    Attributes:
        metric: The name of one of `METRICS`.
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
        ValueError: It is not a label of a number.
    """
    match = _LABEL.fullmatch(text)
    metric = "" if match is None else match["metric"]
    k = METRICS.find(metric).cutoff(match["k"]) if match is not None and metric in METRICS.names() else None
    if match is None or k is None:
        raise ValueError(f"{text!r} is not a label of a number")
    sliced = match["slice"]
    if sliced is None:
        return Label(metric, k)
    if sliced.startswith(_MEAN):
        return Label(metric, k, by=sliced.removeprefix(_MEAN))
    by, separator, part = sliced.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is not a label of a number")
    return Label(metric, k, by=by, part=part)


_SHORT = {
    "Recall": "R",
    "Recall_subset": "Rs",
    "Recall_fractional": "R",
    "Hit_rate": "Hit",
    "mAP_trapezoidal": "mAP_trap",
    "mAP_trapezoidal_all": "mAP_trap_all",
}


def short_label(text: str) -> str:
    """Write ``"R@10 shirt"`` for ``"Recall@10[category=shirt]"``, ``"R@10 mean"`` for the mean over categories.

    A label that no protocol reports, such as mAP without a cut-off, is shortened as far as it can be read.
    """
    name, bracket, rest = text.partition("[")
    metric, at, k = name.partition("@")
    by, _, part = rest.rstrip("]").partition("=")
    sliced = f" {part.replace('_', ' ')}" if part else " mean" if bracket and by.startswith(_MEAN) else ""
    return f"{_SHORT.get(metric, metric)}{at}{k}{sliced}"


def parts_of(label: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Return, of the labels that a protocol reports, those that ``label`` is the unweighted mean of; often none."""
    start, mean, by = label.partition(f"[{_MEAN}")
    return tuple(each for each in labels if mean and each.startswith(f"{start}[{by.removesuffix(']')}="))


def printed_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return, of the numbers that a protocol reports, those that papers print in their tables, in the papers' order.

    Numbers on all queries come first, then each slice with its cut-offs, then the means over slices: R@10 and R@50 of
    dress, shirt and top-tee and their averages for FashionIQ, R@1, R@2 and R@3 of each task for GeneCIS. Slices that
    no mean is taken over, such as CIRCO's aspects, are left out, and where mAP leads, so are recall and hit rate.
    """
    sliced = {label: _slice(label) for label in labels}
    averaged = {by for by, part in sliced.values() if by and not part}
    parts = [*dict.fromkeys(part for by, part in sliced.values() if by in averaged and part)]

    def place(label: str) -> int:
        by, part = sliced[label]
        return 0 if not by else 1 + parts.index(part) if part else 1 + len(parts)

    less = ("Recall@", "Hit_rate@") if labels and labels[0].startswith("mAP") else ()
    chosen = (label for label, (by, _) in sliced.items() if by in averaged or (not by and not label.startswith(less)))
    return tuple(sorted(chosen, key=place))


def _slice(label: str) -> tuple[str, str]:
    """The kind of slice and the slice that a label is about, ``""`` for all; without a look at the metric."""
    inside = label.partition("[")[2].removesuffix("]")
    by, _, part = ("", "", "") if not inside else inside.removeprefix(_MEAN).partition("=")
    return by, part


def measures_of(labels: Sequence[str]) -> tuple[Measure, ...]:
    """Return what a protocol asked for, from the labels of all that it reports, in their order.

    Raises:
        ValueError: One is not a label of a number.
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
