"""``cirbench new``: scaffold a method."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Scaffold a new method."""


@command.command("method")
@click.argument("name")
@click.option("--path", "parent", type=click.Path(path_type=Path), default=Path(), help="Where its folder goes.")
def new_method(name: str, parent: Path) -> None:
    r"""Write a whole, working method package NAME to change.

    \b
    cirbench new method my-method
    """
    from cirbench.methods.scaffold import write_method

    files = write_method(name, parent)
    for file in files:
        click.echo(file)
    click.echo(f"It works already: cirbench check method {files[0]}:SPEC", err=True)
