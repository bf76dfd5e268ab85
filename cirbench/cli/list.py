"""``cirbench list``: what there is, and whether it is ready on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    Rows = list[dict[str, str]]


@click.command()
@click.argument("kind", type=click.Choice(["methods", "datasets", "protocols", "backbones", "metrics", "runs"]))
@click.option("--runs", "folder", default="runs", show_default=True, help="Folder that holds the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str, folder: str, as_json: bool) -> None:
    """List methods, datasets, protocols, backbones, metrics or runs."""
    listings: dict[str, Callable[[], Rows]] = {
        "methods": _methods,
        "datasets": _datasets,
        "protocols": _protocols,
        "backbones": _backbones,
        "metrics": _metrics,
        "runs": lambda: _runs(folder),
    }
    rows = listings[kind]()
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif not rows:
        click.echo(f"No {kind} here.", err=True)
    else:
        from rich.table import Table
        from rich.text import Text

        from cirbench.support.console import show
        from cirbench.support.tables.model import visible

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(value)) for value in row.values()))
        show(table)


def _methods() -> Rows:
    from cirbench.methods.registry import load_methods

    found, broken = load_methods()
    ready = [
        {
            "name": spec.name,
            "title": spec.title,
            "supervision": spec.supervision,
            "paper": spec.paper or "",
            "state": "ready" if spec.trainer is None else "ready, is trained first",
        }
        for spec in found.values()
    ]
    failed = [
        {"name": name, "title": "", "supervision": "", "paper": "", "state": f"broken: {error.message}"}
        for name, error in broken.items()
    ]
    return ready + failed


def _datasets() -> Rows:
    from cirbench.benchmarks.catalogue import datasets

    return [
        {
            "name": entry.name,
            "title": entry.title,
            "splits": ", ".join(entry.splits),
            "licence": entry.licence,
            "needs": entry.needs or "nothing",
        }
        for entry in datasets().values()
    ]


def _protocols() -> Rows:
    from cirbench.benchmarks.catalogue import protocols

    return [
        {
            "id": entry.id,
            "title": entry.title,
            "queries": _count(entry.queries),
            "gallery": _count(entry.gallery),
            "labels": "public" if entry.labelled else "kept by a test server",
        }
        for entry in protocols().values()
    ]


def _count(number: int | None) -> str:
    return "as in its file" if number is None else f"{number:,}"


def _backbones() -> Rows:
    from cirbench.backbones import list_backbones

    return [{"name": entry.name, "note": entry.note} for entry in list_backbones()]


def _metrics() -> Rows:
    from cirbench.metrics.table import METRICS

    return [
        {
            "name": metric.name,
            "what it is": metric.title,
            "better": "higher" if metric.higher_is_better else "lower",
            "unit": metric.unit,
            "source": metric.source,
        }
        for metric in METRICS.values()
    ]


def _runs(folder: str) -> Rows:
    from pathlib import Path

    from cirbench.errors import CirbenchError
    from cirbench.runs.folder import RESULT, load_run

    rows = []
    for path in sorted(Path(folder).glob(f"*/*/{RESULT}")):
        row = {"folder": str(path.parent), "protocol": "", "method": "", "backbone": "", "headline": "", "state": ""}
        try:
            result = load_run(path.parent).result
        except CirbenchError as error:
            rows.append(row | {"state": f"damaged: {error.message}"})
            continue
        headline = f"{result.metrics[0].label} {result.metrics[0].value:.2f}" if result.metrics else "labels hidden"
        rows.append(
            row
            | {
                "protocol": result.protocol.name,
                "method": result.method.name,
                "backbone": result.backbone.name,
                "headline": headline,
                "state": "partial" if result.counts.partial else "whole",
            }
        )
    return rows
