"""Tables on stdout: laid out for a terminal, or as text in the form that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cirbench import console
from cirbench.tables import render

if TYPE_CHECKING:
    from cirbench.tables import Table


def print_table(table: Table, form: str = "rich") -> None:
    """Print a table in one of `cirbench.tables.FORMATS`."""
    if form == "rich":
        from cirbench.tables.terminal import to_rich

        console.show(to_rich(table))
    else:
        click.echo(render(table, form), nl=False)
