"""``cirbench score``: score given rankings or features under a protocol, without torch, and keep them as a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click

from cirbench.benchmarks import choose_protocol, load_protocol
from cirbench.cli import BY, METRIC, WIDE
from cirbench.errors import UsageError
from cirbench.methods.interface import Disclosure, Supervision
from cirbench.metrics.table import NO_CUTOFF
from cirbench.support.console import print_lines, print_table, say, typed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.benchmarks import ProtocolEntry
    from cirbench.metrics import Measure
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run
    from cirbench.runs.predictions.score import Score
    from cirbench.runs.schema import AdditionalValue

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


def given_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that say what was made elsewhere, and what is declared of it."""
    for option in reversed(_GIVEN):
        command = option(command)
    return command


@click.command()
@given_options
@click.option("-o", "--output", help="Folder to keep the run in.  [default: keep none; runs where labels are hidden]")
@click.option("--config", type=_FILE, help="Read options from a TOML file; options given here win.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON on stdout, and nothing else.")
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
    found = score_given(options, config, asked, by)
    if as_json:
        click.echo(_as_json(found))
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
            submit(found.run, found.protocol)


class Found(NamedTuple):
    """What became of what was made elsewhere; ``run`` is ``None`` where none is kept."""

    score: Score
    entry: ProtocolEntry
    protocol: EvaluationProtocol
    run: Run | None
    baselines: tuple[Run, ...]
    asked: tuple[Measure, ...] = ()
    additional: tuple[AdditionalValue, ...] = ()


def score_given(
    options: dict[str, Any], config: Path | None = None, additional: tuple[Measure, ...] = (), by: str | None = None
) -> Found:
    """Score what `given_options` name, say how it was understood, and keep a run where one is asked for or needed.

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
    return Found(score, entry, protocol, run, baselines, additional, values)


def submit(run: Run, protocol: EvaluationProtocol) -> None:
    """Write what the test server takes, and say on stderr where it goes."""
    from cirbench.submissions.build import build_submission, upload_hint

    for path in build_submission(run, Path("submissions"), protocol=protocol):
        say(f"to submit: {typed(path)}")
    say(upload_hint(run.result.protocol.name.partition("/")[0]))


def _print_beside(run: Run, baselines: tuple[Run, ...], *, wide: bool) -> None:
    from cirbench.comparison.report import Report

    Report((*baselines, run), (run.result.method.name,)).print(wide=wide)


def _as_json(found: Found) -> str:
    import json

    from msgspec import to_builtins

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
            {
                "label": measured.label,
                "value": 100 * measured.value,
                "low": 100 * interval.low,
                "high": 100 * interval.high,
                "n": measured.count,
                "at_most": 100 * best[measured.label],
            }
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
