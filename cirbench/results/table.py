"""The comparison table of ``cirbench run``, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table
from rich.text import Text

from cirbench.results.comparison import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.results.comparison import Against
    from cirbench.results.folder import Run

_CUTOFFS = 2
_SHORT = {"Recall_subset": "Rs", "Recall": "R"}


def comparison_table(runs: Sequence[Run], asked: Sequence[str]) -> Table:
    """Lay out runs of one protocol, best headline last asked in bold; every number in percent."""
    headline = runs[0].result.metrics[0].label
    others = _secondary(runs[0])
    compared = rows(runs)
    table = Table(title=_title(runs[0]), caption=_caption(runs[0]), title_justify="left", caption_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column(f"{_short(headline)} [95 % interval]", justify="right", no_wrap=True)
    for label in others:
        table.add_column(_short(label), justify="right", no_wrap=True)
    table.add_column("gain over better unimodal", justify="right")
    table.add_column("against image-text", justify="right")
    for row in compared:
        value = row.headline
        table.add_row(
            Text(row.run.result.method.name),
            f"{value.value:.2f} \\[{value.low:.2f}, {value.high:.2f}]",
            *(f"{row.run.result[label].value:.2f}" for label in others),
            _difference(row.gain),
            _difference(row.over_plain, p_value=True),
            style="bold" if row.run.result.method.name in asked else None,
        )
    return table


def hidden_labels_note(runs: Sequence[Run]) -> str:
    """Say what a run on a split without public labels gave."""
    return f"The labels of {runs[0].result.protocol.name} are not public: no numbers, only rankings."


def as_json(runs: Sequence[Run]) -> str:
    """Return every result and every comparison as one JSON object."""
    measured = [run for run in runs if run.result.metrics]
    content = {
        "results": [{**msgspec.to_builtins(run.result), "folder": str(run.folder)} for run in runs],
        "comparisons": [
            {"method": row.run.result.method.name, "metric": row.headline.label, **dataclasses.asdict(found)}
            for row in (rows(measured) if measured else [])
            for found in (row.gain, row.over_plain)
            if found is not None
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _title(run: Run) -> Text:
    result = run.result
    counts = result.counts
    partial = " · PARTIAL" if counts.partial else ""
    return Text(
        f"{result.protocol.name} ({result.protocol.digest[:8]}) · {result.backbone.name} · "
        f"queries {counts.queries}/{counts.queries_expected}, gallery {counts.gallery}/{counts.gallery_expected}{partial}"
    )


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
