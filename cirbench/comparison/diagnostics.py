"""What stands behind a number: gain over one side alone, the queries that need both sides, and the slices."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import numpy as np

from cirbench.comparison.values import Kept, kept
from cirbench.statistics import intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.baselines import Unimodal
    from cirbench.results.folder import Run
    from cirbench.results.schema import MetricValue

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
    """Hold runs against the unimodal baselines on their backbone; all share one set of resamples.

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


def _gain(run: Run, unimodal: Unimodal, at: int) -> list[Kept]:
    """The differences to the better baseline, as numbers of their own."""
    ours, theirs = kept(run, unimodal.label), kept(unimodal.better, unimodal.label)
    return [
        Kept(
            f"{at}:{one.label}",
            one.values_Q - other.values_Q,
            one.value - other.value,
            tuple(f"{at}:{part}" for part in one.mean_of),
        )
        for one, other in zip(ours, theirs, strict=True)
    ]


def _hard(run: Run, unimodal: Unimodal, at: int) -> list[Kept]:
    values_Q = np.where(unimodal.hard_Q, kept(run, unimodal.label)[0].values_Q, np.nan)
    return [Kept(f"{at}:hard", values_Q, float(np.nanmean(values_Q)))] if unimodal.hard else []
