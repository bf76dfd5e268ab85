"""The comparison table of ``cirbench run``, for people and as JSON."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cirbench import console
from cirbench.results.comparison import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.results.comparison import Against
    from cirbench.results.folder import Run

_CUTOFFS = 2
_SHORT = {"Recall_subset": "Rs", "Recall": "R"}


def comparison_table(runs: Sequence[Run], asked: Sequence[str]) -> Table:
    """Lay out runs of one protocol, those that were asked for in bold; every number in percent."""
    headline = runs[0].result.metrics[0].label
    others = _secondary(runs[0])
    compared = rows(runs)
    table = Table(title=_title(runs[0]), caption=_caption(runs[0]), title_justify="left", caption_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column(f"{_short(headline)} [95 % interval]", justify="right", no_wrap=True)
    partly = runs[0].result.metrics[0].optimistic is not None
    if partly:
        table.add_column(f"{_short(headline)} without lost queries", justify="right")
    for label in others:
        table.add_column(_short(label), justify="right", no_wrap=True)
    table.add_column("gain over better unimodal", justify="right")
    table.add_column("against image-text", justify="right")
    for row in compared:
        value = row.headline
        table.add_row(
            Text(row.run.result.method.name),
            f"{value.value:.2f} \\[{value.low:.2f}, {value.high:.2f}]",
            *((f"{value.optimistic:.2f}",) if partly else ()),
            *(f"{row.run.result[label].value:.2f}" for label in others),
            _difference(row.gain),
            _difference(row.over_plain, p_value=True),
            style="bold" if row.run.result.method.name in asked else None,
        )
    best = [runs[0].result[label].at_most for label in (headline, *others)]
    if min(best) < 100:
        table.add_section()
        cells = [f"{value:.2f}" for value in best]
        table.add_row("at most", cells[0], *(("",) if partly else ()), *cells[1:], style="dim")
    return table


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
        return self._render().export_text().rstrip()

    def _repr_html_(self) -> str:
        return self._render().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def as_json(self) -> str:
        """Return every result and every comparison as one JSON object."""
        content = {
            "results": [{**msgspec.to_builtins(run.result), "folder": str(run.folder)} for run in self.runs],
            "comparisons": [
                {"method": row.run.result.method.name, "metric": row.headline.label, **dataclasses.asdict(found)}
                for row in (rows(self.runs) if self._measured else [])
                for found in (row.gain, row.over_plain)
                if found is not None
            ],
        }
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)

    def print(self) -> None:
        """Print the table, and where the results lie, on stdout."""
        if self._measured:
            console.show(comparison_table(self.runs, self.asked))
        else:
            name = self.runs[0].result.protocol.name
            click.echo(f"The ground truths of {name} are not at hand: rankings, and no numbers.")
        for run in self.runs:
            click.echo(f"{run.result.method.name:<12} {run.folder}")

    @property
    def _measured(self) -> bool:
        return bool(self.runs[0].result.metrics)

    def _render(self) -> Console:
        recorder = Console(record=True, width=console.WIDTH, file=io.StringIO())
        if self._measured:
            recorder.print(comparison_table(self.runs, self.asked))
        for run in self.runs:
            recorder.print(Text(f"{run.result.method.name:<12} {run.folder}"))
        return recorder


def _title(run: Run) -> Text:
    result = run.result
    counts = result.counts
    scored = f"queries {counts.queries}/{counts.queries_expected}, gallery {counts.gallery}/{counts.gallery_expected}"
    partial = " · PARTIAL" if counts.partial else ""
    return Text(f"{result.protocol.name} ({result.protocol.digest[:8]}) · {result.backbone.name} · {scored}{partial}")


def _caption(run: Run) -> Text:
    clusters = len(set(run.clusters))
    unit = "queries" if clusters == len(run.clusters) else f"the {clusters} clusters of queries that share images"
    return Text(
        f"Percent. Intervals: bootstrap over {unit}. Differences: paired, in points; "
        "p: paired sign-flip permutation test, two-sided."
    )


def _secondary(run: Run) -> list[str]:
    """The first two cut-offs of each metric, beside the headline."""
    chosen: list[str] = []
    seen: dict[str, int] = {}
    for metric in run.result.metrics:
        family = metric.label.partition("@")[0]
        if "=" in metric.label or seen.get(family, 0) == _CUTOFFS:
            continue
        seen[family] = seen.get(family, 0) + 1
        chosen.append(metric.label)
    return [label for label in chosen if label != run.result.metrics[0].label]


def _short(label: str) -> str:
    family, _, rest = label.partition("@")
    return f"{_SHORT.get(family, family)}@{rest}".replace("[", r"\[")


def _difference(found: Against | None, *, p_value: bool = False) -> str:
    if found is None:
        return ""
    text = f"{found.difference:+.2f} \\[{found.low:+.2f}, {found.high:+.2f}]"
    return f"{text} p={found.p_value:.4f}" if p_value else text
