"""``cirbench new``: scaffold a method or a data set."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Scaffold a new method or data set."""


@command.command("method")
@click.argument("name")
@click.option("--path", "parent", type=click.Path(path_type=Path), default=Path(), help="Folder to create it in.")
def new_method(name: str, parent: Path) -> None:
    """Write a whole, working method package NAME to change.

    \b
    cirbench new method my-method
    """
    from cirbench.methods.scaffold import write_method

    files = write_method(name, parent)
    for file in files:
        click.echo(file)
    click.echo(f"It works already: cirbench check method {files[0]}:SPEC", err=True)


@command.command("dataset")
@click.argument("path", type=click.Path(path_type=Path))
def new_dataset(path: Path) -> None:
    """Write a data set of your own into the folder PATH: a few drawn images and queries, to be replaced.

    \b
    cirbench new dataset my-data
    """
    from cirbench.benchmarks.example import write_example

    for file in write_example(path):
        click.echo(file)
    click.echo(f"It runs already: cirbench run --method image-text --dataset {path} --backbone scenes-vit", err=True)
