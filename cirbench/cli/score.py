"""``cirbench score``: score given rankings or features under a protocol, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.benchmarks import choose_protocol, load_protocol
from cirbench.cli import WIDE
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.benchmarks import ProtocolEntry
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.lists import Column
    from cirbench.runs.predictions.score import Score

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("-d", "--dataset", required=True, help="Data set: a name, or a folder with your own.")
@click.option("--split", help="Split of the data set.  [default: that of the data set]")
@click.option("--protocol", "protocol_id", help="Protocol id.  [default: that of the split]")
@click.option("--predictions", type=_FILE, help="Ranked lists: the CIRCO server's JSON, JSON lines, or a TREC run.")
@click.option(
    "--trust",
    type=click.Choice(["ranks", "scores"]),
    help="Column that orders a TREC run whose ranks contradict its scores.",
)
@click.option("--features", type=(_FILE, _FILE), metavar="QUERIES GALLERY", help="Features to rank: two .npy files.")
@click.option("--query-ids", type=_FILE, help="Query id of each row of --features.")
@click.option("--gallery-ids", type=_FILE, help="Gallery id of each row of --features.")
@click.option("--data-root", type=_FILE, help="Folder of the annotations.  [default: CIRBENCH_DATA]")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON on stdout, and nothing else.")
@WIDE
def score_command(
    dataset: str,
    split: str | None,
    protocol_id: str | None,
    predictions: Path | None,
    trust: Column | None,
    features: tuple[Path, Path] | None,
    query_ids: Path | None,
    gallery_ids: Path | None,
    data_root: Path | None,
    as_json: bool,
    wide: bool,
) -> None:
    """Score anyone's ranked lists, or features, by a benchmark's exact protocol.

    \b
    cirbench score --dataset circo --split val --predictions ranked.json
    cirbench score --dataset circo --features queries.npy gallery.npy \
        --query-ids queries.txt --gallery-ids gallery.txt
    """
    if (predictions is None) == (features is None):
        raise UsageError("Give either --predictions or --features.", hint="See `cirbench score --help`.")
    if trust is not None and predictions is None:
        raise UsageError("--trust goes with --predictions.", hint="See `cirbench score --help`.")
    if (features is None) != (query_ids is None) or (features is None) != (gallery_ids is None):
        raise UsageError(
            "--features, --query-ids and --gallery-ids belong together.",
            hint="The ids say what the rows are: one id per line, a JSON list, or another form of docs/predictions.md.",
        )
    entry = choose_protocol(dataset, split=split, protocol=protocol_id)
    score = _score(load_protocol(entry.address, data_root), predictions, trust, features, query_ids, gallery_ids)
    if as_json:
        click.echo(_as_json(score, entry))
    else:
        _print(score, entry, wide=wide)


def _score(
    protocol: EvaluationProtocol,
    predictions: Path | None,
    trust: Column | None,
    features: tuple[Path, Path] | None,
    query_ids: Path | None,
    gallery_ids: Path | None,
) -> Score:
    from cirbench.runs.predictions.lists import read_rankings
    from cirbench.runs.predictions.score import FeatureFiles, require_labels, score_features, score_lists

    require_labels(protocol)
    if predictions is not None:
        return score_lists(read_rankings(predictions, trust=trust), protocol)
    assert features is not None
    assert query_ids is not None
    assert gallery_ids is not None
    queries, gallery = features
    return score_features(FeatureFiles(queries, query_ids), FeatureFiles(gallery, gallery_ids), protocol)


def _as_json(score: Score, entry: ProtocolEntry) -> str:
    import json

    protocol, best = score.protocol, score.ceilings
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
        "not_measured": [str(measure) for measure in score.not_measured],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _print(score: Score, entry: ProtocolEntry, *, wide: bool) -> None:
    from cirbench.support.console import print_table
    from cirbench.support.tables import Column, Number, Table

    best = score.ceilings
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
    print_table(Table(_title(score, entry), columns, rows, notes=tuple(_notes(score))), wide=wide)


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
        names = ", ".join(str(measure) for measure in score.not_measured)
        lines.append(f"Not measured, since these predictions do not rank the groups: {names}.")
    return lines
