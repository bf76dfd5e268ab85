"""The untrained baselines, and what stands behind a number beside them: gains, queries that need both sides, slices."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cirbench.comparison.values import PerQueryMetric, kept
from cirbench.errors import CirbenchError
from cirbench.methods.registry import UNIMODAL_BASELINES
from cirbench.metrics.statistics import intervals
from cirbench.runs.folder import RESULT, load_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cirbench.runs.folder import Run
    from cirbench.runs.schema import MetricValue


@dataclasses.dataclass(frozen=True)
class Unimodal:
    """The two unimodal baselines of one protocol on one backbone, seen through one number.

    A query counts as solved where its value is above 0: for a recall, where the target is within the cut-off; for
    mAP@K, where any ground truth is.

    Attributes:
        image: Retrieval by the reference image alone: what a method gets that copies the reference.
        text: Retrieval by the relative caption alone.
        label: The number.
    """

    image: Run
    text: Run
    label: str

    @cached_property
    def better(self) -> Run:
        """The one with the higher number."""
        return max((self.image, self.text), key=lambda run: run.result[self.label].value)

    @property
    def answered(self) -> int:
        """How many queries take part."""
        return int(np.count_nonzero(~np.isnan(self._values(self.image))))

    @property
    def by_image(self) -> int:
        """How many queries the reference image alone solves."""
        return int(np.count_nonzero(self._values(self.image) > 0))

    @property
    def by_text(self) -> int:
        """How many queries the caption alone solves."""
        return int(np.count_nonzero(self._values(self.text) > 0))

    @cached_property
    def hard_Q(self) -> NDArray[np.bool_]:
        """The queries that neither solves: those that need both sides."""
        hard_Q: NDArray[np.bool_] = (self._values(self.image) == 0) & (self._values(self.text) == 0)
        return hard_Q

    @property
    def hard(self) -> int:
        """How many those are."""
        return int(np.count_nonzero(self.hard_Q))

    def _values(self, run: Run) -> NDArray[np.float64]:
        return kept(run, self.label)[0].values_Q


def unimodal_of(run: Run, candidates: Iterable[Run], label: str) -> Unimodal | None:
    """Find the unimodal baselines of a run among others: same protocol, same backbone, same queries."""
    found: dict[str, Run] = {}
    for other in candidates:
        if other.result.method.name in UNIMODAL_BASELINES and label in other.values and _same_ground(run, other):
            found.setdefault(other.result.method.name, other)
    image, text = (found.get(name) for name in UNIMODAL_BASELINES)
    return None if image is None or text is None else Unimodal(image, text, label)


def baselines_beside(run: Run) -> list[Run]:
    """Load the unimodal baselines that lie beside a run's folder; what is damaged is left out."""
    loaded = []
    for name in UNIMODAL_BASELINES:
        for path in sorted(run.folder.resolve().parent.glob(f"{name}-*/{RESULT}")):
            try:
                loaded.append(load_run(path.parent))
            except CirbenchError:
                continue  # another run's trouble
    return loaded


def _same_ground(run: Run, other: Run) -> bool:
    mine, theirs = run.result, other.result
    return (
        mine.protocol.digest == theirs.protocol.digest
        and mine.backbone.digest == theirs.backbone.digest
        and run.query_ids == other.query_ids
    )


_SLICE = re.compile(r"(?P<of>.+?)\[(?P<slice>[^\[=]+=.+)\]", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; in percent, or for a difference in points."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the unimodal baselines on a run's backbone say about it.

    Attributes:
        gain: The paired difference to the better of them; ``None`` for the baselines themselves.
        hard: The number on the queries that neither solves; ``None`` for the baselines, and where there are none.
    """

    gain: Estimate | None
    hard: Estimate | None


def diagnose(runs: Sequence[Run], unimodal: Unimodal) -> list[Diagnosis]:
    """Compare runs with the unimodal baselines on their backbone; all share one set of resamples.

    On the hard queries the number is a plain mean over them, also where the protocol averages slices.
    """
    measured = [
        number
        for at, run in enumerate(runs)
        if not _is_one_of(unimodal, run)
        for number in (*_gain(run, unimodal, at), *_hard(run, unimodal, at))
    ]
    bounds = intervals(measured, unimodal.image.clusters, seed=unimodal.image.result.seed)
    found = {
        number.label: Estimate(100 * number.value, 100 * bound.low, 100 * bound.high)
        for number, bound in zip(measured, bounds, strict=True)
    }
    return [Diagnosis(found.get(f"{at}:{unimodal.label}"), found.get(f"{at}:hard")) for at in range(len(runs))]


def slices(run: Run) -> dict[str, MetricValue]:
    """Return the numbers of a run per aspect, category or the like, by ``"mAP@10 aspect=negation"``."""
    matches = [(_SLICE.fullmatch(metric.label), metric) for metric in run.result.metrics]
    return {f"{match['of']} {match['slice']}": metric for match, metric in matches if match is not None}


def _is_one_of(unimodal: Unimodal, run: Run) -> bool:
    return run.result.digest in (unimodal.image.result.digest, unimodal.text.result.digest)


def _gain(run: Run, unimodal: Unimodal, at: int) -> list[PerQueryMetric]:
    """The differences to the better baseline, as numbers of their own."""
    ours, theirs = kept(run, unimodal.label), kept(unimodal.better, unimodal.label)
    return [
        PerQueryMetric(
            f"{at}:{one.label}",
            one.values_Q - other.values_Q,
            one.value - other.value,
            tuple(f"{at}:{part}" for part in one.mean_of),
        )
        for one, other in zip(ours, theirs, strict=True)
    ]


def _hard(run: Run, unimodal: Unimodal, at: int) -> list[PerQueryMetric]:
    values_Q = np.where(unimodal.hard_Q, kept(run, unimodal.label)[0].values_Q, np.nan)
    return [PerQueryMetric(f"{at}:hard", values_Q, float(np.nanmean(values_Q)))] if unimodal.hard else []
