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
    """

    name: str
    title: str
    source: str
    higher_is_better: bool = True
    unit: str = "%"


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

    def __str__(self) -> str:
        sliced = "" if self.by is None else f" per {self.by}"
        return f"{self.metric}@{self.k}{sliced}{' and macro mean' if self.macro else ''}"


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
    )
}
