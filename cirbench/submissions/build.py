"""From a run to the files that a test server takes, checked, with a manifest that names the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import find_protocol
from cirbench.errors import CheckFailed, UsageError
from cirbench.runs.predictions.lists import read_rankings
from cirbench.submissions import receipts
from cirbench.submissions.check import check_values, protocol_loader
from cirbench.submissions.form import encode, server_of
from cirbench.submissions.receipts import Manifest
from cirbench.support.files import sha256_of_file, write_bytes, write_versioned

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.folder import Run
    from cirbench.submissions.form import ServerForm


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
        The files to upload; `cirbench.submissions.receipts.manifest_of` finds their manifest.

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
    write_versioned(folder / f"{stem}{receipts.MANIFEST}", _manifest(run, paths, server))
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
