"""``cirbench leaderboard``: entries made from runs, and whether they hold."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cirbench.cli import command_error
from cirbench.errors import CheckFailed, UsageError

_PATH = click.Path(path_type=Path)
_ENTRIES = click.option(
    "--entries", type=_PATH, default=Path("leaderboards/entries"), show_default=True, help="Folder of the entries."
)


@click.group()
def command() -> None:
    """Publish runs with the ranks that their numbers follow from, and check what others published.

    \b
    cirbench leaderboard add runs/scenes/pli-d2c078bf
    cirbench leaderboard check
    cirbench leaderboard build
    """


@command.command()
@click.argument("runs", nargs=-1, required=True, type=_PATH)
@_ENTRIES
@click.option("--note", default="", help="Remark to show beside the numbers.")
@click.option(
    "--receipt", "receipts", multiple=True, type=_PATH, help="Receipt with a test server's answer, for hidden labels."
)
@click.option("--data-root", type=_PATH, help="Folder of the annotations.  [default: as in the run]")
def add(runs: tuple[Path, ...], entries: Path, note: str, receipts: tuple[Path, ...], data_root: Path | None) -> None:
    """Make an entry of each run; an entry of the same run is replaced."""
    from cirbench.leaderboard.adding import add_run

    if receipts and len(runs) > 1:
        raise UsageError("A receipt belongs to one run.", hint="Add the runs one by one.")
    for run in runs:
        click.echo(add_run(run, entries, note=note, receipts=receipts, data_root=data_root))


@command.command()
@_ENTRIES
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
def check(entries: Path, as_json: bool) -> None:
    """Compute the numbers of every entry again from its ranks, and hold everything else against its digests."""
    from cirbench.leaderboard.check import check_entries
    from cirbench.support.tables.model import visible

    verdicts = check_entries(entries, command_error)
    if as_json:
        found = [
            {"entry": each.name, "ok": each.ok, "problems": each.problems, "notes": each.notes} for each in verdicts
        ]
        click.echo(json.dumps({"schema_version": 1, "entries": found}, indent=2))
    else:
        for each in verdicts:
            click.echo(f"{visible(each.name)}: {'ok' if each.ok else 'not valid'}")
            for line in (*each.problems, *(f"note: {note}" for note in each.notes)):
                click.echo(f"  {visible(line)}")
        click.echo(f"{len(verdicts)} entries in {entries}", err=True)
    if failed := [each for each in verdicts if not each.ok]:
        raise CheckFailed(
            f"{len(failed)} of {len(verdicts)} entries are not valid.",
            hint="Make an entry again from its run: cirbench leaderboard add RUN",
        )


@command.command()
@_ENTRIES
@click.option(
    "-o",
    "--output",
    type=_PATH,
    default=Path("build/site"),
    show_default=True,
    help="Folder to write the site to.",
)
@click.option(
    "--boards", type=_PATH, help="Folder to write a Markdown table of each protocol to.  [default: beside the entries]"
)
def build(entries: Path, output: Path, boards: Path | None) -> None:
    """Write the site, in a folder that opens from disk, and a Markdown table of each protocol.

    An entry that is not valid is left out of both, and named on stderr.
    """
    from cirbench.leaderboard.site.build import build_site
    from cirbench.support.tables.model import visible

    built = build_site(entries, output, boards or entries.parent / "boards", command_error)
    click.echo(output / "index.html")
    files = built.manifest.files
    click.echo(f"{sum(name.endswith('.html') for name in files)} pages, {len(files)} files", err=True)
    click.echo(f"{len(built.boards)} tables in {boards or entries.parent / 'boards'}", err=True)
    for verdict in built.left_out:
        click.echo(visible(f"left out: {verdict.name}: {'; '.join(verdict.problems)}"), err=True)
