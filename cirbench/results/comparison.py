"""Rows of a comparison table: each run beside the untrained baselines on the same backbone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.statistics import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.results.folder import Run
    from cirbench.results.schema import MetricValue

UNIMODAL = ("image-only", "text-only")
PLAIN = "image-text"
MACRO = "[mean over "


@dataclasses.dataclass(frozen=True)
class Against:
    """A run compared with another one on the headline metric; differences in percentage points.

    Attributes:
        name: The other run's method.
        difference: This run minus the other.
        low: Lower end of the paired 95 % interval.
        high: Upper end.
        p_value: Of the paired permutation test, two-sided.
    """

    name: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        run: The run.
        headline: Its headline number.
        gain: Against the better unimodal baseline; ``None`` for the unimodal ones, or where they are not here.
        over_plain: Against image+text without training; ``None`` for the baselines.
    """

    run: Run
    headline: MetricValue
    gain: Against | None
    over_plain: Against | None


def rows(runs: Sequence[Run]) -> list[Row]:
    """Compare each run on the headline metric with the baselines that are among ``runs``."""
    by_name = {run.result.method.name: run for run in runs}
    unimodal = [by_name[name] for name in UNIMODAL if name in by_name]
    best = max(unimodal, key=lambda run: run.result.metrics[0].value, default=None)
    plain = by_name.get(PLAIN)
    return [
        Row(
            run,
            run.result.metrics[0],
            None if best is None or run in unimodal else against(run, best),
            None if plain is None or run.result.method.name in (*UNIMODAL, PLAIN) else against(run, plain),
        )
        for run in runs
    ]


def against(run: Run, other: Run) -> Against:
    """Compare two runs of one protocol on its headline metric, query by query."""
    label = run.result.metrics[0].label
    found = compare(_kept(run, label), _kept(other, label), run.clusters, seed=run.result.seed)[0]
    return Against(
        other.result.method.name,
        100 * found.difference,
        100 * found.interval.low,
        100 * found.interval.high,
        found.p_value,
    )


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A number as it was kept with its run."""

    label: str
    values_Q: NDArray[np.float64]
    value: float
    mean_of: tuple[str, ...] = ()


def _kept(run: Run, label: str) -> list[_Kept]:
    """A number and, where it is an unweighted mean over slices, the numbers that it averages."""
    parts: tuple[str, ...] = ()
    if MACRO in label:
        start = label.replace(MACRO, "[").removesuffix("]") + "="
        parts = tuple(part for part in run.values if part.startswith(start))
    return [
        _Kept(name, run.values[name], run.result[name].value / 100, parts if name == label else ())
        for name in (label, *parts)
    ]
