"""Numbers beside those of a protocol: any metric at any cut-off, from the ranks that a run keeps.

They are no part of what was run, so a finished run gets them without being run again, and its digest stays. They stand
apart in ``result.json``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.errors import UsageError, quoted
from cirbench.metrics import METRICS, Measure, Measurement
from cirbench.metrics.measure import per_query
from cirbench.metrics.statistics import intervals
from cirbench.metrics.statistics.intervals import cluster_numbers
from cirbench.ranking.task import UNRANKED
from cirbench.runs.schema import AdditionalValue, MetricValue, seal
from cirbench.support.files import write_versioned
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.measure import Graded, Ranked
    from cirbench.runs.folder import Run

RESAMPLES = 2000
"""Bootstrap samples of queries for the interval of a median."""


def read_measures(texts: Iterable[str]) -> tuple[Measure, ...]:
    """Read ``"Recall@100,nDCG@10"`` and ``"MRR"``, each once.

    Raises:
        UnknownName: There is no such metric; the hint has the nearest ones.
        UsageError: A cut-off is missing, or is not one; or a slice is asked for.
    """
    found: dict[Measure, None] = {}
    for text in (part.strip() for each in texts for part in each.split(",") if part.strip()):
        name, at, k = text.partition("@")
        if "[" in text:
            raise UsageError(f"{quoted(text)} asks for a slice, and an additional metric is over all queries.")
        metric = METRICS.find(name)
        if at and not (k.isascii() and k.isdecimal()):
            raise UsageError(f"{quoted(k)} is not a cut-off.", hint=f"For instance: --metric {name}@10")
        cutoff = metric.cutoff(k if at else None)
        if cutoff is None and at and metric.fixed_k is not None:
            raise UsageError(f"{name} takes no cut-off.", hint=f"--metric {name}")
        if cutoff is None:
            raise UsageError(f"{quoted(text)} needs a cut-off from 1 on.", hint=f"For instance: --metric {name}@10")
        found[Measure(name, cutoff)] = None
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Answered:
    """A ranking to take numbers from.

    Attributes:
        ranked: Its ranks.
        clusters: Per query, its cluster; ``None`` where all queries are independent.
        labels: The ground truths, for soft labels; ``None`` where they are not known.
        depth: How many ids the shortest list has, where the ranking is one of given lists; ``None`` where all ranks are
            known.
    """

    ranked: Ranked
    clusters: Sequence[str] | None
    labels: Graded | None = None
    depth: int | None = None

    def measurement(self, asked: Measure) -> Measurement:
        """Take one number, as a fraction or in its own unit.

        Raises:
            UsageError: The protocol has no groups or soft labels for it, or the lists are too short.
        """
        metric = METRICS.find(asked.metric)
        if metric.needs == "groups" and self.ranked.group_ranks_Q is None:
            raise UsageError(f"{asked.label} needs groups of images, and none are ranked here.")
        if metric.needs == "gains" and (self.labels is None or self.labels.gains is None):
            raise UsageError(f"{asked.label} needs soft labels, and there are none here.")
        ranks = self.ranked.relevant_ranks.values
        if self.depth is not None and asked.k > self.depth and bool((ranks == UNRANKED).any()):
            raise UsageError(
                f"{asked.label} looks behind the end of the lists: the shortest has {self.depth} ids.",
                hint="Give longer lists, or features, which are ranked whole.",
            )
        values_Q = per_query(self.ranked, asked, self.labels)
        assert values_Q is not None
        return Measurement(asked.label, values_Q, _number(values_Q, median=metric.unit != "%"))

    def value(self, asked: Measure) -> AdditionalValue:
        """Take one number with its interval; see `measurement`."""
        taken, unit = self.measurement(asked), METRICS.find(asked.metric).unit
        if unit == "%":
            (interval,) = intervals([taken], self.clusters)
            return AdditionalValue(
                label=taken.label,
                value=100 * taken.value,
                low=100 * interval.low,
                high=100 * interval.high,
                n=taken.count,
            )
        low, high = _bootstrap(taken.values_Q, self.clusters)
        return AdditionalValue(label=taken.label, value=taken.value, low=low, high=high, n=taken.count, unit=unit)


def answered(run: Run, labels: Graded | None = None) -> Answered:
    """Return the ranking of a finished run; ``labels`` for metrics that need soft labels, which a run does not keep."""
    return Answered(run, run.clusters, labels, run.depth)


def keep_additional(run: Run, asked: Sequence[Measure], labels: Graded | None = None) -> Run:
    """Take numbers of a finished run and keep them in its folder, those that were taken before too.

    Raises:
        UsageError: See `Answered.measurement`.
    """
    from cirbench.runs.record import RESULT

    values = {each.label: each for each in run.result.additional}
    values |= {each.label: answered(run, labels).value(each) for each in asked}
    result = msgspec.structs.replace(run.result, additional=[*values.values()])
    if result != run.result:
        write_versioned(run.folder / RESULT, seal(result))
    return dataclasses.replace(run, result=result)


def with_metric(run: Run, label: str | None) -> Run:
    """Return a run with a number that its protocol does not report, to be compared on it; as it is where it has it.

    Raises:
        UsageError: It cannot be taken, or is a median, which has no paired test here.
    """
    name = "" if label is None else label.partition("@")[0]
    if label is None or label in run.values or "[" in label or name not in METRICS.names() or not run.values:
        return run
    needs = METRICS.find(name).needs
    if needs == "gains" or (needs == "groups" and run.group_ranks_Q is None):
        return run
    (asked,) = read_measures([label])
    if METRICS.find(name).unit != "%":
        raise UsageError(
            f"Runs are compared on means of fractions, and {name} is a median.",
            hint=f"`cirbench run --metric {name}` and `cirbench score --metric {name}` report it.",
        )
    taken, value = answered(run).measurement(asked), answered(run).value(asked)
    metric = MetricValue(label=label, value=value.value, low=value.low, high=value.high, n=value.n)
    result = msgspec.structs.replace(run.result, metrics=[*run.result.metrics, metric])
    return dataclasses.replace(run, result=result, values={**run.values, label: taken.values_Q})


def additional_table(rows: Sequence[tuple[str, Sequence[AdditionalValue]]], asked: Sequence[Measure]) -> Table:
    """Show the additional numbers that were asked for, a row for each method."""
    labels = [(each.label, METRICS.find(each.metric).unit) for each in asked]
    columns = (
        Column("method", "method"),
        *(Column(label, label if unit == "%" else f"{label} ({unit})") for label, unit in labels),
    )
    cells = tuple(
        (
            name,
            *(next((Number(v.value, v.low, v.high) for v in values if v.label == label), None) for label, _ in labels),
        )
        for name, values in rows
    )
    note = "These are no part of the protocol. In %, unless the column says otherwise; 95 % intervals."
    return Table("Additional metrics", columns, cells, notes=(note,))


def _number(values_Q: NDArray[np.float64], *, median: bool) -> float:
    counted_Q = values_Q[~np.isnan(values_Q)]
    if not len(counted_Q):
        raise UsageError("No query takes part in this metric.")
    return float(np.median(counted_Q) if median else counted_Q.mean())


def _bootstrap(values_Q: NDArray[np.float64], clusters: Sequence[str] | None) -> tuple[float, float]:
    """The 95 % percentile interval of a median over resampled clusters of queries (Efron, 1979), from a fixed seed."""
    numbers_Q = cluster_numbers(clusters, len(values_Q))
    members = [values_Q[numbers_Q == number] for number in np.unique(numbers_Q)]
    members = [kept for each in members if len(kept := each[~np.isnan(each)])]
    draw = np.random.default_rng(0)
    medians = [
        float(np.median(np.concatenate([members[at] for at in draw.integers(0, len(members), len(members))])))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(medians, [0.025, 0.975], method="nearest")
    return float(low), float(high)
