"""``cirbench reproduce``: run a published result again, or say what is missing for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cirbench.errors import CheckFailed, CirbenchError, UsageError
from cirbench.support.parameters import pairs

if TYPE_CHECKING:
    from cirbench.leaderboard.published import Published
    from cirbench.support.tables import Table

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("row", required=False)
@click.option(
    "--list", "listing", is_flag=True, help="List the published rows (those whose id contains ROW, if given)."
)
@click.option(
    "--plan",
    is_flag=True,
    help="Say what the row needs and what of it is here; fetch weights that are not cached, and run nothing.",
)
@click.option("--data-root", help="Folder of the annotations.  [default: CIRBENCH_DATA]")
@click.option("--checkpoint", help="The checkpoint folder of a trained method.")
@click.option("-b", "--backbone", help="Backbone to use instead of the row's.")
@click.option("--weights", help="A local file with the backbone's weights.")
@click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="Activation that a local weights file was trained with.",
)
@click.option("--set", "parameters", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the method.")
@click.option("--device", help="Device: auto, cpu, cuda or cuda:N.")
@click.option("-o", "--output", help="Folder to write run folders to.  [default: runs]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["rich", "md", "csv", "json", "latex", "html"]),
    default="rich",
    show_default=True,
    help="Format of the table.",
)
def command(row: str | None, listing: bool, plan: bool, parameters: tuple[str, ...], form: str, **options: Any) -> None:
    """Run a published row again and compare the numbers; or list exactly what is missing for that.

    \b
    cirbench reproduce --list circo-test
    cirbench reproduce circo-test/image-only/vit-b-32/quoted
    cirbench reproduce cirr-val/pic2word/not-stated/rerun --checkpoint checkpoints/pic2word
    """
    from cirbench.leaderboard.published import load_published
    from cirbench.support.tables import render

    published = load_published()
    if listing:
        click.echo(render(_listing(published, row or ""), form), nl=False)
        return
    if row is None:
        raise UsageError("Say which row.", hint="`cirbench reproduce --list` names them.")
    found = published.find(row)

    from cirbench.leaderboard.reproduce import DIFFERS, Reproduction, as_table

    again = Reproduction(found, published, {**options, "set": pairs(parameters)})
    if plan:
        for line in (*again.needs(), *(f"note        {note}" for note in again.plan.notes)):
            click.echo(line)
        return
    outcome = again.run()
    if outcome.upload:
        for path in outcome.upload:
            click.echo(path)
        click.echo(outcome.hint, err=True)
        click.echo("Record the answer with `cirbench submit record`, then run this again.", err=True)
        return
    click.echo(render(as_table(found, outcome.found, again.plan.notes), form), nl=False)
    click.echo(f"run: {outcome.run.folder}", err=True)
    if any(each.verdict == DIFFERS for each in outcome.found):
        raise CheckFailed(
            f"{sum(each.verdict == DIFFERS for each in outcome.found)} of {len(outcome.found)} numbers differ.",
            hint=f"`cirbench reproduce {row} --plan` says what is known about how the row was made.",
        )


def _listing(published: Published, part: str) -> Table:
    from cirbench.leaderboard.reproduce import plan_of
    from cirbench.support.tables import Column, Number, Table

    rows = []
    for row in (row for row in published.rows if part in row.id):
        label, value = next(iter(row.metrics.items()))
        try:
            runs = plan_of(row, published).method
        except CirbenchError:
            runs = "no protocol like it" if row.protocol is None else "not here"
        rows.append((row.id, row.protocol, label, Number(value), runs))
    headings = {"id": "row", "protocol": "protocol", "metric": "first metric", "expected": "%", "runs": "runs as"}
    columns = tuple(Column(key, label) for key, label in headings.items())
    return Table(f"{len(rows)} published rows", columns, tuple(rows))
