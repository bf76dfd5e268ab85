"""``cirbench diff``: what differs between two runs, and which queries it flipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.errors import UsageError
from cirbench.support.tables import FORMATS

if TYPE_CHECKING:
    from cirbench.runs.folder import Run
    from cirbench.support.tables import Table

TABLES = ("settings", "queries")
_MOST = 20


@click.command()
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="rich", show_default=True, help="Form of the tables."
)
@click.option(
    "--table",
    "which",
    type=click.Choice(TABLES),
    help="Table to print.  [default: both as rich, settings in any other form]",
)
def command(one: Path, other: Path, form: str, which: str | None) -> None:
    """Show what differs between two runs: their settings, and the queries with a hit in the top k of only one of them.

    \b
    cirbench diff runs/scenes/image-text-cf2cfa47 runs/scenes/pli-d2c078bf
    """
    from cirbench.comparison.differences import run_names
    from cirbench.runs.folder import load_run
    from cirbench.support.console import print_table

    runs = load_run(one), load_run(other)
    if runs[0].folder.resolve() == runs[1].folder.resolve():
        raise UsageError(f"{one} and {other} are the same run.")
    first, second = run_names(runs)
    asked = TABLES if which is None and form == "rich" else (which or TABLES[0],)
    for name in asked:
        print_table(_table(name, runs, (first, second), form), form)


def _table(which: str, runs: tuple[Run, Run], names: tuple[str, str], form: str) -> Table:
    from cirbench.comparison.differences import differences, differences_table, flips, flips_table
    from cirbench.runs.folder import choose_label

    if which == "settings":
        return differences_table(differences(*runs), names)
    if runs[0].query_ids != runs[1].query_ids:
        raise UsageError(
            f"{runs[0].folder} and {runs[1].folder} were scored on different queries, so none can have flipped."
        )
    label = choose_label(runs, None)
    return flips_table(flips(*runs, label), names, label, most=_MOST if form == "rich" else None)
