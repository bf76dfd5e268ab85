"""``cirbench leaderboard`` and ``reproduce``: entries, boards, and published results run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cirbench.cli import ACTIVATION, EMA, FORMAT, JSON, WEIGHTS, WIDE, command_error
from cirbench.errors import CheckFailed, CirbenchError, UnknownName, UsageError, visible
from cirbench.support.console import print_lines, print_path, say, typed
from cirbench.support.parameters import pairs

if TYPE_CHECKING:
    from cirbench.comparison.published import Published
    from cirbench.support.tables import Table

_PATH = click.Path(path_type=Path)
_ENTRIES = click.option(
    "--entries", type=_PATH, default=Path("leaderboards/entries"), show_default=True, help="Folder of the entries."
)


@click.group()
def leaderboard_command() -> None:
    """Publish runs with the ranks that their numbers follow from, and check what others published.

    \b
    cirbench leaderboard add runs/scenes/pli-d2c078bf
    cirbench leaderboard check
    cirbench leaderboard build
    cirbench leaderboard show circo/test --format latex > board.tex
    """


@leaderboard_command.command()
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
        print_path(add_run(run, entries, note=note, receipts=receipts, data_root=data_root))


@leaderboard_command.command()
@_ENTRIES
@JSON
def check(entries: Path, as_json: bool) -> None:
    """Compute the numbers of every entry again from its ranks, and check everything else by its digests.

    Published rows that somebody has added are checked as well.
    """
    from cirbench.leaderboard.check import check_contributed, check_entries

    of_entries, of_rows = check_entries(entries, command_error), check_contributed()
    verdicts = (*of_entries, *of_rows)
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
        say(f"{len(of_entries)} entries in {entries}, {len(of_rows)} contributed rows")
    if failed := [each for each in of_rows if not each.ok]:
        raise CheckFailed(
            f"{len(failed)} of {len(of_rows)} contributed rows are not valid.",
            hint="docs/leaderboard.md shows the form of a row.",
        )
    if failed := [each for each in of_entries if not each.ok]:
        raise CheckFailed(
            f"{len(failed)} of {len(of_entries)} entries are not valid.",
            hint="Make an entry again from its run: cirbench leaderboard add RUN",
        )


@leaderboard_command.command()
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

    built = build_site(entries, output, boards or entries.parent / "boards", command_error)
    print_path(output / "index.html")
    files = built.manifest.files
    click.echo(f"{sum(name.endswith('.html') for name in files)} pages, {len(files)} files", err=True)
    say(f"{len(built.boards)} tables in {boards or entries.parent / 'boards'}")
    for verdict in built.left_out:
        say(f"left out: {verdict.name}: {'; '.join(verdict.problems)}")


@leaderboard_command.command()
@click.argument("board")
@_ENTRIES
@FORMAT
@WIDE
def show(board: str, entries: Path, form: str, wide: bool) -> None:
    """Print the BOARD of a protocol, such as circo/test: entries and published rows, by backbone."""
    from cirbench.leaderboard.board import board_table, read_leaderboard
    from cirbench.support.console import print_table

    boards = {each.id: each for each in read_leaderboard(entries, parse=command_error).boards}
    if board not in boards:
        raise UnknownName("board", board, boards)
    print_table(board_table(boards[board]), form, wide=wide)


@click.command()
@click.argument("row", required=False)
@click.option(
    "--list", "listing", is_flag=True, help="List the published rows (those whose id contains ROW, if given)."
)
@click.option(
    "--plan",
    is_flag=True,
    help="Say what the row needs and what of it is here, and run nothing.",
)
@click.option("--data-root", help="Folder of the annotations.  [default: CIRBENCH_DATA]")
@click.option("--checkpoint", help="The checkpoint folder of a trained method.")
@click.option("-b", "--backbone", help="Backbone to use instead of the row's.")
@WEIGHTS
@EMA
@ACTIVATION
@click.option("--set", "parameters", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the method.")
@click.option("--device", help="Device: auto, cpu, cuda or cuda:N.")
@click.option("-o", "--output", help="Folder to write run folders to.  [default: runs]")
@FORMAT
@WIDE
def reproduce_command(
    row: str | None, listing: bool, plan: bool, parameters: tuple[str, ...], form: str, wide: bool, **options: Any
) -> None:
    """Run a published row again and compare the numbers; or list exactly what is missing for that.

    \b
    cirbench reproduce --list circo-test
    cirbench reproduce circo-test/image-only/vit-b-32/quoted
    cirbench reproduce cirr-val/pic2word/not-stated/rerun --checkpoint checkpoints/pic2word
    """
    from cirbench.comparison.published import load_published
    from cirbench.support.console import print_table

    published = load_published()
    if listing:
        print_table(_listing(published, row or ""), form, wide=wide)
        return
    if row is None:
        raise UsageError("Say which row.", hint="`cirbench reproduce --list` names them.")
    if (Path(row) / "result.json").is_file():
        raise _is_a_run(Path(row))
    found = published.find(row)

    from cirbench.leaderboard.reproduce import DIFFERS, Reproduction, as_table
    from cirbench.support.needs import entry_lines, need_lines

    again = Reproduction(found, published, {**options, "set": pairs(parameters)})
    if plan:
        notes = (line for note in again.plan.notes for line in entry_lines("note", "", note))
        print_lines([*need_lines(again.needs()), *notes])
        return
    outcome = again.run()
    if outcome.upload:
        for path in outcome.upload:
            print_path(path)
        click.echo(outcome.hint, err=True)
        click.echo("Record the answer with `cirbench submit record`, then run this again.", err=True)
        return
    print_table(as_table(found, outcome.found, again.plan.notes), form, wide=wide)
    say(f"run: {outcome.run.folder}")
    if any(each.verdict == DIFFERS for each in outcome.found):
        raise CheckFailed(
            f"{sum(each.verdict == DIFFERS for each in outcome.found)} of {len(outcome.found)} numbers differ.",
            hint=f"`cirbench reproduce {typed(row)} --plan` says what is known about how the row was made.",
        )


def _is_a_run(folder: Path) -> UsageError:
    """Say how a run is made again, or that nothing here can make it."""
    from cirbench.runs.folder import CONFIG, load_run

    if load_run(folder).result.scored is None:
        again = f"cirbench run --config {typed(folder / CONFIG)}"
        return UsageError(f"{folder} is a run, not a published row.", hint=f"It is made again by: {again}")
    return UsageError(
        f"{folder} was made elsewhere and scored here: nothing here can make its ranking again.",
        hint=f"The same files score to the same run: cirbench score --config {typed(folder / CONFIG)}",
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
    columns = (
        Column("id", "row"),
        Column("protocol", "protocol", optional=2),
        Column("metric", "first metric"),
        Column("expected", "%"),
        Column("runs", "runs as", optional=1),
    )
    return Table(f"{len(rows)} published rows", columns, tuple(rows))
