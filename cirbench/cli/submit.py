"""``cirbench submit``: files for the test servers, from runs; checked offline; kept with the server's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cirbench.cli.score import given_options, score_given
from cirbench.errors import CheckFailed, UsageError
from cirbench.support.console import print_lines, print_path

if TYPE_CHECKING:
    import datetime

    from cirbench.submissions.check import SubmissionCheck

_SHOWN = 20
_FILE = click.Path(path_type=Path)
_DATA_ROOT = click.option("--data-root", type=_FILE, help="Folder of the annotations.  [default: CIRBENCH_DATA]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")


@click.group()
def submit_command() -> None:
    """Write, check and record files for the test servers of CIRCO and CIRR.

    \b
    cirbench submit build runs/circo/pli-1a2b3c4d
    cirbench submit check submissions/circo/pli-1a2b3c4d.json
    cirbench submit record submissions/circo/pli-1a2b3c4d.json --scores mAP@5=12.3,mAP@10=13.1
    """


@submit_command.command()
@click.argument("run", required=False, type=_FILE)
@given_options
@click.option(
    "-o", "--output", type=_FILE, default=Path("submissions"), show_default=True, help="Folder to write the files to."
)
@_JSON
def build(run: Path | None, output: Path, as_json: bool, **options: Any) -> None:
    """Write the server files of a finished run, or of lists or features made elsewhere, on circo/test or cirr/test1.

    What was made elsewhere is kept as a run first, under runs/, as `cirbench score` does.

    \b
    cirbench submit build runs/circo/pli-1a2b3c4d
    cirbench submit build ranked.json --dataset circo --split test
    cirbench submit build --dataset cirr --split test1 --features q.npy g.npy \\
        --query-ids q.txt --gallery-ids g.txt
    """
    from cirbench.runs.folder import load_run
    from cirbench.submissions.build import build_submission, upload_hint
    from cirbench.submissions.check import protocol_loader
    from cirbench.submissions.form import protocols_with_form
    from cirbench.submissions.receipts import manifest_path

    given = {name: value for name, value in options.items() if value not in (None, ())}
    if run is not None and run.is_file():
        given["predictions"] = (*given.get("predictions", ()), str(run))
    elif run is not None and given.keys() - {"data_root"}:
        raise UsageError(
            f"{run} is a folder, and options say what was made elsewhere.", hint="Give either a run or files."
        )
    elif run is None and not given.keys() & {"predictions", "features"}:
        raise UsageError("Say what to build files of.", hint="Give a run, or --predictions or --features.")
    if given.keys() & {"predictions", "features"}:
        found = score_given(given)
        if found.run is None:
            raise UsageError(
                f"The labels of {found.protocol.name} are public, and no server scores it.",
                hint="`cirbench score` measures it.",
            )
        loaded = found.run
    else:
        assert run is not None
        loaded = load_run(run)
    name = loaded.result.protocol.name.partition("@")[0]
    data_root = options["data_root"]
    known = (
        protocol_loader(None if data_root is None else Path(data_root))(name) if name in protocols_with_form() else None
    )
    paths = build_submission(loaded, output, protocol=known)
    if as_json:
        written = {"protocol": name, "files": [str(path) for path in paths], "manifest": str(manifest_path(paths[0]))}
        click.echo(json.dumps({"schema_version": 1, **written}, indent=2))
        return
    for path in paths:
        print_path(path)
    click.echo(upload_hint(name.partition("/")[0]), err=True)
    click.echo("Then keep the answer: cirbench submit record FILE --scores NAME=PERCENT,...", err=True)


@submit_command.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option(
    "--protocol",
    help="Protocol of the files: circo/test, circo/val or cirr/test1.  [default: found from the content]",
)
@click.option("--fix", is_flag=True, help="Write what can be corrected to NAME.fixed.json, and check that as well.")
@_DATA_ROOT
@_JSON
def check(files: tuple[Path, ...], protocol: str | None, fix: bool, data_root: Path | None, as_json: bool) -> None:
    """Check files by every rule of their server, without the server."""
    from cirbench.errors import UnknownName
    from cirbench.submissions.check import check_files, protocol_loader, write_corrected
    from cirbench.submissions.form import protocols_with_form

    if protocol is not None and protocol not in protocols_with_form():
        raise UnknownName("protocol with a server's form", protocol, protocols_with_form())
    written = {file: path for file in files if fix and (path := write_corrected(file)) is not None}
    reports = check_files([*files, *written.values()], protocol_loader(data_root), protocol)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "files": [_as_json(report) for report in reports]}, indent=2))
    else:
        for report in reports:
            print_lines(_as_text(report))
    # A file with a corrected copy is judged by the copy.
    if failed := [report for report in reports if not report.ok and report.path not in written]:
        raise CheckFailed(
            f"{len(failed)} of {len(reports)} files break rules of their server.", hint="docs/submissions.md has them."
        )


@submit_command.command()
@click.argument("file", type=_FILE)
@click.option("--scores", required=True, help="Scores from the server, in percent: NAME=VALUE,... or a JSON object.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="Date of the answer.  [default: today]")
@click.option("--protocol", help="Protocol of the file.  [default: found from the content]")
@_DATA_ROOT
@_JSON
def record(
    file: Path,
    scores: str,
    date: datetime.datetime | None,
    protocol: str | None,
    data_root: Path | None,
    as_json: bool,
) -> None:
    """Store a server's answer next to the file that was uploaded."""
    import datetime

    from cirbench.submissions import receipts
    from cirbench.submissions.check import check_file, protocol_loader
    from cirbench.submissions.form import form_of
    from cirbench.submissions.receipts import parse_scores

    report = check_file(file, protocol_loader(data_root), protocol)
    report.require()
    if report.protocol is None or report.protocol != form_of(report.protocol).protocols[0]:
        split = str(report.protocol).partition("/")[2]
        raise UsageError(f"{file} is of {split}, which no server scores.", hint="`cirbench score` measures it.")
    day = (date or datetime.datetime.now(datetime.UTC)).date()
    path = receipts.record(file, report.protocol, parse_scores(scores, report.protocol), day)
    click.echo(path.read_text().rstrip() if as_json else path)


def _as_text(report: SubmissionCheck) -> list[str]:
    what = " ".join(filter(None, (report.protocol, report.metric))) or "unknown"
    verdict = "ok" if report.ok else f"{len(report.problems)} broken rules"
    lines = [f"{report.path}: {what}, {report.queries} queries: {verdict}"]
    lines += [f"  {problem}" for problem in report.problems[:_SHOWN]]
    if len(report.problems) > _SHOWN:
        lines.append(f"  and {len(report.problems) - _SHOWN} more; --json lists all of them")
    return [*lines, *(f"  note: {note}" for note in report.notes)]


def _as_json(report: SubmissionCheck) -> dict[str, object]:
    return {
        "file": str(report.path),
        "protocol": report.protocol,
        "metric": report.metric,
        "queries": report.queries,
        "ok": report.ok,
        "problems": [
            {"rule": problem.rule, "query": problem.query, "message": problem.message} for problem in report.problems
        ],
        "notes": list(report.notes),
    }
