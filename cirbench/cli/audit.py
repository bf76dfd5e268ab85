"""``cirbench audit``: what runs and ranked lists do with the reference image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.benchmarks import choose_protocol, load_protocol
from cirbench.cli import WIDE
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.comparison.audit import Audit


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
@click.option("--json", "as_json", is_flag=True, help="Print the audits as JSON on stdout, and nothing else.")
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
        _of_run(path, data_root, relabelled_by, near)
        if path.is_dir()
        else _of_file(path, dataset, split, protocol, data_root, relabelled_by)
        for path in given
    ]
    if as_json:
        content = {"schema_version": 1, "unit": "%", "audits": audits}
        click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
        return
    print_table(audit_table(audits), wide=wide)


def _of_run(folder: Path, data_root: Path | None, relabelled_by: str | None, near: float | None) -> Audit:
    from cirbench.comparison.audit import audit_run
    from cirbench.runs.folder import load_run
    from cirbench.runs.scored import config_of

    run = load_run(folder)
    config = config_of(run)
    root = data_root or (None if config.data_root is None else Path(config.data_root))
    entry = choose_protocol(config.dataset, protocol=config.protocol)
    relabelling = None if relabelled_by is None else load_protocol(relabelled_by, root)
    return audit_run(folder.name, run, load_protocol(entry.address, root), relabelling=relabelling, near=near)


def _of_file(
    file: Path,
    dataset: str | None,
    split: str | None,
    protocol: str | None,
    data_root: Path | None,
    relabelled_by: str | None,
) -> Audit:
    from cirbench.comparison.audit import audit_lists
    from cirbench.runs.predictions.lists import read_rankings

    if dataset is None:
        raise UsageError(f"{file} is not a run, and a file does not say its data set.", hint="Add --dataset NAME.")
    loaded = load_protocol(choose_protocol(dataset, split=split, protocol=protocol).address, data_root)
    relabelling = None if relabelled_by is None else load_protocol(relabelled_by, data_root)
    return audit_lists(file.name, read_rankings(file), loaded, relabelling=relabelling)
