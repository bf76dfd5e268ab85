"""Replicates: runs that differ by nothing but the seed. They are one method, and never each other's rivals."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.metrics.statistics import intervals
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.runs.folder import Run
    from cirbench.runs.schema import Result


def seeds_of(run: Run) -> tuple[int, ...]:
    """Return the seeds of a run: its own, or those of its replicates."""
    return tuple(_seed(each.result)[0] for each in run.replicates or (run,))


def combine(runs: Sequence[Run]) -> tuple[list[Run], list[int]]:
    """Put the mean in the place of runs that differ by nothing but the seed.

    Runs with equal values are not several: what has no random part gives the same under every seed, and the first of
    them is taken.

    Returns:
        The rows of a comparison, in the order of their first runs; and for each run the row that it is in.
    """
    groups: dict[str, list[list[int]]] = {}
    for at, run in enumerate(runs):
        kin = groups.setdefault(_kind(run), [])
        # Two runs with one seed are no replicates, whatever keeps them apart: each begins a group, or joins the next.
        open_groups = (
            group for group in kin if _seed(run.result) not in [_seed(runs[other].result) for other in group]
        )
        if (group := next(open_groups, None)) is None:
            kin.append([at])
        else:
            group.append(at)
    ordered = sorted(group for kin in groups.values() for group in kin)
    rows = [_mean([runs[at] for at in group]) for group in ordered]
    return rows, [next(row for row, group in enumerate(ordered) if at in group) for at in range(len(runs))]


def _kind(run: Run) -> str:
    """A digest over everything that was asked of a run but the seed."""
    result, method = run.result, run.result.method
    return digest(
        [
            result.protocol.digest,
            run.query_ids,
            result.backbone.digest,
            result.counts.gallery,
            result.lost,
            msgspec.to_builtins(
                msgspec.structs.replace(
                    method,
                    parameters=_without_seed(method.parameters),
                    training=None if method.training is None else _without_seed(method.training),
                    checkpoint=None if method.checkpoint is None else "trained",
                )
            ),
        ]
    )


def _seed(result: Result) -> tuple[int, int, int]:
    """The seeds of a run, the one that its randomness comes from first: of training, of the method, of the run."""
    training, parameter = (result.method.training or {}).get("seed"), result.method.parameters.get("seed")
    found = [seed for seed in (training, parameter, result.seed) if isinstance(seed, int)]
    return found[0], found[min(1, len(found) - 1)], result.seed


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def _mean(runs: Sequence[Run]) -> Run:
    """The mean of replicates, with intervals over queries and seeds; the first where all are the same."""
    first, *others = runs
    same = all(
        np.array_equal(first.values[label], other.values[label], equal_nan=True)
        for other in others
        for label in first.values
    )
    if same:
        return first
    runs = sorted(runs, key=lambda run: _seed(run.result))
    first = runs[0]
    metrics = [
        msgspec.structs.replace(metric, value=float(np.mean([run.result[metric.label].value for run in runs])))
        for metric in first.result.metrics
    ]
    mean = dataclasses.replace(
        first,
        result=msgspec.structs.replace(first.result, metrics=metrics, additional=[]),
        values={label: np.mean([run.values[label] for run in runs], axis=0) for label in first.values},
        replicates=tuple(runs),
    )
    found = intervals([mean.measured(metric.label)[0] for metric in metrics], first.clusters) if metrics else ()
    bounded = [
        msgspec.structs.replace(metric, low=100 * interval.low, high=100 * interval.high)
        for metric, interval in zip(metrics, found, strict=True)
    ]
    return dataclasses.replace(mean, result=msgspec.structs.replace(mean.result, metrics=bounded))
