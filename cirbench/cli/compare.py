"""``cirbench compare``: compare runs of one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.errors import MissingData, UsageError
from cirbench.support.tables import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.standings import Standings
    from cirbench.support.tables import Table

TABLES = ("runs", "diagnostics", "slices")


@click.command()
@click.argument("folders", nargs=-1, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option(
    "--metric", help="Metric to compare, such as mAP@10 or 'mAP@10[aspect=negation]'.  [default: the headline]"
)
@click.option(
    "--baseline", type=click.Path(path_type=Path), help="Run that the others are compared with.  [default: the first]"
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="rich", show_default=True, help="Form of the tables."
)
@click.option(
    "--table",
    "which",
    type=click.Choice(TABLES),
    help="Table to print.  [default: all of them as rich, runs in any other form]",
)
@click.option(
    "--significance-marks", is_flag=True, help="Show marks of significance instead of intervals and differences."
)
def command(
    folders: tuple[Path, ...],
    metric: str | None,
    baseline: Path | None,
    form: str,
    which: str | None,
    significance_marks: bool,
) -> None:
    """Compare runs of one protocol, query by query.

    Prints each run's number with its interval, its difference to the baseline with a corrected paired test, and the
    ranks that it may have; then what the unimodal baselines give, and the numbers by slice.

    \b
    cirbench compare runs/scenes/image-text-cf2cfa47 runs/scenes/pli-d2c078bf
    cirbench compare runs/scenes/* --metric Recall@10 --format latex > table.tex
    cirbench compare runs/scenes/* --table slices --format csv > slices.csv
    """
    from cirbench.comparison.standings import compare_runs
    from cirbench.runs.folder import load_run
    from cirbench.support.console import print_table

    chosen, base = _chosen(folders, baseline)
    standings = compare_runs([load_run(folder) for folder in chosen], label=metric, baseline=base)
    asked = TABLES if which is None and form == "rich" else (which or TABLES[0],)
    tables = [table for name in asked if (table := _table(name, standings, form, significance_marks)) is not None]
    if not tables:
        raise _absent(asked[0], standings)
    for table in tables:
        print_table(table, form)


def _chosen(folders: Sequence[Path], baseline: Path | None) -> tuple[list[Path], int]:
    """The folders, each once, and the position of the baseline among them."""
    chosen: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in chosen:
            raise UsageError(f"{folder} is given twice.")
        chosen[folder.resolve()] = folder
    if baseline is not None:
        chosen.setdefault(baseline.resolve(), baseline)
    return [*chosen.values()], 0 if baseline is None else [*chosen].index(baseline.resolve())


def _table(which: str, standings: Standings, form: str, significance_marks: bool) -> Table | None:
    from cirbench.comparison.tables import diagnostics_table, slices_table, standings_table

    rows = standings.by_value()
    if which == "runs":
        return standings_table(standings, significance_marks=significance_marks)
    if which == "slices":
        return slices_table([row.name for row in rows], [row.run for row in rows], bars=form == "rich")
    return diagnostics_table([(row.name, row.run) for row in rows], standings.label)


def _absent(which: str, standings: Standings) -> MissingData:
    run = standings.baseline.run
    protocol = run.result.protocol.name
    if which == "slices":
        return MissingData(f"{protocol} reports nothing by slice.")
    return MissingData(
        "No unimodal baselines of the same protocol, backbone and queries lie beside these runs.",
        hint=f"Make them: cirbench run --method image-only,text-only --dataset {protocol.split('/')[0]} --protocol "
        f"{protocol.split('@')[0]} --backbone {run.result.backbone.name} --output {run.folder.parent.parent}",
    )
