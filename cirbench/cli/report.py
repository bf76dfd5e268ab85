"""``cirbench report``: look at what runs retrieved, query by query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.leaderboard.site.cases import Choice

_DEFAULT = 8


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("run2", type=click.Path(path_type=Path), required=False)
@click.option(
    "--worst", type=click.IntRange(min=1), metavar="N", help="Show the queries on which the first run does worst."
)
@click.option(
    "--best", type=click.IntRange(min=1), metavar="N", help="Show the queries on which the first run does best."
)
@click.option(
    "--disagree", type=click.IntRange(min=1), metavar="N", help="Show the queries on which two runs differ most."
)
@click.option(
    "--top",
    type=click.IntRange(1, 50),
    default=10,
    show_default=True,
    help="Number of retrieved images to show for each query.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page instead of a table.")
@click.option("--thumbnails", is_flag=True, help="Show images whose licence you have to judge yourself.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the benchmark.  [default: as in the run]")
def command(
    run: Path,
    run2: Path | None,
    worst: int | None,
    best: int | None,
    disagree: int | None,
    top: int,
    html: Path | None,
    thumbnails: bool,
    data_root: Path | None,
) -> None:
    """Look at what one or two runs retrieved: reference, caption, first images, ground truths and their ranks.

    What image-only and text-only returned is shown where those runs lie beside the first. Without --worst, --best or
    --disagree, eight queries at even distances are shown, whatever became of them.

    \b
    cirbench report runs/scenes/pli-d2c078bf
    cirbench report runs/scenes/pli-d2c078bf --worst 20 --html worst.html
    cirbench report runs/scenes/pli-d2c078bf runs/scenes/image-text-cf2cfa47 --disagree 20 --html flips.html
    """
    given = {"worst": worst, "best": best, "disagree": disagree}
    asked = [(name, count) for name, count in given.items() if count is not None]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0][0]} and --{asked[1][0]} choose differently.", hint="Give one of them.")
    if thumbnails and html is None:
        raise UsageError("--thumbnails needs a page to put them on.", hint="Add --html FILE.")
    choice, count = asked[0] if asked else ("spread", _DEFAULT)

    from cirbench.leaderboard.site.report import read_report, summary, write_page

    folders = [run] if run2 is None else [run, run2]
    report = read_report(folders, cast("Choice", choice), count, top=top, data_root=data_root)
    if html is None:
        from cirbench.support import console
        from cirbench.support.tables.terminal import to_rich

        console.show(to_rich(summary(report)))
        return
    shown = write_page(report, html, thumbnails=thumbnails)
    click.echo(f"{html}: {len(report.cases)} queries, {shown} thumbnails")
