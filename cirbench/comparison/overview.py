"""The table of ``cirbench run``: every method with its first numbers, and how far it is above the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.comparison.baselines import PLAIN, UNIMODAL
from cirbench.comparison.tables import difference, estimate, number, resampled, title
from cirbench.tables import Column, Number, Row, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.baselines import Unimodal
    from cirbench.comparison.diagnostics import Diagnosis
    from cirbench.comparison.standings import Standings
    from cirbench.results.folder import Run
    from cirbench.results.schema import Result

_CUTOFFS = 2
_SHORT = {"Recall_subset": "Rs", "Recall": "R"}


def overview_table(
    runs: Sequence[Run], standings: Standings | None, unimodal: Unimodal | None, diagnoses: Sequence[Diagnosis]
) -> Table:
    """Lay out runs of one protocol on one backbone; every number in percent.

    Args:
        runs: The runs, with numbers.
        standings: Every two of them compared; ``None`` for one run.
        unimodal: The unimodal baselines among them, if both are.
        diagnoses: Per run, what these say about it.
    """
    headline = runs[0].result.metrics[0]
    labels, partly = _secondary(runs[0].result), headline.optimistic is not None
    names = [run.result.method.name for run in runs]
    plain = names.index(PLAIN) if PLAIN in names else None
    columns = [Column("method", "method"), Column("headline", f"{_short(headline.label)} [95 % interval]")]
    if partly:
        columns.append(Column("optimistic", f"{_short(headline.label)} without lost queries"))
    columns += [Column(label, _short(label)) for label in labels]
    if unimodal is not None:
        columns += [Column("hard", "where neither solves"), Column("gain", "gain over better unimodal")]
    if plain is not None:
        columns.append(Column("plain", f"against {PLAIN}"))
    rows = []
    for at, (run, found) in enumerate(zip(runs, diagnoses, strict=True)):
        cells: list[str | Number | None] = [names[at], number(run.result.metrics[0])]
        if partly:
            cells.append(_bare(run.result.metrics[0].optimistic))
        cells += [Number(run.result[label].value) for label in labels]
        if unimodal is not None:
            cells += [estimate(found.hard), estimate(found.gain, signed=True)]
        if plain is not None:
            cells.append(None if names[at] in (*UNIMODAL, PLAIN) else _against(standings, at, plain))
        rows.append(tuple(cells))
    return Table(
        title=title(runs[0]),
        columns=tuple(columns),
        rows=tuple(rows),
        caption=_caption(runs[0], standings),
        notes=() if unimodal is None else (_note(unimodal),),
        foot=_at_most(runs[0].result, [headline.label, *labels], columns),
    )


def _against(standings: Standings | None, at: int, other: int) -> Number | None:
    if standings is None:
        return None
    (pair,) = (pair for pair in standings.pairs if {pair.first, pair.second} == {at, other})
    return difference(pair.seen_from(at), note=f"p={pair.corrected:.4f}")


def _at_most(result: Result, labels: Sequence[str], columns: Sequence[Column]) -> tuple[Row, ...]:
    """What the best ranking would get, where that is less than everything."""
    best = {label: result[label].at_most for label in labels}
    if min(best.values()) >= 100:
        return ()
    shown = {**best, "headline": best[labels[0]]}
    return (("at most", *(_bare(shown.get(column.key)) for column in columns[1:])),)


def _bare(value: float | None) -> Number | None:
    return None if value is None else Number(value)


def _secondary(result: Result) -> list[str]:
    """The first two cut-offs of each metric, beside the headline."""
    chosen: list[str] = []
    seen: dict[str, int] = {}
    for metric in result.metrics:
        family = metric.label.partition("@")[0]
        if "=" in metric.label or seen.get(family, 0) == _CUTOFFS:
            continue
        seen[family] = seen.get(family, 0) + 1
        chosen.append(metric.label)
    return [label for label in chosen if label != result.metrics[0].label]


def _short(label: str) -> str:
    family, _, rest = label.partition("@")
    return f"{_SHORT.get(family, family)}@{rest}" if rest else label


def _caption(run: Run, standings: Standings | None) -> str:
    pairs = 0 if standings is None else len(standings.pairs)
    holm = f", after Holm's correction over all {pairs} pairs" if pairs > 1 else ""
    return (
        f"Percent. Intervals: bootstrap over {resampled(run)}. Differences: paired, in points; "
        f"p: paired sign-flip permutation test, two-sided{holm}."
    )


def _note(one: Unimodal) -> str:
    image, text = (f"{count} ({100 * count / one.answered:.1f} %)" for count in (one.by_image, one.by_text))
    return (
        f"Of {one.answered} queries, the reference image alone solves {image}, the caption alone {text}, neither "
        f"{one.hard}; solved means {_short(one.label)} above 0."
    )
