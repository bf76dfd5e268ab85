"""What ``cirbench run`` shows: runs of one protocol on one backbone, beside the untrained baselines."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cirbench.comparison.baselines import PLAIN, UNIMODAL, Unimodal, unimodal_of
from cirbench.comparison.diagnostics import Diagnosis, diagnose
from cirbench.comparison.printing import print_table
from cirbench.comparison.standings import compare_runs
from cirbench.comparison.tables import difference, estimate, number, resampled, title
from cirbench.tables import Column, Number, Row, Table, render
from cirbench.tables.safe import visible
from cirbench.tables.web import escape

if TYPE_CHECKING:
    from cirbench.comparison.standings import Standings
    from cirbench.results.folder import Run
    from cirbench.statistics import Pair

_CUTOFFS = 2
_SHORT = {"Recall_subset": "Rs", "Recall": "R"}


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
        """Return the run of a method.

        Raises:
            KeyError: It is not among the runs.
        """
        for run in self.runs:
            if run.result.method.name == method:
                return run
        raise KeyError(method)

    def __repr__(self) -> str:
        return "\n".join([*([render(self.table, "rich").rstrip()] if self.measured else []), *self._places])

    def _repr_html_(self) -> str:
        places = f"<pre>{'<br>'.join(map(escape, self._places))}</pre>"
        return f"{render(self.table, 'html')}{places}" if self.measured else places

    @property
    def measured(self) -> bool:
        """Whether there are numbers; not where a server keeps the ground truths."""
        return bool(self.runs[0].result.metrics)

    @cached_property
    def standings(self) -> Standings | None:
        """Every two of the runs compared on the headline; ``None`` for one run, or without numbers."""
        return compare_runs(self.runs) if self.measured and len(self.runs) > 1 else None

    @cached_property
    def unimodal(self) -> Unimodal | None:
        """The unimodal baselines among the runs."""
        return unimodal_of(self.runs[-1], self.runs, self.runs[0].result.metrics[0].label) if self.measured else None

    @cached_property
    def diagnoses(self) -> list[Diagnosis]:
        """What the unimodal baselines say about each run; nothing where they are not here."""
        empty = [Diagnosis(None, None)] * len(self.runs)
        return empty if self.unimodal is None else diagnose(self.runs, self.unimodal)

    @cached_property
    def table(self) -> Table:
        """The runs with their first numbers, and how far they are above the baselines; in percent."""
        headline = self.runs[0].result.metrics[0]
        labels, partly = self._secondary, headline.optimistic is not None
        columns = [Column("method", "method"), Column("headline", f"{_short(headline.label)} [95 % interval]")]
        if partly:
            columns.append(Column("optimistic", f"{_short(headline.label)} without lost queries"))
        columns += [Column(label, _short(label)) for label in labels]
        if self.unimodal is not None:
            columns += [Column("hard", "where neither solves"), Column("gain", "gain over better unimodal")]
        if self._plain is not None:
            columns.append(Column("plain", f"against {PLAIN}"))
        rows = tuple(self._row(at, labels, len(columns)) for at in range(len(self.runs)))
        best = [self.runs[0].result[label].at_most for label in (headline.label, *labels)]
        cells = [Number(value) for value in best]
        foot: Row = ("at most", cells[0], *((None,) if partly else ()), *cells[1:])
        foot = (*foot, *[None] * (len(columns) - len(foot)))
        return Table(
            title(self.runs[0]), tuple(columns), rows, self._caption, self._notes, (foot,) if min(best) < 100 else ()
        )

    def as_json(self) -> str:
        """Return every result, every comparison and every diagnosis as one JSON object; percent and points."""
        content = {
            "results": [{**msgspec.to_builtins(run.result), "folder": str(run.folder)} for run in self.runs],
            "comparisons": [] if self.standings is None else [self._compared(pair) for pair in self.standings.pairs],
            "diagnostics": self._diagnostics(),
        }
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)

    def print(self) -> None:
        """Print the table, and where the results lie, on stdout."""
        if self.measured:
            print_table(self.table)
        else:
            name = self.runs[0].result.protocol.name
            click.echo(f"The ground truths of {name} are not at hand: rankings, and no numbers.")
        for line in self._places:
            click.echo(line)

    @property
    def _places(self) -> list[str]:
        return [f"{visible(run.result.method.name):<12} {visible(str(run.folder))}" for run in self.runs]

    @property
    def _plain(self) -> int | None:
        names = [run.result.method.name for run in self.runs]
        return names.index(PLAIN) if PLAIN in names else None

    def _row(self, at: int, labels: list[str], width: int) -> Row:
        run = self.runs[at]
        value, found = run.result.metrics[0], self.diagnoses[at]
        cells: list[str | Number | None] = [run.result.method.name, number(value)]
        if value.optimistic is not None:
            cells.append(Number(value.optimistic))
        cells += [Number(run.result[label].value) for label in labels]
        if self.unimodal is not None:
            cells += [estimate(found.hard), estimate(found.gain, signed=True)]
        if self._plain is not None:
            pair = self._over_plain(at)
            cells.append(None if pair is None else difference(pair, note=f"p={pair.corrected:.4f}"))
        return tuple(cells)

    def _over_plain(self, at: int) -> Pair | None:
        """A run against image+text without training; nothing for the baselines."""
        if self.standings is None or self.runs[at].result.method.name in (*UNIMODAL, PLAIN):
            return None
        (pair,) = (pair for pair in self.standings.pairs if {pair.first, pair.second} == {at, self._plain})
        return pair.seen_from(at)

    @property
    def _secondary(self) -> list[str]:
        """The first two cut-offs of each metric, beside the headline."""
        metrics = self.runs[0].result.metrics
        chosen: list[str] = []
        seen: dict[str, int] = {}
        for metric in metrics:
            family = metric.label.partition("@")[0]
            if "=" in metric.label or seen.get(family, 0) == _CUTOFFS:
                continue
            seen[family] = seen.get(family, 0) + 1
            chosen.append(metric.label)
        return [label for label in chosen if label != metrics[0].label]

    @property
    def _caption(self) -> str:
        pairs = 0 if self.standings is None else len(self.standings.pairs)
        holm = f", after Holm's correction over all {pairs} pairs" if pairs > 1 else ""
        return (
            f"Percent. Intervals: bootstrap over {resampled(self.runs[0])}. Differences: paired, in points; "
            f"p: paired sign-flip permutation test, two-sided{holm}."
        )

    @property
    def _notes(self) -> tuple[str, ...]:
        one = self.unimodal
        if one is None:
            return ()
        image, text = _percent(one.by_image, one), _percent(one.by_text, one)
        return (
            f"Of {one.answered} queries, the reference image alone solves {one.by_image} ({image}), the caption alone "
            f"{one.by_text} ({text}), neither {one.hard}; solved means {_short(one.label)} above 0.",
        )

    def _compared(self, pair: Pair) -> dict[str, Any]:
        return {
            "metric": self.runs[0].result.metrics[0].label,
            "first": self.runs[pair.first].result.method.name,
            "second": self.runs[pair.second].result.method.name,
            "difference": 100 * pair.difference,
            "low": 100 * pair.interval.low,
            "high": 100 * pair.interval.high,
            "p_value": pair.p_value,
            "p_holm": pair.corrected,
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
            "queries": one.answered,
            "solved_by_image_alone": one.by_image,
            "solved_by_text_alone": one.by_text,
            "solved_by_neither": one.hard,
            "better_unimodal": one.better.result.method.name,
            "runs": [
                {"method": run.result.method.name, **dataclasses.asdict(found)}
                for run, found in zip(self.runs, self.diagnoses, strict=True)
            ],
        }


def _short(label: str) -> str:
    family, _, rest = label.partition("@")
    return f"{_SHORT.get(family, family)}@{rest}"


def _percent(count: int, one: Unimodal) -> str:
    return f"{100 * count / one.answered:.1f} %"
