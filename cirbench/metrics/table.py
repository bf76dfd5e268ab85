"""What each metric is: its name, direction, unit and source, and how a protocol asks for it."""

from __future__ import annotations

import dataclasses

from cirbench.errors import UnknownName


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
