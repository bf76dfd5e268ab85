"""The files that a test server takes, built from a run; the manifest of their origin, and the receipt of the answer.

Next to ``pli-1a2b3c4d.json`` there is ``pli-1a2b3c4d.manifest.json``, which names the run, and, once the server has
answered, ``pli-1a2b3c4d.receipt.json``. Both hold the sha256 of the file that they are about, so that a change of it is
noticed.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import msgspec

from cirbench.benchmarks.catalogue import find_protocol
from cirbench.errors import CheckFailed, UnknownName, UsageError
from cirbench.runs.predictions.lists import parse_json, read_rankings
from cirbench.submissions.check import check_values, protocol_loader
from cirbench.submissions.form import encode, form_of, server_of
from cirbench.support.files import read_versioned, sha256_of_file, write_bytes, write_versioned

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run
    from cirbench.submissions.form import ServerForm


SCHEMA_VERSION = 1
MANIFEST, RECEIPT = ".manifest.json", ".receipt.json"

RECEIPT_LIMIT = 64 << 10
"""Bytes; a receipt is far smaller."""

_AWAY = "Move it away."


class Versioned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of this package."""

    schema_version: int = SCHEMA_VERSION


class Manifest(Versioned, frozen=True, kw_only=True):
    """Where the files of a submission came from.

    Attributes:
        protocol: Id and version.
        protocol_digest: Of everything that fixes a number.
        run: The run folder.
        run_digest: Of its configuration.
        method: Its name.
        parameters: Of the method.
        backbone: As asked for.
        backbone_digest: By content.
        checkpoint: Sha256 of trained weights.
        uses_shared_concept: Disclosure of the method.
        uses_llm: Disclosure of the method.
        cirbench: Version that made the run.
        created: When the run was made.
        files: Sha256 of each file to upload.
        upload: Where.
        answers: What the server answers.
    """

    protocol: str
    protocol_digest: str
    run: str
    run_digest: str
    method: str
    parameters: dict[str, str | int | float | bool | list[str | int | float] | None]
    backbone: str
    backbone_digest: str
    checkpoint: str | None
    uses_shared_concept: str
    uses_llm: str
    cirbench: str
    created: str
    files: dict[str, str]
    upload: str
    answers: str


class Receipt(Versioned, frozen=True, kw_only=True):
    """What a server answered.

    Attributes:
        protocol: What was scored.
        file: The name of the submission.
        sha256: Of the submission.
        scores: In percent, by the labels that `cirbench run` uses.
        date: Of the answer, ISO 8601.
        run_digest: Of the run that the submission came from; ``None`` where no manifest says so.
    """

    protocol: str
    file: str
    sha256: str
    scores: dict[str, float]
    date: str
    run_digest: str | None = None


def upload_hint(dataset: str) -> str:
    """Say in one line where the files of a data set go, and what the server answers."""
    server = server_of(dataset)
    assert server is not None
    return f"Upload at {server.upload}; the server answers {server.answers}."


def build_submission(run: Run, output: Path, *, protocol: EvaluationProtocol | None = None) -> tuple[Path, ...]:
    """Write the files to upload, one for CIRCO and two for CIRR, and a manifest next to them.

    They are in ``output/<dataset>/``, named after the method and the digest of the run. Nothing is written unless every
    rule of the server holds.

    Args:
        run: A whole run on a split whose labels a server keeps.
        output: The folder of all submissions.
        protocol: What the run was made on, to check the files against; loaded if its annotations are available.

    Returns:
        The files to upload; `manifest_of` finds their manifest.

    Raises:
        UsageError: The labels of the run's protocol are public: there is no server to ask.
        CheckFailed: The run is partial, or was made on other annotations, or a rule of the server is broken.
    """
    record = run.result.protocol
    name = record.name.partition("@")[0]
    entry = find_protocol(name)
    server = None if entry is None or entry.labelled else server_of(entry.dataset)
    if entry is None or server is None or name not in server.protocols:
        raise UsageError(
            f"{run.folder} is a run on {record.name}, which no server scores.",
            hint="Runs on circo/test and cirr/test1 are submitted; other numbers are in the run itself.",
        )
    counts = run.result.counts
    if counts.partial:
        raise CheckFailed(
            f"{run.folder} is a partial run (queries {counts.queries}/{counts.queries_expected}, gallery "
            f"{counts.gallery}/{counts.gallery_expected}), and a server takes whole ones only.",
            hint="Run it again without --limit, on all images.",
        )
    known = protocol if protocol is not None else protocol_loader(None)(name)
    if known is not None and known.gallery is not None and known.digest != record.digest:
        raise CheckFailed(
            f"{run.folder} was made on {record.name} ({record.digest[:8]}), and the available annotations make it "
            f"{known.name} ({known.digest[:8]}).",
            hint="Point CIRBENCH_DATA at the annotations of the run, or run it again.",
        )
    folder, stem = output / entry.dataset, f"{run.result.method.name}-{run.result.digest[:8]}"
    lists = read_rankings(run.folder / "predictions.jsonl")
    if server.needs_groups and not lists.group_rankings:
        raise CheckFailed(
            f"{run.folder} does not rank the groups of its queries, and the server takes {len(server.parts)} files, "
            f"{' and '.join(server.parts)}.",
            hint="Score lists that hold at least three members of each group, lines with group_ranking, or the second "
            "file of the server as well (docs/predictions.md).",
        )
    contents = {f"{stem}.{ending}": values for ending, values in server.files(lists).items()}
    encoded = {file: encode(values) for file, values in contents.items()}
    for file, values in contents.items():
        check_values(folder / file, values, len(encoded[file]), lambda _: known, name).require()
    for file, content in encoded.items():
        write_bytes(folder / file, content)
    paths = tuple(folder / file for file in contents)
    write_versioned(folder / f"{stem}{MANIFEST}", _manifest(run, paths, server))
    return paths


def _manifest(run: Run, paths: tuple[Path, ...], server: ServerForm) -> Manifest:
    result = run.result
    return Manifest(
        protocol=result.protocol.name,
        protocol_digest=result.protocol.digest,
        run=str(run.folder),
        run_digest=result.digest,
        method=result.method.name,
        parameters=result.method.parameters,
        backbone=result.backbone.name,
        backbone_digest=result.backbone.digest,
        checkpoint=result.method.checkpoint,
        uses_shared_concept=result.method.uses_shared_concept,
        uses_llm=result.method.uses_llm,
        cirbench=result.environment.cirbench,
        created=result.created,
        files={path.name: sha256_of_file(path) for path in paths},
        upload=server.upload,
        answers=server.answers,
    )


def manifest_path(submission: Path) -> Path:
    """Return the path of the manifest of a submission; CIRR's two files share one."""
    stem = submission.stem.removesuffix(".recall").removesuffix(".recall_subset")
    return submission.with_name(f"{stem}{MANIFEST}")


def manifest_of(submission: Path) -> Manifest | None:
    """Return the manifest next to a submission that names it, or ``None``.

    Raises:
        CorruptFile: The manifest is damaged.
    """
    path = manifest_path(submission)
    manifest = read_versioned(path, Manifest, version=SCHEMA_VERSION, hint=_AWAY) if path.exists() else None
    return manifest if manifest is not None and submission.name in manifest.files else None


def receipt_path(submission: Path) -> Path:
    """Return the path of the receipt of a submission."""
    return submission.with_name(f"{submission.stem}{RECEIPT}")


def record_answer(submission: Path, protocol: str, scores: Mapping[str, float], date: datetime.date) -> Path:
    """Store a server's answer next to the file that it is about; return the receipt.

    Args:
        submission: The file that was uploaded.
        protocol: What the server scored.
        scores: In percent; see `parse_scores`.
        date: Of the answer.

    Raises:
        CheckFailed: The file is not the one that was built, or not the one of the receipt that is there already.
        CorruptFile: The manifest or the receipt is damaged.
    """
    sha256 = sha256_of_file(submission)
    manifest = manifest_of(submission)
    if manifest is not None and manifest.files[submission.name] != sha256:
        raise CheckFailed(
            f"{submission} is not the file that was built from {manifest.run}: it has changed since.",
            hint="Build it again with `cirbench submit build`, and record the answer to that file.",
        )
    if receipt_path(submission).exists():
        read_receipt(submission)
    run = None if manifest is None else manifest.run_digest
    answer = Receipt(
        protocol=protocol,
        file=submission.name,
        sha256=sha256,
        scores=dict(scores),
        date=date.isoformat(),
        run_digest=run,
    )
    write_versioned(receipt_path(submission), answer)
    return receipt_path(submission)


def read_receipt(submission: Path) -> Receipt:
    """Read the receipt of a submission.

    Raises:
        MissingData: There is none.
        CheckFailed: The submission has changed since.
        CorruptFile: The receipt is damaged, or was written by a newer version.
    """
    receipt = parse_receipt(receipt_path(submission))
    if receipt.sha256 != sha256_of_file(submission):
        raise CheckFailed(
            f"{submission} has changed since the server's answer of {receipt.date} was recorded.",
            hint=f"Put the old file back, or move {receipt_path(submission)} away.",
        )
    return receipt


def parse_receipt(path: Path) -> Receipt:
    """Read a receipt by its own path, wherever the submission is.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged, too large, or was written by a newer version.
    """
    return read_versioned(path, Receipt, version=SCHEMA_VERSION, limit=RECEIPT_LIMIT, hint=_AWAY)


def parse_scores(text: str, protocol: str) -> dict[str, float]:
    """Read a server's scores: ``mAP@5=12.3,mAP@10=11.9``, or a JSON object; in percent.

    Names are known in any case, and an aspect of CIRCO by itself: ``cardinality=10.1``.

    Raises:
        UsageError: A score is not a percentage, or is given twice, or there is none.
        UnknownName: The protocol has no such score.
    """
    labels = {label.lower(): label for label in score_labels(protocol)}
    labels |= form_of(protocol).aliases
    scores: dict[str, float] = {}
    for name, value in _pairs(text):
        label = labels.get(name.strip().lower())
        if label is None:
            raise UnknownName(f"score of {protocol}", name, score_labels(protocol))
        if label in scores:
            raise UsageError(f"The score {label} is given twice.")
        scores[label] = _percent(label, value)
    if not scores:
        raise UsageError("No score is given.", hint="Give --scores 'mAP@5=12.3,mAP@10=11.9', or a JSON object.")
    return scores


def score_labels(protocol: str) -> tuple[str, ...]:
    """Return the labels under which the server of a protocol reports."""
    return form_of(protocol).labels


def _pairs(text: str) -> list[tuple[str, object]]:
    if text.lstrip().startswith("{"):
        return list(parse_json("--scores", text).items())
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if odd := next((part for part in parts if "=" not in part), None):
        raise UsageError(f"{odd!r} is not a valid score.", hint="Scores look like mAP@5=12.3,mAP@10=11.9.")
    # The label of a slice holds a sign of its own: mAP@10[aspect=negation]=6.5.
    return [(name, value) for name, _, value in (part.rpartition("=") for part in parts)]


def _percent(label: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:
        raise UsageError(f"The score {label} is {json.dumps(value)}, and must be a number of percent, from 0 to 100.")
    return number
