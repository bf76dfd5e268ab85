"""Numbers beside those of a protocol: any metric at any cut-off, from the ranks that a run keeps.

They are not part of what was run, so a finished run gets them without being run again, and its digest stays. They are
apart in ``result.json``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cirbench.errors import UnknownName, UsageError, quoted
from cirbench.metrics import METRICS, Measure, Measurement
from cirbench.metrics.functions import UNRANKED
from cirbench.metrics.intervals import cluster_numbers, intervals
from cirbench.metrics.measure import measurements_of, per_query
from cirbench.metrics.table import NO_CUTOFF
from cirbench.runs.schema import AdditionalValue, MetricValue, in_percent, seal
from cirbench.support.files import write_versioned
from cirbench.support.tables import Column, Number, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.measure import Graded, Ranked
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run, Slices

RESAMPLES = 2000
"""Bootstrap samples of queries for the interval of a median."""


def read_measures(texts: Iterable[str], by: str | None = None) -> tuple[Measure, ...]:
    """Read ``"Recall@100,nDCG@10"`` and ``"MRR"``, each once, ``by`` the labels of a kind where one is given.

    Raises:
        UnknownName: There is no such metric; the hint has the nearest ones.
        UsageError: A cut-off is missing, or is not one; or a slice is asked for.
    """
    found: dict[Measure, None] = {}
    for text in (part.strip() for each in texts for part in each.split(",") if part.strip()):
        name, at, k = text.partition("@")
        if "[" in text:
            raise UsageError(f"{quoted(text)} asks for a slice.", hint="For every slice of a kind: --by KIND")
        metric = METRICS.find(name)
        if at and not (k.isascii() and k.isdecimal()):
            raise UsageError(f"{quoted(k)} is not a cut-off.", hint=f"For instance: --metric {name}@10")
        cutoff = metric.cutoff(k if at else None)
        if cutoff is None and at and metric.fixed_k is not None:
            raise UsageError(f"{name} takes no cut-off.", hint=f"--metric {name}")
        if cutoff is None:
            raise UsageError(f"{quoted(text)} needs a cut-off from 1 on.", hint=f"For instance: --metric {name}@10")
        found[Measure(name, cutoff, by=by, macro=by is not None)] = None
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Answered:
    """A ranking to take numbers from.

    Attributes:
        ranked: Its ranks.
        clusters: Per query, its cluster; ``None`` where all queries are independent.
        slices: Per kind, the labels that each query carries.
        labels: The ground truths, for soft labels; ``None`` where they are not known.
        depth: How many ids the shortest list has, where the ranking is one of given lists; ``None`` where all ranks are
            known.
    """

    ranked: Ranked
    clusters: Sequence[str] | None
    slices: Mapping[str, Slices]
    labels: Graded | None = None
    depth: int | None = None

    def measurements(self, asked: Measure) -> list[Measurement]:
        """Take one number, or that of each slice; as fractions, or in the unit of the metric.

        Raises:
            UnknownName: Queries carry no labels of that kind.
            UsageError: The protocol has no groups or soft labels for it, or the lists are too short.
        """
        metric = METRICS.find(asked.metric)
        if asked.by is not None and asked.by not in self.slices:
            raise UnknownName("label of these queries", asked.by, self.slices)
        if metric.needs == "groups" and self.ranked.group_ranks_Q is None:
            raise UsageError(f"{asked.label} needs groups of images, and none are ranked here.")
        gains = None if self.labels is None else self.labels.gains
        if metric.needs == "gains" and gains is None:
            raise UsageError(f"{asked.label} needs soft labels, and there are none here.")
        if metric.needs == "negatives" and not any(gain < 0 for row in gains or () for gain in row):
            raise UsageError(f"{asked.label} needs images that are known to be wrong answers, and none are annotated.")
        ranks = self.ranked.relevant_ranks.values
        if self.depth is not None and asked.k > self.depth and bool((ranks == UNRANKED).any()):
            if asked.k == NO_CUTOFF:
                raise UsageError(
                    f"{asked.label} needs the full ranking, and the shortest list has {self.depth} ids.",
                    hint="Give lists of all candidates, or features, which are ranked whole.",
                )
            raise UsageError(
                f"{asked.label} looks behind the end of the lists: the shortest has {self.depth} ids.",
                hint="Give longer lists, or features, which are ranked whole.",
            )
        values_Q = per_query(self.ranked, asked, self.labels)
        assert values_Q is not None
        found = [*measurements_of(asked, values_Q, self.slices)]
        if not found:
            raise UsageError(f"No query takes part in {asked.label}.")
        if metric.unit == "%":
            return found
        return [
            dataclasses.replace(each, value=float(np.nanmedian(each.values_Q))) for each in found if not each.mean_of
        ]

    def values(self, asked: Measure) -> list[AdditionalValue]:
        """Take numbers with their intervals; see `measurements`."""
        taken, unit = self.measurements(asked), METRICS.find(asked.metric).unit
        if unit == "%":
            found = zip(taken, intervals(taken, self.clusters), strict=True)
            return [AdditionalValue(**in_percent(each, interval)) for each, interval in found]
        bounds = ((each, _bootstrap(each.values_Q, self.clusters)) for each in taken)
        return [
            AdditionalValue(label=each.label, value=each.value, low=low, high=high, n=each.count, unit=unit)
            for each, (low, high) in bounds
        ]


def sliced(asked: tuple[Measure, ...], by: str | None, protocol: EvaluationProtocol) -> tuple[Measure, ...]:
    """Return what is asked for, or else the headline, with each also by the labels of a kind, where one is given.

    Raises:
        UnknownName: Queries carry no such labels; the hint has the nearest ones.
    """
    if by is None:
        return asked
    if by not in protocol.slices:
        raise UnknownName(f"label of the queries of {protocol.name}", by, protocol.slices)
    whole = asked or (dataclasses.replace(protocol.measures[0], by=None, macro=False, labels=()),)
    return (*whole, *(dataclasses.replace(each, by=by, macro=True) for each in whole))


def answered(run: Run, protocol: EvaluationProtocol | None = None) -> Answered:
    """Return the ranking of a finished run; with its protocol, the soft labels that runs of earlier versions lack."""
    if protocol is None:
        return Answered(run, run.clusters, run.slices, run, run.depth)
    part = protocol.first(len(run.query_ids))
    return Answered(run, run.clusters, part.slices, part.labels, run.depth)


def keep_additional(run: Run, asked: Sequence[Measure], protocol: EvaluationProtocol | None = None) -> Run:
    """Take numbers of a finished run and keep them in its folder, those that were taken before too.

    Raises:
        UsageError: See `Answered.measurements`.
    """
    from cirbench.runs.record import RESULT

    values = {each.label: each for each in run.result.additional}
    values |= {value.label: value for each in asked for value in answered(run, protocol).values(each)}
    result = msgspec.structs.replace(run.result, additional=[*values.values()])
    if result != run.result:
        write_versioned(run.folder / RESULT, seal(result))
    return dataclasses.replace(run, result=result)


def with_metric(run: Run, label: str | None) -> Run:
    """Return a run with a number that its protocol does not report, to be compared on it; as it is where it has it.

    Raises:
        UsageError: It cannot be taken, or is a median, which has no paired test here.
    """
    whole, _, part = (label or "").rstrip("]").partition("[")
    name, by = whole.partition("@")[0], part.removeprefix("mean over ").partition("=")[0] or None
    if label is None or label in run.values or name not in METRICS.names() or not run.values:
        return run
    if by is not None and by not in run.slices:
        return run
    needs = METRICS.find(name).needs
    if (needs in ("gains", "negatives") and run.gains is None) or (needs == "groups" and run.group_ranks_Q is None):
        return run
    (asked,) = read_measures([whole], by)
    if METRICS.find(name).unit != "%":
        raise UsageError(
            f"Runs are compared on means of fractions, and {name} is a median.",
            hint=f"`cirbench run --metric {name}` and `cirbench score --metric {name}` report it.",
        )
    ranking = answered(run)
    taken = {each.label: each.values_Q for each in ranking.measurements(asked)}
    if label not in taken:
        return run
    new = [each for each in ranking.values(asked) if each.label not in run.values]
    metrics = [MetricValue(label=each.label, value=each.value, low=each.low, high=each.high, n=each.n) for each in new]
    result = msgspec.structs.replace(run.result, metrics=[*run.result.metrics, *metrics])
    return dataclasses.replace(
        run, result=result, values={**run.values, **{each.label: taken[each.label] for each in new}}
    )


def labels_by(run: Run, labels: Sequence[str], by: str) -> list[str]:
    """Return labels, or else the headline, with each also by the labels of a kind: their mean, then each.

    Raises:
        UnknownName: The queries of the run carry no such labels, or it was made before they were kept.
    """
    if by not in run.slices:
        raise UnknownName(f"label of the queries of {run.folder}", by, run.slices)
    whole = list(labels) or [run.result.metrics[0].label.partition("[")[0]] if run.result.metrics else list(labels)
    parts = sorted({name for row in run.slices[by] for name in row})
    sliced = (
        f"{label}[{part}]" for label in whole for part in (f"mean over {by}", *(f"{by}={name}" for name in parts))
    )
    return [*whole, *sliced]


def additional_table(rows: Sequence[tuple[str, Sequence[AdditionalValue]]], asked: Sequence[Measure]) -> Table:
    """Show the additional numbers that were asked for, a row for each method."""
    known = dict.fromkeys((value.label, value.unit) for _, values in rows for value in values)
    labels = [(label, unit) for each in asked for label, unit in known if _belongs(label, each)]
    columns = (
        Column("method", "method"),
        *(
            Column(label, short if unit == "%" else f"{short} ({unit})")
            for label, unit in labels
            for short in [_head(label)]
        ),
    )
    cells = tuple(
        (
            name,
            *(next((Number(v.value, v.low, v.high) for v in values if v.label == label), None) for label, _ in labels),
        )
        for name, values in rows
    )
    note = "These are not part of the protocol. In %, unless the column says otherwise; 95 % intervals."
    return Table("Additional metrics", columns, cells, notes=(note,))


def _belongs(label: str, asked: Measure) -> bool:
    if asked.by is None:
        return label == asked.label
    return label.startswith((f"{asked.label}[{asked.by}=", f"{asked.label}[mean over {asked.by}]"))


def _head(label: str) -> str:
    """``Recall@10 dress`` for ``Recall@10[category=dress]``."""
    whole, _, part = label.removesuffix("]").partition("[")
    return f"{whole} {part.partition('=')[2] or 'mean'}" if part else whole


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
