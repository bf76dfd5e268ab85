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
@click.option("--runs", "folder", default="runs", show_default=True, help="Where run folders are.")
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

        from cirbench.console import show

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in rows[0]:
            table.add_column(column)
        for row in rows:
            table.add_row(*(value.replace("[", r"\[") for value in row.values()))
        show(table)
