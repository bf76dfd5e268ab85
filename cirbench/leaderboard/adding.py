"""Make an entry of a run: what is published of it, and the ranks that its numbers follow from."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec

from cirbench.archives import read_archive
from cirbench.datasets.catalogue import choose_protocol, load_protocol
from cirbench.errors import CheckFailed, UsageError
from cirbench.files import write_bytes
from cirbench.leaderboard.check import check_entry
from cirbench.leaderboard.commands import commands, portable, portable_method
from cirbench.leaderboard.entry import ENTRY, RANKS, Entry, Score, entry_id, sealed
from cirbench.leaderboard.evidence import MOST_STORED, pack
from cirbench.leaderboard.known import known_protocols, let_in
from cirbench.results.config import read_config
from cirbench.results.folder import CONFIG, PER_QUERY, load_run
from cirbench.submissions.receipts import parse_receipt
from cirbench.versioned import write_versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.datasets.protocol import EvaluationProtocol
    from cirbench.results.config import RunConfig
    from cirbench.results.folder import Run
    from cirbench.results.schema import Result
    from cirbench.submissions.receipts import Receipt


def add_run(
    folder: Path,
    entries: Path,
    *,
    note: str = "",
    receipts: Sequence[Path] = (),
    data_root: Path | None = None,
) -> Path:
    """Make an entry of a run and check it; one of the same run is replaced.

    Args:
        folder: The run.
        entries: Where entries lie.
        note: What to say beside the numbers.
        receipts: The answers of a test server, for a run on hidden labels.
        data_root: Where annotations are, if not where the run found them.

    Returns:
        The folder of the entry.

    Raises:
        MissingData: There is no such run, or the annotations are not at hand.
        UsageError: Labels are hidden and there is no receipt, or the other way round.
        CheckFailed: The entry would not hold; nothing was written.
    """
    run = load_run(folder)
    config = read_config(folder / CONFIG, {})
    protocol = _protocol(run.result, config, data_root)
    answers = [parse_receipt(path) for path in receipts]
    if run.result.metrics and answers:
        raise UsageError(f"{folder} was measured here, so it needs no receipt.", hint="Leave --receipt out.")
    if not run.result.metrics and not answers:
        raise UsageError(
            f"The labels of {run.result.protocol.name} are hidden, so {folder} has no numbers of its own.",
            hint="Add it with the server's answer: --receipt submissions/.../NAME.receipt.json "
            "(`cirbench submit record` writes it).",
        )
    files = _receipts(answers) if answers else {RANKS: _ranks(run, protocol)}
    return _keep(_entry(run, config, files, answers, note), files, entries)


def _protocol(result: Result, config: RunConfig, data_root: Path | None) -> EvaluationProtocol:
    """The part of the protocol that the run was evaluated on, which must be the one that lies here."""
    root = data_root or (None if config.data_root is None else Path(config.data_root))
    chosen = choose_protocol(config.dataset, protocol=config.protocol)
    protocol = load_protocol(chosen.address, root)
    if protocol.digest != result.protocol.digest:
        named = [name for name, value in protocol.fields.items() if result.protocol.fields.get(name) != value]
        raise CheckFailed(
            f"The run was made on {result.protocol.name} with other {', '.join(named)} than the data here have.",
            hint="Run it again on these data, or give --data-root.",
        )
    return protocol if config.limit is None else protocol.first(config.limit)


def _entry(run: Run, config: RunConfig, files: dict[str, bytes], answers: Sequence[Receipt], note: str) -> Entry:
    result = run.result
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    scores = [
        Score(label=each.label, value=each.value, low=each.low, high=each.high, n=each.n) for each in result.metrics
    ]
    scores += [Score(label=label, value=value) for answer in answers for label, value in answer.scores.items()]
    return sealed(
        Entry(
            id=entry_id(result.protocol.name, result.method.name, result.digest),
            run=result.digest,
            method=portable_method(result.method),
            protocol=result.protocol,
            backbone=msgspec.structs.replace(result.backbone, name=portable(result.backbone.name)),
            counts=result.counts,
            metrics=tuple(scores),
            seed=result.seed,
            commands=commands(result, config),
            environment=msgspec.structs.replace(result.environment, command=None),
            created=result.created,
            lost=tuple(result.lost),
            ranks=digests.get(RANKS),
            ranks_stored=len(files.get(RANKS, b"")) <= MOST_STORED and RANKS in files,
            receipts={name: digest for name, digest in digests.items() if name != RANKS},
            note=note,
        )
    )


def _keep(entry: Entry, files: dict[str, bytes], entries: Path) -> Path:
    """Write an entry under a hidden name, check it there, and let it take its place."""
    known = known_protocols(entries)
    protocol = entry.protocol
    draft = entries / f".{entry.id}" / entry.id
    try:
        for name, content in files.items():
            if name != RANKS or entry.ranks_stored:
                write_bytes(draft / name, content)
        write_versioned(draft / ENTRY, entry)
        check_entry(draft, {protocol.name: protocol.digest, **known}).require()
        if protocol.name not in known:
            let_in(entries, protocol.name, protocol.digest)
        final = entries / entry.id
        if final.exists():
            shutil.rmtree(final)
        draft.rename(final)
    finally:
        shutil.rmtree(draft.parent, ignore_errors=True)
    return final


def _ranks(run: Run, protocol: EvaluationProtocol) -> bytes:
    return pack(read_archive(run.folder / PER_QUERY), protocol)


def _receipts(answers: Sequence[Receipt]) -> dict[str, bytes]:
    files = {}
    for answer in answers:
        kind = PurePath(answer.file).stem.rpartition(".")[2] if "." in PurePath(answer.file).stem else "server"
        files[f"receipt-{kind}.json"] = msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n"
    return files
