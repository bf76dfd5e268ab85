"""A run on disk: ``result.json`` and the evidence beside it.

``result.json`` is written last and names the sha256 of every other file, so a folder that has one is whole, and a
folder that was touched since is noticed.

    result.json         numbers, intervals, identities; see `cirbench.runs.schema`
    per_query.npz       per query: top ids as positions, scores, exact ranks of the ground truths, metric values
    predictions.jsonl   per query: the top ids
    run.trec            the same as a TREC run
    qrels.trec          the ground truths, where they are public
    config.toml         what to pass to ``cirbench run --config`` to do it again
    identity.json       what the digest of the run is over, with a digest of each module of code; see `Identity`
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.support.arrays import read_archive, to_archive
from cirbench.support.arrays import Ragged
from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError
from cirbench.support.files import sha256_of_file, write_bytes, write_json, write_text
from cirbench.runs.identity import IDENTITY, Identity
from cirbench.runs.predictions.write import write_jsonl, write_qrels, write_trec
from cirbench.runs.schema import MIGRATIONS
from cirbench.runs.schema import SCHEMA_VERSION, Result
from cirbench.support.files import read_versioned, write_versioned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.methods.evaluate import Evaluation

RESULT = "result.json"
PER_QUERY = "per_query.npz"
CONFIG = "config.toml"


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        result: What it found.
        values: Per metric label, one fraction per query; NaN where the metric does not apply to the query.
        clusters: Per query, the name of its cluster; queries of one cluster are not independent.
        query_ids: The queries, in order.
        ranks: Per query, the exact 1-based rank of each ground truth, the target first.
        reused: Whether it was finished before it was asked for.
    """

    folder: Path
    result: Result
    values: Mapping[str, NDArray[np.float64]]
    clusters: tuple[str, ...]
    query_ids: tuple[str, ...]
    ranks: Ragged[np.int64]
    reused: bool = False


def save_run(
    folder: Path,
    result: Result,
    evaluation: Evaluation,
    protocol: EvaluationProtocol,
    configuration: str,
    *,
    identity: Identity | None = None,
) -> Run:
    """Write a run and read it back.

    Raises:
        CirbenchError: The folder cannot be written, or the disk is full.
    """
    write_bytes(folder / PER_QUERY, _per_query(evaluation, protocol))
    write_jsonl(folder / "predictions.jsonl", protocol, evaluation.ranking)
    write_trec(folder / "run.trec", protocol, evaluation.ranking)
    if protocol.labels is not None:
        write_qrels(folder / "qrels.trec", protocol)
    write_text(folder / CONFIG, configuration)
    if identity is not None:
        write_json(folder / IDENTITY, msgspec.to_builtins(identity))
    files = {
        path.name: sha256_of_file(path)
        for path in sorted(folder.iterdir())
        if path.name != RESULT and not path.name.startswith(".")
    }
    write_versioned(folder / RESULT, msgspec.structs.replace(result, files=files))
    return load_run(folder)


def load_run(folder: Path) -> Run:
    """Read a run and check that its files are the ones it was written with.

    Raises:
        MissingData: There is no finished run in ``folder``.
        CorruptFile: A file is damaged, changed or missing, or was written by a newer version.
    """
    again = "Run it again with --force to replace it."
    if not (folder / RESULT).is_file():
        raise MissingData(f"There is no finished run in {folder}.", hint="See `cirbench list runs`.")
    result = read_versioned(folder / RESULT, Result, version=SCHEMA_VERSION, migrations=MIGRATIONS, hint=again)
    for name, expected in result.files.items():
        path = folder / name
        if path.name != name or not path.is_file() or sha256_of_file(path) != expected:
            raise CorruptFile(f"{path} is missing or is not the file this run was written with.", hint=again)
    arrays = read_archive(folder / PER_QUERY, hint=again)
    labels = [str(label) for label in arrays["labels"]]
    values = dict(zip(labels, arrays["values_MQ"], strict=True))
    clusters = tuple(arrays["clusters"].tolist())
    ranks = Ragged(arrays["relevant_ranks"], arrays["relevant_offsets"])
    return Run(folder, result, values, clusters, tuple(arrays["query_ids"].tolist()), ranks)


def _per_query(evaluation: Evaluation, protocol: EvaluationProtocol) -> bytes:
    ranking = evaluation.ranking
    clusters = protocol.clusters or tuple(query.id for query in protocol.queries)
    arrays: dict[str, Any] = {
        "query_ids": np.array([query.id for query in protocol.queries]),
        "clusters": np.array(clusters),
        "labels": np.array([measurement.label for measurement in evaluation.measurements], dtype=np.str_),
        "values_MQ": np.array([measurement.values_Q for measurement in evaluation.measurements], dtype=np.float64),
        "top_QK": ranking.top_QK.astype(np.int32),
        "scores_QK": ranking.scores_QK,
        "relevant_ranks": ranking.relevant_ranks.values,
        "relevant_ties": ranking.relevant_ties.values,
        "relevant_offsets": ranking.relevant_ranks.offsets,
    }
    if ranking.group_ranks_Q is not None:
        arrays["group_ranks_Q"] = ranking.group_ranks_Q
    return to_archive(arrays)


def choose_label(runs: Sequence[Run], label: str | None) -> str:
    """Return the number to compare runs on: the given one, or the headline.

    Raises:
        UnknownName: A run does not report it; the nearest ones are named.
        UsageError: A run has no numbers, because its ground truths are not available.
    """
    for run in runs:
        if not run.result.metrics:
            raise UsageError(
                f"{run.folder} has no numbers: the ground truths of {run.result.protocol.name} are not available.",
                hint="Its files for the test server: cirbench submit build.",
            )
    label = label or runs[0].result.metrics[0].label
    for run in runs:
        if label not in run.values:
            raise UnknownName(f"metric of {run.folder}", label, run.values)
    return label
