"""``cirbench sweep``: run a method once for each value of its parameters."""

from __future__ import annotations

from typing import Any

import click

from cirbench.cli.run import run_options
from cirbench.support.parameters import pairs
from cirbench.support.tables import FORMATS


@click.command()
@click.argument("method")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=V1,V2,...",
    help="Parameter of the method or of its training (train.KEY where both have it), and its values.",
)
@run_options
@click.option("--metric", help="Metric to look at.  [default: the headline]")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="rich", show_default=True, help="Form of the table."
)
def command(
    method: str, assignments: tuple[str, ...], metric: str | None, form: str, force: bool, **options: Any
) -> None:
    """Run METHOD once for each value, or each combination of values, and compare the runs.

    It is trained again where a parameter of its training is swept. The table is printed; it is also kept as JSON, with
    a plot, under sweeps/ beside the runs. What is finished is not run again, so a killed sweep continues.

    \b
    cirbench sweep image-text --set weight=0.25,0.5,1,2 --dataset scenes
    cirbench sweep pli --set mask_ratio=0.25,0.5,0.75 --dataset scenes
    """
    from cirbench.comparison.tables import sweep_plot, sweep_table
    from cirbench.runs.config import read_config
    from cirbench.runs.sweep import run_sweep
    from cirbench.support.console import print_table, say
    from cirbench.support.files import digest, write_text
    from cirbench.support.tables import render
    from cirbench.support.tables.svg import to_svg

    config = read_config(None, {"method": [method], **options})
    sweep = run_sweep(config, pairs(assignments), label=metric, force=force)
    table = sweep_table(sweep)
    name = digest([sweep.label, *(run.result.digest for run in sweep.runs)])
    first = sweep.runs[0]
    folder = first.folder.parent.parent / "sweeps" / f"{first.result.method.name}-{name[:8]}"
    write_text(folder / "table.json", render(table, "json"))
    write_text(folder / "plot.svg", to_svg(sweep_plot(sweep)))
    print_table(table, form)
    say(f"table and plot: {folder}")
