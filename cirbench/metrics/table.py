"""The table of metrics, and the labels under which their values are stored."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from cirbench.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table of metrics.

    Attributes:
        name: As papers write it.
        title: What it measures, in one sentence.
        source: The paper or the evaluation code that defines it.
        higher_is_better: The direction.
        unit: Of reported values; per-query values are fractions.
        names_cutoffs: Whether the name says the cut-offs itself, so that a label needs none.
    """

    name: str
    title: str
    source: str
    higher_is_better: bool = True
    unit: str = "%"
    names_cutoffs: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """A metric at a cut-off, as a protocol reports it.

    Attributes:
        metric: A name in `METRICS`.
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
        if self.metric not in METRICS:
            raise UnknownName("metric", self.metric, METRICS)

    @property
    def label(self) -> str:
        """``"mAP@5"``; slices aside."""
        return self.metric if METRICS[self.metric].names_cutoffs else f"{self.metric}@{self.k}"

    def __str__(self) -> str:
        sliced = "" if self.by is None else f" per {self.by}"
        return f"{self.label}{sliced}{' and macro mean' if self.macro else ''}"


CIRR_AVERAGE = "(R@5+Rs@1)/2"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "Recall",
            "How often the target is among the first K candidates.",
            "CIRR: Liu et al., ICCV 2021, section 5.1; FashionIQ: Wu et al., CVPR 2021, section 5",
        ),
        Metric(
            "Recall_subset",
            "How often the target is among the first K of its group, ranked by the same scores without the reference.",
            "CIRR: Liu et al., ICCV 2021, section 5.1",
        ),
        Metric(
            "mAP",
            "The mean over queries of the precision at each ground truth found in the first K, divided by "
            "min(number of ground truths, K).",
            "CIRCO: Baldrati et al., ICCV 2023, section 5.1, equation 6",
        ),
        Metric(
            CIRR_AVERAGE,
            "The mean of Recall@5 and Recall_subset@1.",
            "CIRR: Liu et al., ICCV 2021, section 5.1",
            names_cutoffs=True,
        ),
        Metric(
            "Recall_soft",
            "The largest soft label among the first K candidates, 0 where none is positive.",
            "CIRPLANT's public evaluation: Liu et al., ICCV 2021",
        ),
        Metric(
            "Recall_fractional",
            "The share of a query's ground truths that is among the first K, 0 for a query without ground truths.",
            "Pic2Word's public evaluation: Saito et al., CVPR 2023",
        ),
        Metric(
            "Hit_rate",
            "How often any ground truth is among the first K, never for a query without ground truths.",
            "MagicLens' public evaluation: Zhang et al., ICML 2024",
        ),
    )
}


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
        ValueError: It is not a label of a number.
    """
    if text == CIRR_AVERAGE:
        return Label(CIRR_AVERAGE, 5)
    match = _LABEL.fullmatch(text)
    if match is None or match["metric"] not in METRICS or match["k"] is None or len(match["k"]) > 9:
        raise ValueError(f"{text!r} is not a label of a number")
    sliced = match["slice"]
    if sliced is None:
        return Label(match["metric"], int(match["k"]))
    if sliced.startswith(_MEAN):
        return Label(match["metric"], int(match["k"]), by=sliced.removeprefix(_MEAN))
    by, separator, part = sliced.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is not a label of a number")
    return Label(match["metric"], int(match["k"]), by=by, part=part)


_SHORT = {"Recall": "R", "Recall_subset": "Rs", "Recall_fractional": "R", "Hit_rate": "Hit"}


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
