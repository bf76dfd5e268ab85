"""``cirbench compare``, ``diff``, ``report`` and ``audit``: runs compared with each other, and looked into."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from cirbench.cli import BY, FORMAT, JSON, WIDE
from cirbench.errors import MissingData, UsageError
from cirbench.support.console import print_lines, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.comparison.api import Comparison
    from cirbench.comparison.audit import Audit
    from cirbench.comparison.standings import Against, Standings
    from cirbench.leaderboard.site.cases import Choice
    from cirbench.runs.folder import Run
    from cirbench.support.tables import Table


_TABLES = ("paper", "runs", "re-ranking", "diagnostics", "slices")
_ALL, _BEST, _BASELINE = "all", "best", "baseline"


@click.command()
@click.argument("folders", nargs=-1, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Metrics to compare, separated by commas, such as mAP@10 or 'mAP@10[aspect=negation]'.  [default: the "
    "headline; in the paper's table, those that papers print]",
)
@BY
@click.option("--protocol", "protocols", multiple=True, help="Protocols whose runs are compared.  [default: all]")
@click.option(
    "--baseline", type=click.Path(path_type=Path), help="Run that the others are compared with.  [default: the first]"
)
@click.option(
    "--against",
    metavar="all|best|baseline|RUN",
    default=_ALL,
    show_default=True,
    help="Tests to make and to correct over: every two runs; every two, shown beside the highest; or each run against "
    "a baseline that was chosen beforehand.",
)
@click.option(
    "--published", multiple=True, metavar="PROTOCOL:METHOD", help="Published row to show beside the runs; repeatable."
)
@FORMAT
@click.option(
    "--table",
    "which",
    type=click.Choice(_TABLES),
    help="Table to print.  [default: paper for several protocols or metrics, published rows and LaTeX; else runs, and "
    "as rich all others]",
)
@WIDE
def compare_command(
    folders: tuple[Path, ...],
    metrics: tuple[str, ...],
    by: str | None,
    protocols: tuple[str, ...],
    baseline: Path | None,
    against: str,
    published: tuple[str, ...],
    form: str,
    which: str | None,
    wide: bool,
) -> None:
    """Compare runs query by query, or lay them out as a paper does.

    Of runs of one protocol, prints each one's number with its interval, its difference to the baseline with a corrected
    paired test, and the ranks that it may have; then what the unimodal baselines give, and the numbers by slice. Of
    several protocols or metrics, prints methods by backbone with a column for each number. Runs that differ by nothing
    but the seed are one row.

    \b
    cirbench compare runs/scenes/image-text-cf2cfa47 runs/scenes/pli-d2c078bf
    cirbench compare runs/circo/* runs/cirr/* --against runs/circo/image-text-cf2cfa47 --format latex > table.tex
    cirbench compare runs/circo/* --protocol circo/val --published circo/val:SEARLE --table paper
    cirbench compare runs/scenes/* --protocol scenes/val --table slices --format csv > slices.csv
    """
    from cirbench.comparison.api import compare
    from cirbench.runs.additional import labels_by
    from cirbench.runs.folder import load_run
    from cirbench.support.console import print_table

    chosen = _chosen(folders, baseline, against)
    asked = [each.strip() for text in metrics for each in text.split(",") if each.strip()]
    runs = [load_run(folder) for folder in chosen.folders]
    if by is not None:
        from cirbench.comparison.baselines import with_labels

        labelled = with_labels(runs, by)
        runs, asked = labelled.runs, labels_by(labelled.runs[0], asked, labelled.kind)
        for line in labelled.meaning:
            say(line)
    comparison = compare(
        runs,
        metric=asked or None,
        baseline=chosen.baseline,
        against=chosen.against,
        protocol=[each.strip() for text in protocols for each in text.split(",")] or None,
        published=published,
    )
    if which is not None:
        tables: tuple[str, ...] = (which,)
    elif comparison.several or form == "latex":
        tables = ("paper",)
    else:
        tables = _TABLES[1:] if form == "rich" else ("runs",)
    found = [table for name in tables if (table := _table(name, comparison, form)) is not None]
    if not found:
        raise _absent(tables[0], comparison.standings)
    for table in found:
        print_table(table, form, wide=wide)


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """The runs to compare, each once, and what they are tested against."""

    folders: list[Path]
    baseline: Path | None
    against: Against


def _chosen(folders: Sequence[Path], baseline: Path | None, against: str) -> _Chosen:
    chosen: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in chosen:
            raise UsageError(f"{folder} is given twice.")
        chosen[folder.resolve()] = folder
    if against not in (_ALL, _BEST, _BASELINE):
        if baseline is not None:
            raise UsageError("--against RUN and --baseline both name the baseline.", hint="Leave out one of them.")
        baseline, against = Path(against), _BASELINE
    if against == _BEST and baseline is not None:
        raise UsageError("--against best and --baseline contradict each other.", hint="Leave out one of them.")
    if baseline is not None:
        chosen.setdefault(baseline.resolve(), baseline)
    elif against == _BASELINE and folders:
        baseline = folders[0]
    return _Chosen([*chosen.values()], baseline, cast("Against", against))


def _table(which: str, comparison: Comparison, form: str) -> Table | None:
    from cirbench.comparison.tables import diagnostics_table, reranking_table, slices_table, standings_table

    if which == "paper":
        return comparison.paper_table
    standings = comparison.standings
    rows = standings.by_value()
    if which == "runs":
        return standings_table(standings)
    if which == "re-ranking":
        return reranking_table([(row.name, row.run) for row in rows], standings.label)
    if which == "slices":
        return slices_table([row.name for row in rows], [row.run for row in rows], bars=form == "rich")
    return diagnostics_table([(row.name, row.run) for row in rows], standings.label)


def _absent(which: str, standings: Standings) -> MissingData:
    from cirbench.comparison.baselines import command_for_baselines

    run = standings.baseline.run
    if which == "slices":
        return MissingData(f"{run.result.protocol.name} reports nothing by slice.")
    if which == "re-ranking":
        return MissingData("None of these runs is another one re-ranked.", hint="docs/guides/re-ranking.md makes one.")
    return MissingData(
        "No unimodal baselines of the same protocol, backbone and queries lie beside these runs.",
        hint=f"Make them: {command_for_baselines(run)}",
    )


_DIFF_TABLES = ("settings", "queries")
_MOST = 20


@click.command()
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@FORMAT
@click.option(
    "--table",
    "which",
    type=click.Choice(_DIFF_TABLES),
    help="Table to print.  [default: both as rich, settings in any other form]",
)
@WIDE
def diff_command(one: Path, other: Path, form: str, which: str | None, wide: bool) -> None:
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
    asked = _DIFF_TABLES if which is None and form == "rich" else (which or _DIFF_TABLES[0],)
    for name in asked:
        print_table(_diff_table(name, runs, (first, second), form), form, wide=wide)


def _diff_table(which: str, runs: tuple[Run, Run], names: tuple[str, str], form: str) -> Table:
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
@BY
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page instead of a table.")
@click.option("--thumbnails", is_flag=True, help="Show images whose licence you have to judge yourself.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the benchmark.  [default: as in the run]")
@WIDE
def report_command(
    run: Path,
    run2: Path | None,
    worst: int | None,
    best: int | None,
    disagree: int | None,
    top: int,
    by: str | None,
    html: Path | None,
    thumbnails: bool,
    data_root: Path | None,
    wide: bool,
) -> None:
    """Look at what one or two runs retrieved: reference, caption, first images, ground truths and their ranks.

    What image-only and text-only returned is shown where those runs lie beside the first. Without --worst, --best or
    --disagree, eight queries at even distances are shown, whatever became of them. With --by, as many of each part.

    \b
    cirbench report runs/scenes/pli-d2c078bf
    cirbench report runs/scenes/pli-d2c078bf --worst 20 --html worst.html
    cirbench report runs/scenes/pli-d2c078bf --worst 10 --by unimodal@10
    cirbench report runs/scenes/pli-d2c078bf runs/scenes/image-text-cf2cfa47 --disagree 20 --html flips.html
    """
    given = {"worst": worst, "best": best, "disagree": disagree}
    asked = [(name, count) for name, count in given.items() if count is not None]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0][0]} and --{asked[1][0]} choose differently.", hint="Give one of them.")
    if thumbnails and html is None:
        raise UsageError("--thumbnails needs a page to put them on.", hint="Add --html FILE.")
    choice, count = asked[0] if asked else ("spread", _DEFAULT)

    from cirbench.leaderboard.site.cases import read_report, summary, write_page

    folders = [run] if run2 is None else [run, run2]
    report = read_report(folders, cast("Choice", choice), count, top=top, by=by, data_root=data_root)
    if html is None:
        from cirbench.support.console import print_table

        print_table(summary(report), wide=wide)
        return
    shown = write_page(report, html, thumbnails=thumbnails)
    print_lines([f"{html}: {len(report.cases)} queries, {shown} thumbnails"])


@click.command()
@click.argument("given", nargs=-1, required=True, metavar="RUN|FILE...", type=click.Path(path_type=Path))
@click.option("-d", "--dataset", help="Data set that files of ranked lists are of; a run knows its own.")
@click.option("--split", help="Split of the data set.  [default: that of the data set]")
@click.option("--protocol", help="Protocol id.  [default: that of the split]")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the benchmark.  [default: CIRBENCH_DATA]")
@click.option("--relabelled-by", metavar="PROTOCOL", help="Another labelling of the same queries, for bounds of a hit.")
@click.option(
    "--near",
    type=click.FloatRange(0, 1, min_open=True),
    help="Cosine from which an image is a near-duplicate of the reference, for runs.  [default: 0.95]",
)
@JSON
@WIDE
def audit_command(
    given: tuple[Path, ...],
    dataset: str | None,
    split: str | None,
    protocol: str | None,
    data_root: Path | None,
    relabelled_by: str | None,
    near: float | None,
    as_json: bool,
    wide: bool,
) -> None:
    """Audit runs and ranked lists: how often they return the reference image, and their number without it.

    For runs with image-only and text-only beside them, also how many queries one side of the query solves. Lists of a
    split with hidden ground truths are audited for the reference alone.

    \b
    cirbench audit runs/circo/*
    cirbench audit ranked.json --dataset circo --split val
    """
    import msgspec

    from cirbench.comparison.audit import audit_table
    from cirbench.support.console import print_table

    if dataset is None and (named := protocol or split) is not None:
        raise UsageError(f"{named} belongs to a data set, and none is given.", hint="Add --dataset NAME.")
    if near is not None and (file := next((path for path in given if not path.is_dir()), None)) is not None:
        raise UsageError(
            f"Near-duplicates of references are unknown for {file}: they need the features of a run.",
            hint="Leave --near out, or name runs alone.",
        )
    audits = [
        _audit_run(path, data_root, relabelled_by, near)
        if path.is_dir()
        else _audit_file(path, dataset, split, protocol, data_root, relabelled_by)
        for path in given
    ]
    if as_json:
        content = {"schema_version": 1, "unit": "%", "audits": audits}
        click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
        return
    print_table(audit_table(audits), wide=wide)


def _audit_run(folder: Path, data_root: Path | None, relabelled_by: str | None, near: float | None) -> Audit:
    from cirbench.benchmarks import load_protocol
    from cirbench.comparison.audit import audit_run
    from cirbench.runs.folder import load_run
    from cirbench.runs.scored import config_of, entry_and_root

    run = load_run(folder)
    entry, root = entry_and_root(config_of(run), data_root)
    relabelling = None if relabelled_by is None else load_protocol(relabelled_by, root)
    return audit_run(folder.name, run, load_protocol(entry.address, root), relabelling=relabelling, near=near)


def _audit_file(
    file: Path,
    dataset: str | None,
    split: str | None,
    protocol: str | None,
    data_root: Path | None,
    relabelled_by: str | None,
) -> Audit:
    from cirbench.benchmarks import choose_protocol, load_protocol
    from cirbench.comparison.audit import audit_lists
    from cirbench.runs.predictions.lists import read_rankings

    if dataset is None:
        raise UsageError(f"{file} is not a run, and a file does not say its data set.", hint="Add --dataset NAME.")
    loaded = load_protocol(choose_protocol(dataset, split=split, protocol=protocol).address, data_root)
    relabelling = None if relabelled_by is None else load_protocol(relabelled_by, data_root)
    return audit_lists(file.name, read_rankings(file), loaded, relabelling=relabelling)
