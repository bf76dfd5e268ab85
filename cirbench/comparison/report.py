"""What ``cirbench run`` shows: runs of one protocol on one backbone, beside the untrained baselines."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cirbench.comparison.baselines import Unimodal, unimodal_of
from cirbench.comparison.diagnostics import Diagnosis, diagnose
from cirbench.comparison.overview import overview_table
from cirbench.comparison.printing import print_table
from cirbench.comparison.standings import compare_runs
from cirbench.tables import Table, render
from cirbench.tables.data import inert_json
from cirbench.tables.safe import visible
from cirbench.tables.web import escape

if TYPE_CHECKING:
    from cirbench.comparison.standings import Standings
    from cirbench.results.folder import Run
    from cirbench.statistics import Pair


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
        """The runs with their first numbers, and how far they are above the baselines."""
        return overview_table(self.runs, self.standings, self.unimodal, self.diagnoses)

    def as_json(self) -> str:
        """Return every result, every comparison and every diagnosis as one JSON object; percent and points."""
        content = {
            "results": [{**msgspec.to_builtins(run.result), "folder": str(run.folder)} for run in self.runs],
            "comparisons": [] if self.standings is None else [self._compared(pair) for pair in self.standings.pairs],
            "diagnostics": self._diagnostics(),
        }
        return inert_json(content)

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
