"""What ``cirbench run`` shows: every method with its first numbers beside the untrained baselines."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.comparison.baselines import Diagnosis, Unimodal, diagnose, unimodal_of
from cirbench.comparison.differences import run_names
from cirbench.comparison.standings import compare_runs, seeds_remarks
from cirbench.comparison.tables import (
    TRANSDUCTIVE,
    TRANSDUCTIVE_NOTE,
    any_transductive,
    composition_definition,
    difference,
    interval_caption,
    number,
    oracle_notes,
    reranking_table,
    said_transductive,
    scored_notes,
    shown_name,
    statistics_caption,
    thin_notes,
    title,
    training_notes,
    value_with_interval,
)
from cirbench.errors import visible
from cirbench.methods.interface import reference_baseline, unimodal_baselines
from cirbench.metrics.table import short_label
from cirbench.runs.folder import combine, seeds_of
from cirbench.support.console import print_lines, print_table
from cirbench.support.tables import Column, Number, Row, Table
from cirbench.support.tables.formats import escape_html, inert_json, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.baselines import Unimodal
    from cirbench.comparison.standings import Standings
    from cirbench.metrics.paired import Pair
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import Result

_CUTOFFS = 2


def overview_table(
    runs: Sequence[Run], standings: Standings | None, unimodal: Unimodal | None, diagnoses: Sequence[Diagnosis]
) -> Table:
    """Lay out runs of one protocol on one backbone; every number in percent.

    Args:
        runs: The runs, with numbers; replicates as their mean.
        standings: Every two of them compared; ``None`` for one run.
        unimodal: The unimodal baselines among them, if both are.
        diagnoses: Per run, what these say about it.
    """
    headline = runs[0].result.metrics[0]
    labels, partly = _secondary(runs[0].result), headline.optimistic is not None
    names, shown = [run.result.method.name for run in runs], run_names(runs)
    reference, unimodal_names = reference_baseline(), unimodal_baselines()
    plain = names.index(reference) if reference in names else None
    columns = [Column("method", "method"), Column("headline", f"{short_label(headline.label)} [95 % interval]")]
    transductive = any_transductive(runs)
    columns += [TRANSDUCTIVE] if transductive else []
    if partly:
        columns.append(Column("optimistic", f"{short_label(headline.label)} without lost queries"))
    columns += [Column(label, short_label(label), optional=3 + at) for at, label in enumerate(labels)]
    if unimodal is not None:
        columns += [
            Column("composition", "composition subset", optional=2),
            Column("gain", "gain over better unimodal", optional=1),
        ]
    if plain is not None:
        columns.append(Column("plain", f"against {reference}"))
    rows = []
    for at, (run, found) in enumerate(zip(runs, diagnoses, strict=True)):
        cells: list[str | Number | None] = [shown_name(shown[at], run), number(run, headline.label)]
        cells += [said_transductive(run)] if transductive else []
        if partly:
            cells.append(_bare(run.result.metrics[0].optimistic))
        cells += [Number(run.result[label].value, sd=run.sd(label)) for label in labels]
        if unimodal is not None:
            cells.append(None if found.composition is None else value_with_interval(found.composition))
            cells.append(None if found.gain is None else difference(found.gain))
        if plain is not None:
            cells.append(None if names[at] in (*unimodal_names, reference) else _against(standings, at, plain))
        rows.append(tuple(cells))
    return Table(
        title=title(runs[0]),
        columns=tuple(columns),
        rows=tuple(rows),
        caption=f"Percent. {interval_caption(runs)}" if standings is None else statistics_caption(standings),
        notes=(
            *(() if unimodal is None else (_note(unimodal),)),
            *(() if standings is None else thin_notes(standings)),
            *seeds_remarks(runs, shown),
            *scored_notes([*zip(shown, runs, strict=True)]),
            *training_notes([*zip(shown, runs, strict=True)]),
            *oracle_notes([*zip(shown, runs, strict=True)]),
            *((TRANSDUCTIVE_NOTE,) if transductive else ()),
        ),
        foot=_at_most(runs[0].result, [headline.label, *labels], columns),
    )


def _against(standings: Standings | None, at: int, other: int) -> Number | None:
    if standings is None:
        return None
    pair = next((pair for pair in standings.pairs if {pair.first, pair.second} == {at, other}), None)
    if pair is None:  # scored on other queries
        return None
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


def _note(one: Unimodal) -> str:
    image, text = (f"{count} ({100 * count / one.answered:.1f} %)" for count in (one.image_hits, one.text_hits))
    return (
        f"Of {one.answered} queries, {image} have a hit in the top {one.k} by the reference image alone, {text} by the "
        f"caption alone. {composition_definition(one.label)} It has {one.composition}."
    )


def _over_seeds(run: Run) -> dict[str, Any]:
    return {
        "method": run.result.method.name,
        "seeds": seeds_of(run),
        "metrics": [{**msgspec.to_builtins(metric), "sd": run.sd(metric.label)} for metric in run.result.metrics],
    }


def _interval(gain: Pair) -> dict[str, float]:
    return {"value": 100 * gain.difference, "low": 100 * gain.interval.low, "high": 100 * gain.interval.high}


@dataclasses.dataclass(frozen=True)
class Report:
    """Runs of one protocol on one backbone, to be read together; displays as a table.

    Attributes:
        runs: The untrained baselines, then what was asked for.
        asked: The methods that were asked for.
    """

    runs: tuple[Run, ...]
    asked: tuple[str, ...]

    def __getitem__(self, method: str) -> Run:
        """Return the run of a method; over several seeds their mean, with each run among its ``replicates``.

        Raises:
            KeyError: It is not among the runs.
        """
        for run in self.rows:
            if run.result.method.name == method:
                return run
        raise KeyError(method)

    def __repr__(self) -> str:
        tables = [render(table, "rich").rstrip() for table in self.tables] if self.measured else []
        return "\n".join([*tables, *self._places])

    def _repr_html_(self) -> str:
        places = f"<pre>{'<br>'.join(map(escape_html, self._places))}</pre>"
        tables = "".join(render(table, "html") for table in self.tables) if self.measured else ""
        return f"{tables}{places}"

    @property
    def measured(self) -> bool:
        """Whether there are numbers; not where a server keeps the ground truths."""
        return bool(self.runs[0].result.metrics)

    @cached_property
    def rows(self) -> tuple[Run, ...]:
        """The runs, of which those that differ by nothing but the seed are one."""
        return tuple(combine(self.runs)[0])

    @cached_property
    def standings(self) -> Standings | None:
        """Every two of the rows compared on the headline; ``None`` for one row, or without numbers."""
        return compare_runs(self.runs) if self.measured and len(self.rows) > 1 else None

    @cached_property
    def unimodal(self) -> Unimodal | None:
        """The unimodal baselines among the runs."""
        return unimodal_of(self.rows[-1], self.rows, self.runs[0].result.metrics[0].label) if self.measured else None

    @cached_property
    def diagnoses(self) -> list[Diagnosis]:
        """What the unimodal baselines say about each row; nothing where they are not here."""
        empty = [Diagnosis(None, None)] * len(self.rows)
        return empty if self.unimodal is None else diagnose(self.rows, self.unimodal)

    @cached_property
    def table(self) -> Table:
        """The runs with their first numbers, and how far they are above the baselines."""
        return overview_table(self.rows, self.standings, self.unimodal, self.diagnoses)

    @property
    def tables(self) -> list[Table]:
        """All that is shown: beside `table`, where runs were re-ranked, what that could reach and what it took."""
        named = [*zip(run_names(self.rows), self.rows, strict=True)]
        second = reranking_table(named, self.runs[0].result.metrics[0].label)
        return [self.table, *([] if second is None else [second])]

    def as_json(self) -> str:
        """Return every result, every comparison and every diagnosis as one JSON object; percent and points."""
        content = {
            "results": [
                {**msgspec.to_builtins(run.result), "folder": str(run.folder), "reused": run.reused}
                for run in self.runs
            ],
            "means": [_over_seeds(run) for run in self.rows if run.replicates],
            "comparisons": [] if self.standings is None else [self._compared(pair) for pair in self.standings.pairs],
            "diagnostics": self._diagnostics(),
        }
        return inert_json(content)

    def print(self, *, wide: bool = False) -> None:
        """Print the table, and where the results lie, on stdout; ``wide`` as in `print_table`."""
        if self.measured:
            for table in self.tables:
                print_table(table, wide=wide)
        else:
            name = self.runs[0].result.protocol.name
            print_lines([f"The ground truths of {name} are not available: rankings, and no numbers."])
        print_lines(self._places)

    @property
    def _places(self) -> list[str]:
        names = [visible(run.result.method.name) for run in self.runs]
        length = max(12, *map(len, names))
        return [f"{name:<{length}} {visible(str(run.folder))}" for name, run in zip(names, self.runs, strict=True)]

    def _compared(self, pair: Pair) -> dict[str, Any]:
        return {
            "metric": self.runs[0].result.metrics[0].label,
            "first": self.rows[pair.first].result.method.name,
            "second": self.rows[pair.second].result.method.name,
            "difference": 100 * pair.difference,
            "low": 100 * pair.interval.low,
            "high": 100 * pair.interval.high,
            "p_value": pair.p_value,
            "p_holm": pair.corrected,
            "thin": pair.thin,
            "detectable": 100 * pair.detectable if math.isfinite(pair.detectable) else None,
            "wins": pair.wins,
            "ties": pair.ties,
            "losses": pair.losses,
        }

    def _diagnostics(self) -> dict[str, Any] | None:
        one = self.unimodal
        if one is None:
            return None
        return {
            "metric": one.label,
            "k": one.k,
            "queries": one.answered,
            "image_only_hits": one.image_hits,
            "text_only_hits": one.text_hits,
            "composition_subset": one.composition,
            "better_unimodal": one.better.result.method.name,
            "runs": [
                {
                    "method": run.result.method.name,
                    "gain": None if found.gain is None else _interval(found.gain),
                    "composition": None if found.composition is None else msgspec.to_builtins(found.composition),
                }
                for run, found in zip(self.rows, self.diagnoses, strict=True)
            ],
        }
