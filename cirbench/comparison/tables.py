"""Tables of a comparison: the runs, what stands behind their numbers, and their slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.comparison.baselines import baselines_beside, diagnose, slices, unimodal_of
from cirbench.metrics.statistics import SIGNIFICANCE
from cirbench.support.tables import Column, Number, Row, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.baselines import Diagnosis, Estimate, Unimodal
    from cirbench.comparison.standings import Standing, Standings
    from cirbench.metrics.statistics import Pair
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import MetricValue

_BAR = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"


def standings_table(standings: Standings, *, significance_marks: bool = False) -> Table:
    """Lay out runs with their numbers, places and differences to the baseline.

    Args:
        standings: The comparison.
        significance_marks: Leave out intervals and differences; mark by a sign what differs from the baseline;
            narrow enough for a column of a paper.
    """
    rows = standings.by_value()
    backbones = {row.run.result.backbone.digest for row in rows}
    columns = [Column("run", "run")]
    if len(backbones) > 1:
        columns.append(Column("backbone", "backbone"))
    columns += [Column("rank", "rank"), Column("value", standings.label)]
    if not significance_marks:
        columns += [
            Column("difference", f"against {standings.baseline.name}"),
            Column("p", "p (Holm)"),
            *(Column(name, name) for name in ("wins", "ties", "losses")),
        ]
    return Table(
        title=title(standings.baseline.run, backbone=len(backbones) == 1),
        columns=tuple(columns),
        rows=tuple(_standing(row, significance_marks=significance_marks, backbone=len(backbones) > 1) for row in rows),
        caption=_caption(standings, significance_marks=significance_marks),
        notes=tuple(_notes(standings)),
    )


def diagnostics_table(named: Sequence[tuple[str, Run]], label: str) -> Table | None:
    """Lay out what the unimodal baselines say about each run; ``None`` where no run has them.

    Args:
        named: Runs with their names; baselines are looked for among them and beside them.
        label: The number.
    """
    runs = [run for _, run in named]
    rows: dict[int, Row] = {}
    for one, places in _on_one_ground(runs, label):
        for at, found in zip(places, diagnose([runs[at] for at in places], one), strict=True):
            rows[at] = _diagnosis(named[at][0], runs[at], one, found)
    if not rows:
        return None
    return Table(
        title=f"{label} and what one side of the query alone gives",
        columns=(
            Column("run", "run"),
            Column("value", label),
            Column("gain", "gain over better unimodal"),
            Column("hard", "where neither solves"),
            Column("hard_queries", "such queries"),
            Column("image_alone", "image alone solves"),
            Column("text_alone", "text alone solves"),
        ),
        rows=tuple(rows[at] for at in sorted(rows)),
        caption=f"Percent; differences in points; 95 % intervals. A query is solved where its {label} is above 0. "
        "Image alone is what copying the reference gets; text alone ignores it.",
    )


def _on_one_ground(runs: Sequence[Run], label: str) -> list[tuple[Unimodal, list[int]]]:
    """Each pair of unimodal baselines, with the positions of the runs that it belongs to."""
    groups: list[tuple[Unimodal, list[int]]] = []
    for at, run in enumerate(runs):
        known = [places for one, places in groups if unimodal_of(run, (one.image, one.text), label)]
        if known:
            known[0].append(at)
        elif one := unimodal_of(run, runs, label) or unimodal_of(run, [*runs, *baselines_beside(run)], label):
            groups.append((one, [at]))
    return groups


def _diagnosis(name: str, run: Run, one: Unimodal, found: Diagnosis) -> Row:
    return (
        name,
        number(run.result[one.label]),
        estimate(found.gain, signed=True),
        estimate(found.hard),
        Number(one.hard, digits=0),
        Number(100 * one.by_image / one.answered),
        Number(100 * one.by_text / one.answered),
    )


def slices_table(names: Sequence[str], runs: Sequence[Run], *, bars: bool = False) -> Table | None:
    """Lay out every number per aspect, category or the like, ``None`` where there is none; with ``bars`` also drawn."""
    by_slice: dict[str, list[tuple[str, MetricValue]]] = {}
    for name, run in zip(names, runs, strict=True):
        for label, value in slices(run).items():
            by_slice.setdefault(label, []).append((name, value))
    if not by_slice:
        return None
    columns = (Column("slice", "slice"), Column("queries", "queries"), Column("run", "run"), Column("value", "value"))
    rows: list[Row] = []
    for label, values in by_slice.items():
        for at, (name, value) in enumerate(values):
            head: Row = (label, Number(value.n, digits=0)) if at == 0 or not bars else ("", None)
            rows.append((*head, name, number(value), *((bar(value.value),) if bars else ())))
    return Table(
        title="By slice",
        columns=(*columns, *((Column("bar", "0 to 100"),) if bars else ())),
        rows=tuple(rows),
        caption="Percent, with 95 % intervals.",
    )


def title(run: Run, *, backbone: bool = True) -> str:
    """Say what was run: protocol, backbone unless that differs, and how much of the benchmark was scored."""
    result, counts = run.result, run.result.counts
    scored = f"queries {counts.queries}/{counts.queries_expected}, gallery {counts.gallery}/{counts.gallery_expected}"
    partial = " · PARTIAL" if counts.partial else ""
    protocol = f"{result.protocol.name} ({result.protocol.digest[:8]})"
    return " · ".join([protocol, *([result.backbone.name] if backbone else []), f"{scored}{partial}"])


def resampled(run: Run) -> str:
    """Say over what intervals of a run are bootstrapped."""
    clusters = len(set(run.clusters))
    return "queries" if clusters == len(run.clusters) else f"the {clusters} clusters of queries that share images"


def number(value: MetricValue) -> Number:
    """Return a number of a result as a cell."""
    return Number(value.value, value.low, value.high)


def estimate(found: Estimate | None, *, signed: bool = False) -> Number | None:
    """Return an estimate as a cell."""
    return None if found is None else Number(found.value, found.low, found.high, signed=signed)


def difference(pair: Pair, *, note: str = "") -> Number:
    """Return the difference of a pair as a cell, in points."""
    return Number(100 * pair.difference, 100 * pair.interval.low, 100 * pair.interval.high, signed=True, note=note)


def bar(percent: float) -> str:
    """Draw a percentage as a line of blocks."""
    eighths = round(percent / 100 * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _standing(row: Standing, *, significance_marks: bool, backbone: bool) -> Row:
    value, pair = row.value, row.against
    partial = " (partial)" if row.run.result.counts.partial else ""
    cells: list[str | Number | None] = [f"{row.name}{partial}"]
    if backbone:
        cells.append(row.run.result.backbone.name)
    cells.append("" if row.place is None else str(row.place))
    if significance_marks:
        note = "*" if pair is not None and pair.apart else ""
        return (*cells, Number(value.value, mark=row.mark, note=note))
    cells.append(Number(value.value, value.low, value.high, mark=row.mark))
    if pair is None:
        return (*cells, None, None, None, None, None)
    counts = (pair.wins, pair.ties, pair.losses)
    return (*cells, difference(pair), Number(pair.corrected, digits=4), *(Number(count, digits=0) for count in counts))


def _caption(standings: Standings, *, significance_marks: bool) -> str:
    pairs = len(standings.pairs)
    holm = f", after Holm's correction over {'the one pair' if pairs == 1 else f'all {pairs} pairs'}"
    test = f"paired sign-flip permutation test, two-sided{holm}"
    if significance_marks:
        return f"Percent. *: differs from {standings.baseline.name}, p < {SIGNIFICANCE} in a {test}."
    over = resampled(standings.baseline.run)
    return (
        f"Percent. Intervals: 95 %, bootstrap over {over}. Differences: paired, in points. p: {test}. "
        "Wins, ties, losses: queries."
    )


def _notes(standings: Standings) -> list[str]:
    notes = [
        f"Rank: the places a run may have, as far as pairs differ at p < {SIGNIFICANCE}; runs that share places cannot "
        "be told apart."
    ]
    sizes = sorted(100 * pair.resolvable for pair in standings.pairs if pair.resolvable == pair.resolvable)
    if sizes:
        span = f"{sizes[0]:.2f}" if len(sizes) == 1 else f"{sizes[0]:.2f} to {sizes[-1]:.2f}"
        by_pair = "" if len(sizes) == 1 else ", by pair,"
        notes.append(
            f"This benchmark finds a true difference of {span} points{by_pair} in 80 % of repetitions, at "
            f"p < {SIGNIFICANCE} before correction; smaller ones it may miss."
        )
    return [*notes, *standings.remarks]
