"""``cirbench score`` and ``submit``: what was made elsewhere is measured here, or sent to a test server.

``score`` measures given rankings or features under a protocol, without torch, and keeps them as a run. ``submit``
writes the files of test servers, also from runs, checks them offline, and keeps the server's answer beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click

from cirbench.benchmarks import choose_protocol, load_protocol
from cirbench.cli import BY, JSON, METRIC, WIDE
from cirbench.errors import CheckFailed, UsageError
from cirbench.methods.interface import Disclosure, Supervision
from cirbench.metrics.table import NO_CUTOFF
from cirbench.support.console import print_lines, print_path, print_table, say, typed

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable

    from cirbench.benchmarks import ProtocolEntry
    from cirbench.metrics import Measure
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run
    from cirbench.runs.predictions.score import Score
    from cirbench.runs.schema import AdditionalValue
    from cirbench.submissions.check import SubmissionCheck


_FILE = click.Path(path_type=Path)
_DISCLOSURE = click.Choice(get_args(Disclosure))

_GIVEN = (
    click.option("-d", "--dataset", help="Data set: a name, or a folder with your own."),
    click.option("--split", help="Split of the data set.  [default: that of the data set]"),
    click.option("--protocol", help="Protocol id.  [default: that of the split]"),
    click.option(
        "--predictions",
        multiple=True,
        metavar="FILE",
        help="Ranked lists, in any form of docs/predictions.md; again for further files.",
    ),
    click.option(
        "--trust",
        type=click.Choice(["ranks", "scores"]),
        help="Column that orders a TREC run or table whose ranks contradict its scores.",
    ),
    click.option(
        "--features",
        nargs=2,
        multiple=True,
        metavar="QUERIES GALLERY",
        help="Features to rank: .npy, .npz, .safetensors or .pt; again for further pairs, each ranked by itself.",
    ),
    click.option(
        "--query-ids", multiple=True, metavar="FILE", help="Query id of each row, once for each pair of --features."
    ),
    click.option(
        "--gallery-ids", multiple=True, metavar="FILE", help="Gallery id of each row, once for each pair of --features."
    ),
    click.option("--name", help="Name of the method.  [default: that of the first file]"),
    click.option("-b", "--backbone", help="Backbone that they were made with, in words."),
    click.option("--supervision", type=click.Choice(get_args(Supervision)), help="What the method was trained with."),
    click.option("--uses-triplets", type=_DISCLOSURE, help="Whether it was trained on composed triplets."),
    click.option("--uses-llm", type=_DISCLOSURE, help="Whether a large language model takes part."),
    click.option(
        "--transductive", type=_DISCLOSURE, help="Whether an answer depends on other gallery items or queries."
    ),
    click.option("--uses-shared-concept", type=_DISCLOSURE, help="Whether it reads CIRCO's shared concepts."),
    click.option("--trained-on", help="Training data, in words."),
    click.option("--selected-on", help="Data that settings were selected on, in words."),
    click.option(
        "--baselines",
        multiple=True,
        metavar="RUN",
        help="Run on the same backbone to compare with, or a pattern of several; again for further ones.",
    ),
    click.option("--data-root", help="Folder of the annotations.  [default: CIRBENCH_DATA]"),
)


def _given_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that say what was made elsewhere, and what is declared of it."""
    for option in reversed(_GIVEN):
        command = option(command)
    return command


@click.command()
@_given_options
@click.option("-o", "--output", help="Folder to keep the run in.  [default: keep none; runs where labels are hidden]")
@click.option("--config", type=_FILE, help="Read options from a TOML file; options given here win.")
@JSON
@METRIC
@BY
@WIDE
def score_command(
    config: Path | None, metric: tuple[str, ...], by: str | None, as_json: bool, wide: bool, **options: Any
) -> None:
    """Score anyone's ranked lists, or features, by a benchmark's exact protocol.

    With --output it is kept as a run, and where a test server keeps the labels, its files are written.

    \b
    cirbench score --dataset circo --split val --predictions ranked.json
    cirbench score --dataset circo --features queries.npy gallery.npy \\
        --query-ids queries.txt --gallery-ids gallery.txt --output runs
    """
    asked: tuple[Measure, ...] = ()
    if metric:
        from cirbench.runs.additional import read_measures

        asked = read_measures(metric)
    found = _score_given(options, config, asked, by)
    if as_json:
        click.echo(_scores_as_json(found))
    elif found.run is not None and found.baselines:
        _print_beside(found.run, found.baselines, wide=wide)
    else:
        _print(found.score, found.entry, found.run, wide=wide)
    if found.asked and not as_json:
        from cirbench.runs.additional import additional_table

        name = found.run.result.method.name if found.run is not None else "these predictions"
        print_table(additional_table([(name, found.additional)], found.asked), wide=wide)
    if found.run is not None:
        from cirbench.submissions.form import takes_files

        if takes_files(found.entry):
            _submit(found.run, found.protocol)


class _Found(NamedTuple):
    """What became of what was made elsewhere; ``run`` is ``None`` where none is kept."""

    score: Score
    entry: ProtocolEntry
    protocol: EvaluationProtocol
    run: Run | None
    baselines: tuple[Run, ...]
    asked: tuple[Measure, ...] = ()
    additional: tuple[AdditionalValue, ...] = ()


def _score_given(
    options: dict[str, Any], config: Path | None = None, additional: tuple[Measure, ...] = (), by: str | None = None
) -> _Found:
    """Score what `_given_options` name, say how it was understood, and keep a run where one is asked for or needed.

    Args:
        options: As typed.
        config: A file with further ones.
        additional: Metrics beside those of the protocol.
        by: Also each part of the queries by labels of this kind.
    """
    from cirbench.runs.folder import load_baselines
    from cirbench.runs.scored import Given, keep, read_score_config, require_gallery

    asked = read_score_config(config, {name: value for name, value in options.items() if value != ()})
    entry = choose_protocol(asked.dataset, split=asked.split, protocol=asked.protocol)
    kept = asked.output is not None or not entry.labelled
    if asked.declares and not kept:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in asked.declares)
        raise UsageError(f"{names} belong to a run, and none is kept.", hint="Give --output runs to keep one.")
    protocol = load_protocol(entry.address, None if asked.data_root is None else Path(asked.data_root))
    if kept:
        require_gallery(protocol, entry)
    baselines = load_baselines(asked.baselines, protocol)
    given = Given.of(asked)
    answer = given.answer(protocol)
    score = answer.measured()
    values: tuple[AdditionalValue, ...] = ()
    if additional or by:
        from cirbench.runs.additional import Answered, keep_additional, sliced

        additional = sliced(additional, by, protocol)
        if protocol.labels is None:
            option = "by" if by else "metric"
            raise UsageError(f"--{option} needs ground truths, and a test server keeps those of {entry.id}.")
        depth = getattr(answer.ranks, "depth", None)
        ranked = Answered(answer.ranks, protocol.clusters, protocol.slices, protocol.labels, depth)
        values = tuple(value for each in additional for value in ranked.values(each))
    for note in score.notes:
        say(note)
    run = keep(score, given, asked, entry, protocol, baselines) if kept else None
    if run is not None and additional:
        run = keep_additional(run, additional, protocol)
    return _Found(score, entry, protocol, run, baselines, additional, values)


def _submit(run: Run, protocol: EvaluationProtocol) -> None:
    """Write what the test server takes, and say on stderr where it goes."""
    from cirbench.submissions.uploads import build_submission, upload_hint

    for path in build_submission(run, Path("submissions"), protocol=protocol):
        say(f"to submit: {typed(path)}")
    say(upload_hint(run.result.protocol.name.partition("/")[0]))


def _print_beside(run: Run, baselines: tuple[Run, ...], *, wide: bool) -> None:
    from cirbench.comparison.report import Report

    Report((*baselines, run), (run.result.method.name,)).print(wide=wide)


def _scores_as_json(found: _Found) -> str:
    from msgspec import to_builtins

    from cirbench.runs.schema import in_percent

    score, entry, run = found.score, found.entry, found.run
    protocol, best = score.protocol, score.ceilings if score.measurements else {}
    content = {
        "schema_version": 1,
        "protocol": {"name": protocol.name, "digest": protocol.digest, "fields": dict(protocol.fields)},
        "queries": len(protocol.queries),
        "queries_expected": _expected(entry.queries, len(protocol.queries)),
        "gallery": None if protocol.gallery is None else len(protocol.gallery),
        "gallery_expected": entry.gallery
        if protocol.gallery is None
        else _expected(entry.gallery, len(protocol.gallery)),
        "tied_relevant": score.tied_relevant,
        "unit": "%",
        "metrics": [
            {**in_percent(measured, interval), "at_most": 100 * best[measured.label]}
            for measured, interval in zip(score.measurements, score.intervals, strict=True)
        ],
        "additional": to_builtins(found.additional),
        "not_measured": [str(measure) for measure in score.not_measured],
        "notes": list(score.notes),
        "run": None if run is None else str(run.folder),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _print(score: Score, entry: ProtocolEntry, run: Run | None, *, wide: bool) -> None:
    from cirbench.support.tables import Column, Number, Table

    best = score.ceilings if score.measurements else {}
    limited = any(value < 1 for value in best.values())
    columns = (
        Column("metric", "metric"),
        Column("value", "%"),
        Column("interval", "95 % interval"),
        Column("queries", "queries", optional=2),
        *((Column("at_most", "at most", optional=1),) if limited else ()),
    )
    rows = tuple(
        (
            measured.label,
            Number(100 * measured.value, digits=4),
            f"{100 * interval.low:.4f} to {100 * interval.high:.4f}",
            Number(measured.count, digits=0),
            *((Number(100 * best[measured.label]),) if limited else ()),
        )
        for measured, interval in zip(score.measurements, score.intervals, strict=True)
    )
    if rows:
        print_table(Table(_title(score, entry), columns, rows, notes=tuple(_notes(score))), wide=wide)
    else:
        name = score.protocol.name
        print_lines([_title(score, entry), f"The ground truths of {name} are not available: rankings, and no numbers."])
    if run is not None:
        print_lines([f"Run {run.folder}{', as before' if run.reused else ''}"])


def _title(score: Score, entry: ProtocolEntry) -> str:
    protocol = score.protocol
    gallery = "gallery not available: ids not checked against it"
    if protocol.gallery is not None:
        expected = _expected(entry.gallery, len(protocol.gallery))
        gallery = f"gallery {len(protocol.gallery)}/{expected}"
        if len(protocol.gallery) != expected:
            gallery += " · PARTIAL"
    queries = f"queries {len(protocol.queries)}/{_expected(entry.queries, len(protocol.queries))}"
    return f"{protocol.name} ({protocol.digest[:8]}) · {queries}, {gallery}"


def _expected(published: int | None, counted: int) -> int:
    """The published count; where that is not known, what the files hold is what they should hold."""
    return counted if published is None else published


def _notes(score: Score) -> list[str]:
    lines = ["Intervals: 95 %; queries that share an image do not count as independent."]
    if score.tied_relevant:
        lines.append(f"{score.tied_relevant} ground truths share their exact score with another candidate.")
    if score.not_measured:
        whole = [str(measure) for measure in score.not_measured if measure.k == NO_CUTOFF]
        groups = [str(measure) for measure in score.not_measured if measure.k != NO_CUTOFF]
        if groups:
            lines.append(f"Not measured, since these predictions do not rank the groups: {', '.join(groups)}.")
        if whole:
            lines.append(f"Not measured, since it needs the full ranking: {', '.join(whole)}.")
    return lines


_SHOWN = 20
_DATA_ROOT = click.option("--data-root", type=_FILE, help="Folder of the annotations.  [default: CIRBENCH_DATA]")


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
@_given_options
@click.option(
    "-o", "--output", type=_FILE, default=Path("submissions"), show_default=True, help="Folder to write the files to."
)
@JSON
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
    from cirbench.submissions.check import protocol_loader
    from cirbench.submissions.form import protocols_with_form
    from cirbench.submissions.uploads import build_submission, manifest_path, upload_hint

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
        found = _score_given(given)
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
@JSON
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
        click.echo(json.dumps({"schema_version": 1, "files": [_check_as_dict(report) for report in reports]}, indent=2))
    else:
        for report in reports:
            print_lines(_check_lines(report))
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
@JSON
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

    from cirbench.submissions.check import check_file, protocol_loader
    from cirbench.submissions.form import form_of
    from cirbench.submissions.uploads import parse_scores, record_answer

    report = check_file(file, protocol_loader(data_root), protocol)
    report.require()
    if report.protocol is None or report.protocol != form_of(report.protocol).protocols[0]:
        split = str(report.protocol).partition("/")[2]
        raise UsageError(f"{file} is of {split}, which no server scores.", hint="`cirbench score` measures it.")
    day = (date or datetime.datetime.now(datetime.UTC)).date()
    path = record_answer(file, report.protocol, parse_scores(scores, report.protocol), day)
    click.echo(path.read_text().rstrip() if as_json else path)


def _check_lines(report: SubmissionCheck) -> list[str]:
    what = " ".join(filter(None, (report.protocol, report.metric))) or "unknown"
    verdict = "ok" if report.ok else f"{len(report.problems)} broken rules"
    lines = [f"{report.path}: {what}, {report.queries} queries: {verdict}"]
    lines += [f"  {problem}" for problem in report.problems[:_SHOWN]]
    if len(report.problems) > _SHOWN:
        lines.append(f"  and {len(report.problems) - _SHOWN} more; --json lists all of them")
    return [*lines, *(f"  note: {note}" for note in report.notes)]


def _check_as_dict(report: SubmissionCheck) -> dict[str, object]:
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
