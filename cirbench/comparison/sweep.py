"""A sweep: one method at several settings, as one table and one plot."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.comparison.standings import compare_runs
from cirbench.comparison.tables import difference, number, resampled, title
from cirbench.methods.registry import REFERENCE_BASELINE, UNIMODAL_BASELINES
from cirbench.metrics.statistics import SIGNIFICANCE
from cirbench.support.tables import Column, Number, Table
from cirbench.support.tables.svg import Plot, Point, Series

if TYPE_CHECKING:
    from cirbench.runs.sweep import Setting, Sweep


def sweep_table(sweep: Sweep) -> Table:
    """Lay out a sweep in the order of its settings, each compared with the best."""
    label = sweep.label
    best = max(range(len(sweep.runs)), key=lambda at: sweep.runs[at].result[label].value)
    standings = compare_runs(sweep.runs, label=label, baseline=best)
    first, pairs = sweep.runs[0], len(standings.pairs)
    rows = tuple(
        (
            *(_cell(value) for value in values),
            dataclasses.replace(number(row.value), mark=row.mark),
            "" if row.place is None else str(row.place),
            None if row.against is None else difference(row.against),
            None if row.against is None else Number(row.against.corrected, digits=4),
            row.run.folder.name,
        )
        for values, row in zip(sweep.settings, standings.rows, strict=True)
    )
    return Table(
        title=f"{first.result.method.name}: {label} by {' and '.join(sweep.keys)} · {title(first)}",
        columns=(
            *(Column(key, key) for key in sweep.keys),
            Column("value", label),
            Column("rank", "rank"),
            Column("difference", "against the highest"),
            Column("p", "p (Holm)"),
            Column("run", "run"),
        ),
        rows=rows,
        caption=f"Percent. Intervals: 95 %, bootstrap over {resampled(first)}. Differences: paired, in points. "
        f"p: paired sign-flip permutation test, two-sided, after Holm's correction over {pairs} "
        f"{'pair' if pairs == 1 else 'pairs'}. Rank: the places a setting may have, as far as pairs differ at "
        f"p < {SIGNIFICANCE}.",
        notes=(
            f"A setting chosen by this table is selected on {first.result.protocol.name}: say so, and confirm it on "
            "other queries.",
            *standings.remarks,
        ),
    )


def sweep_plot(sweep: Sweep) -> Plot:
    """Draw a sweep over its first parameter, with one line for each setting of the others."""
    lines: dict[str, list[Point]] = {}
    for (x, *others), run in zip(sweep.settings, sweep.runs, strict=True):
        name = ", ".join(f"{key}={value}" for key, value in zip(sweep.keys[1:], others, strict=True))
        lines.setdefault(name, []).append(Point(x, number(run.result[sweep.label])))
    first = sweep.runs[0].result
    return Plot(
        title=f"{first.method.name} on {first.protocol.name}, {first.backbone.name}",
        x=sweep.keys[0],
        y=f"{sweep.label} (%)",
        series=tuple(Series(name, tuple(points)) for name, points in lines.items()),
        levels=tuple(_levels(sweep)),
    )


def _levels(sweep: Sweep) -> list[tuple[str, Number]]:
    """The better unimodal baseline, and the sum of both sides without training."""
    swept = sweep.runs[0].result.method.name
    by_name = {
        run.result.method.name: Number(run.result[sweep.label].value)
        for run in sweep.beside
        if run.result.method.name != swept
    }
    sides = [(name, by_name[name]) for name in UNIMODAL_BASELINES if name in by_name]
    better = [max(sides, key=lambda side: side[1].value)] if sides else []
    return [*better, *((name, found) for name, found in by_name.items() if name == REFERENCE_BASELINE)]


def _cell(value: Setting) -> Number | str:
    """A setting as a number with the decimals that it has; a text where that would be many zeros."""
    if isinstance(value, str):
        return value
    decimals = f"{value:.10f}".rstrip("0").partition(".")[2]
    return Number(value, digits=len(decimals)) if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:g}"
